"""How long each stage takes."""

from __future__ import annotations

import time


class Clock:
    """Adds the time between laps to a table of stages."""

    def __init__(self, timings: dict[str, float]) -> None:
        self._timings, self._last = timings, time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap to a stage, in seconds."""
        now = time.perf_counter()
        self._timings[stage] = self._timings.get(stage, 0.0) + now - self._last
        self._last = now
