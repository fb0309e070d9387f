"""One object that is followed from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flowpose_ros.records import Detection, PoseEstimate
from flowpose_ros.tracking.association import pair_closest
from flowpose_ros.tracking.motion import Motion

HISTORY = 60
"""Poses kept, so that detections of an older frame find the track where it was."""


@dataclass(frozen=True)
class Track:
    """An instance with its motion and its past poses (stamp in nanoseconds, T_cam_obj [4,4]), oldest first.

    estimate: the last full estimate of it; confirmed: whether the last frame that it was looked for in shows it;
    judged_ns: stamp of the frame in which its score was last judged; estimated_ns: of that in which it was last estimated;
    retries: how often it was estimated again.
    """

    estimate: PoseEstimate
    motion: Motion
    confirmed: bool = True
    judged_ns: int = 0
    estimated_ns: int = 0
    retries: int = 0
    history: tuple[tuple[int, np.ndarray], ...] = ()

    @property
    def label(self) -> str:
        """The object's name in the catalogue."""
        return self.estimate.label

    @property
    def instance(self) -> int:
        """Its number among the tracks of that label."""
        return self.estimate.instance

    @property
    def key(self) -> tuple[str, int]:
        """Label and instance number: what no two tracks share."""
        return self.label, self.instance

    def seen(self, T_cam_obj: np.ndarray, stamp_ns: int) -> Track:
        """The track after a frame that shows it."""
        past = (*self.history, (stamp_ns, T_cam_obj))[-HISTORY:]
        return replace(self, motion=self.motion.moved(T_cam_obj, stamp_ns), confirmed=True, history=past)

    def missed(self) -> Track:
        """The track after a frame that does not show it: where it was last, at rest."""
        m = self.motion
        return replace(self, motion=Motion(m.T_cam_obj, m.stamp_ns, m.middle), confirmed=False)

    def retried(self, stamp_ns: int) -> Track:
        """The track that is estimated again in a frame."""
        return replace(self, estimated_ns=stamp_ns, retries=self.retries + 1)

    def pose_at(self, stamp_ns: int) -> np.ndarray:
        """The T_cam_obj [4,4] whose stamp is nearest."""
        return min(self.history, key=lambda past: abs(past[0] - stamp_ns))[1]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of boxes [4]."""
    side = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    shared = side.prod()
    return float(shared / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared, 1e-9))


def match_detections(detections: Sequence[Detection], boxes: Sequence[np.ndarray], labels: Sequence[str],
                     least: float) -> dict[int, int]:
    """Which detection is which of the boxes [4]: index of the detection -> index of the box, greatest overlap
    first, at least `least`, labels equal, each used once."""
    shares = ((overlap(d.box, box), i, j) for i, d in enumerate(detections)
              for j, box in enumerate(boxes) if d.label == labels[j])
    return pair_closest((-share, i, j) for share, i, j in shares if share >= least)
