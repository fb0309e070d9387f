"""Where an object is expected next: it goes on as it moves, in the camera's frame, and half as fast as it turns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial.transform import Rotation

HORIZON_S = 0.5
"""No motion is continued for longer than this, seconds."""
SMOOTHING = 0.5
"""Share of the newest difference of poses in the velocity."""
SPIN_KEPT = 0.5
"""Share of the spin that is continued: where nothing shows a turn, as about the axis of a plain mug whose handle is
hidden, an error of one frame would otherwise go on turning by itself."""


@dataclass(frozen=True)
class Motion:
    """The last known pose of an object and how it moves.

    T_cam_obj [4,4] float64 metres at stamp_ns; middle [3] the point of the object, metres, that `velocity` [3] m/s
    belongs to; spin [3] rad/s, camera axes.
    """

    T_cam_obj: np.ndarray
    stamp_ns: int
    middle: np.ndarray
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))
    spin: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def at(self, stamp_ns: int) -> np.ndarray:
        """T_cam_obj [4,4] expected at a stamp; as it was, if that is earlier than the last one."""
        ahead = min(max((stamp_ns - self.stamp_ns) * 1e-9, 0.0), HORIZON_S)
        R = Rotation.from_rotvec(SPIN_KEPT * self.spin * ahead).as_matrix() @ self.T_cam_obj[:3, :3]
        return _placed(R, self.place + self.velocity * ahead, self.middle)

    def moved(self, T_cam_obj: np.ndarray, stamp_ns: int) -> Motion:
        """The motion after the object was seen at T_cam_obj [4,4]; at rest where the time between is not known
        or longer than HORIZON_S."""
        passed = (stamp_ns - self.stamp_ns) * 1e-9
        if not 0 < passed <= HORIZON_S:
            return Motion(T_cam_obj, stamp_ns, self.middle)
        velocity = (place_of(T_cam_obj, self.middle) - self.place) / passed
        spin = Rotation.from_matrix(T_cam_obj[:3, :3] @ self.T_cam_obj[:3, :3].T).as_rotvec() / passed
        return replace(self, T_cam_obj=T_cam_obj, stamp_ns=stamp_ns,
                       velocity=(1 - SMOOTHING) * self.velocity + SMOOTHING * velocity,
                       spin=(1 - SMOOTHING) * self.spin + SMOOTHING * spin)

    @property
    def place(self) -> np.ndarray:
        """Where the middle [3] of the object was last, metres, in the camera's frame."""
        return place_of(self.T_cam_obj, self.middle)


def place_of(T_cam_obj: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Where the point `middle` [3] of an object posed at T_cam_obj [4,4] is, metres, in the camera's frame."""
    return T_cam_obj[:3, :3] @ middle + T_cam_obj[:3, 3]


def _placed(R: np.ndarray, place: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """T [4,4] with rotation R [3,3] that brings `middle` [3] to `place` [3]."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, place - R @ middle
    return T
