"""A few frames that span whatever time has passed: what a late pose is carried through to the present."""

from __future__ import annotations

import threading

from flowpose_ros.records import Frame

LIMIT = 12
"""Frames kept; with more, every second one is let go."""


class FrameTrail:
    """Keeps frames from `start` to `stop`; one thread adds, another asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: list[Frame] | None = None

    def start(self) -> None:
        """Keep the frames that come from now on."""
        with self._lock:
            self._frames = []

    def add(self, frame: Frame) -> None:
        """Keep a frame, if frames are being kept."""
        with self._lock:
            if self._frames is None:
                return
            self._frames.append(frame)
            if len(self._frames) > LIMIT:
                # From the end, so that the newest stays.
                self._frames = self._frames[::-2][::-1]

    def after(self, stamp_ns: int) -> list[Frame]:
        """The kept frames that are later than a stamp, oldest first."""
        with self._lock:
            return [frame for frame in self._frames or () if frame.stamp_ns > stamp_ns]

    def stop(self) -> None:
        """Let all frames go."""
        with self._lock:
            self._frames = None
