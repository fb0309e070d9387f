"""Detections that led to no track, so that what stays where it is does not keep what is new waiting."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flowpose_ros.records import Detection
from flowpose_ros.tracking.track import overlap

SAME_BOX = 0.7
"""Boxes that share more are of the same detection."""
KEPT_S = 30.0
MOST_KEPT = 100
MOST_DOUBLINGS = 3


@dataclass(frozen=True)
class _Rejected:
    label: str
    box: np.ndarray
    stamp_ns: int
    times: int


class Rejections:
    """Remembers for a while what was tried in vain; one that is seen in the same place again and again is tried ever
    more rarely. A detection elsewhere, or of a box that has changed, is new."""

    def __init__(self) -> None:
        self._rejected: list[_Rejected] = []

    def clear(self) -> None:
        """Forget all."""
        self._rejected = []

    def add(self, detection: Detection, stamp_ns: int) -> None:
        """A detection was tried in vain in a frame of that stamp, nanoseconds."""
        known = self._find(detection, stamp_ns)
        rest = [r for r in self._rejected if r is not known and abs(stamp_ns - r.stamp_ns) <= KEPT_S * 1e9]
        now = (_Rejected(detection.label, detection.box, stamp_ns, 1) if known is None else
               replace(known, box=detection.box, stamp_ns=stamp_ns, times=known.times + 1))
        self._rejected = [*rest, now][-MOST_KEPT:]

    def wait(self, detection: Detection, stamp_ns: int, first_s: float) -> bool:
        """Whether a detection is to wait: `first_s` seconds after it was first tried in vain, then twice as long each
        time, up to eight times."""
        known = self._find(detection, stamp_ns)
        return known is not None and stamp_ns - known.stamp_ns < first_s * 2 ** min(known.times - 1, MOST_DOUBLINGS) * 1e9

    def _find(self, detection: Detection, stamp_ns: int) -> _Rejected | None:
        """The same detection before this stamp; a later one is from before the stamps jumped back."""
        return next((r for r in self._rejected if r.label == detection.label
                     and 0 <= stamp_ns - r.stamp_ns <= KEPT_S * 1e9
                     and overlap(r.box, detection.box) > SAME_BOX), None)
