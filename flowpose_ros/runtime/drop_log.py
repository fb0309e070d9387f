"""Counts what was left out, by reason, and says so without flooding a log."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

REPEAT_S = 10.0
"""A reason is written out at most this often, in seconds."""


class DropLog:
    """Counts by reason, with the latest detail of each; safe to use from several threads."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._details: dict[str, str] = {}
        self._said: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def add(self, reason: str, detail: str = "", count: int = 1) -> None:
        """Count something left out; the detail is a sentence."""
        with self._lock:
            self._counts[reason] += count
            self._details[reason] = detail

    def take_over(self, counts: Mapping[str, int]) -> None:
        """Count what was counted elsewhere until now; it makes no lines."""
        with self._lock:
            for reason, count in counts.items():
                self._counts[reason] += count
                self._details.setdefault(reason, "")
                when, before = self._said.get(reason, (-REPEAT_S, 0))
                self._said[reason] = when, before + count

    def counts(self) -> dict[str, int]:
        """Totals by reason."""
        with self._lock:
            return dict(self._counts)

    def news(self, now: float) -> list[str]:
        """Lines for the reasons that have grown since they were last written; now in seconds."""
        with self._lock:
            lines = []
            for reason, total in self._counts.items():
                when, before = self._said.get(reason, (-REPEAT_S, 0))
                if total > before and now - when >= REPEAT_S:
                    self._said[reason] = (now, total)
                    lines.append(f"{reason}: {total - before} left out: {self._details[reason]}".rstrip(": "))
            return lines
