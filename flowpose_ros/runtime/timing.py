"""How long stages take and how often things happen, over the latest while."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Callable, Mapping


@dataclass(frozen=True)
class Percentiles:
    """Median and 95th percentile in seconds of `count` durations."""

    p50: float
    p95: float
    count: int


def percentiles(values: list[float]) -> Percentiles:
    """Nearest-rank percentiles of at least one duration."""
    ordered = sorted(values)
    return Percentiles(*(ordered[max(0, -(-share * len(ordered) // 100) - 1)] for share in (50, 95)),
                       len(ordered))


class StageTimes:
    """The last `window` durations of every stage; safe to use from several threads."""

    def __init__(self, window: int = 100) -> None:
        self._window = window
        self._durations: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def add(self, timings: Mapping[str, float]) -> None:
        """Take the durations of one frame: seconds by stage name."""
        with self._lock:
            for stage, seconds in timings.items():
                self._durations.setdefault(stage, deque(maxlen=self._window)).append(seconds)

    def summary(self) -> dict[str, Percentiles]:
        """Percentiles by stage, in the order in which the stages were first seen."""
        with self._lock:
            return {stage: percentiles(list(values)) for stage, values in self._durations.items()}


class Rate:
    """Events per second over the last `window_s` seconds; safe to use from several threads."""

    def __init__(self, window_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window, self._clock = window_s, clock
        self._started = clock()
        self._times: deque[float] = deque(maxlen=10_000)
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Count one event now."""
        with self._lock:
            self._times.append(self._clock())

    def hertz(self) -> float:
        """Events per second; the time since the start counts while it is shorter than the window."""
        with self._lock:
            now = self._clock()
            while self._times and self._times[0] <= now - self._window:
                self._times.popleft()
            return len(self._times) / max(1e-9, min(self._window, now - self._started))
