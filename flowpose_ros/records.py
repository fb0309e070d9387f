"""The frozen records that stages hand each other, in the order of an image's way to a pose."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from flowpose_ros.errors import FrameError, GeometryError
from flowpose_ros.geometry.camera import check_intrinsics


@dataclass(frozen=True)
class Frame:
    """One camera image, rectified, with what is needed to interpret it.

    image [H,W,3] uint8 RGB; K [3,3] float64 pixels, integer coordinates are pixel centres;
    depth [H,W] float32 metres along z, registered to the image, 0 where invalid, or None;
    stamp_ns nanoseconds; frame_id the optical frame.
    Raises FrameError when a shape, a type or the intrinsics are unusable.
    """

    image: np.ndarray
    K: np.ndarray
    depth: np.ndarray | None = None
    stamp_ns: int = 0
    frame_id: str = "camera"

    def __post_init__(self) -> None:
        image = self.image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise FrameError(f"image: expected a non-empty [H,W,3] uint8 array, "
                             f"got {list(image.shape)} {image.dtype}")
        try:
            check_intrinsics(self.K, image.shape[1], image.shape[0], window=True)
        except GeometryError as error:
            raise FrameError(str(error)) from error
        if self.depth is not None and self.depth.shape != image.shape[:2]:
            raise FrameError(f"depth: expected the image's size {list(image.shape[:2])}, "
                             f"got {list(self.depth.shape)}")


@dataclass(frozen=True)
class Detection:
    """One object seen in a frame by a 2D detector.

    label: name in the catalogue; box [4] float64 (left, top, right, bottom) in pixels;
    score in [0,1]; mask [H,W] bool over the whole image, or None;
    instance: the detector's own id of the instance, or None.
    """

    label: str
    box: np.ndarray
    score: float = 1.0
    mask: np.ndarray | None = None
    instance: int | None = None


@dataclass(frozen=True)
class PoseEstimate:
    """The answer for one detection.

    T_cam_obj [4,4] float64, metres, places the mesh file's own origin; score in [0,1], the probability that it is right
    (of a track, when it was judged last); covariance [6,6] of (translation, rotation vector) in the camera's axes, m^2
    and rad^2, rotation about the object's origin (the order of geometry_msgs).
    """

    label: str
    instance: int
    T_cam_obj: np.ndarray
    score: float
    covariance: np.ndarray
    detection: Detection


@dataclass(frozen=True)
class Dropped:
    """A detection that got no pose, and why (`reason` is a short fixed word, `detail` a sentence that
    names the object)."""

    detection: Detection
    reason: str
    detail: str


@dataclass(frozen=True)
class FrameResult:
    """All answers for one frame; timings maps a stage's name to its seconds."""

    estimates: tuple[PoseEstimate, ...]
    dropped: tuple[Dropped, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)
