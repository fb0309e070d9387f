"""Says why nothing comes out, in one line that names what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping


@dataclass(frozen=True)
class InputStatus:
    """One input: its topic, whether a frame needs it, messages received, seconds since the last one
    (or since the start), and its publishers in words."""

    topic: str
    needed: bool
    received: int
    silent_s: float
    publishers: tuple[str, ...]


BUSY_PATIENCE = 4.0
"""A frame in work is given so many times the patience: several objects take a CPU many seconds."""


class Watchdog:
    """Turns a silence of `patience_s` seconds into one line for each of its causes.

    `problem` is the latest line, empty since the last result; `patience_s` may be changed. Times are seconds of
    a steady clock.
    """

    def __init__(self, patience_s: float, now: float) -> None:
        self.patience_s = patience_s
        self._last_result = now
        self._said: set[tuple] = set()
        self.problem = ""

    def result(self, now: float) -> None:
        """A result came out."""
        self._last_result, self._said, self.problem = now, set(), ""

    def complain(self, now: float, inputs: tuple[InputStatus, ...], busy: bool,
                 drops: Mapping[str, int]) -> str | None:
        """The line to log now, or None."""
        silent = now - self._last_result
        if silent < self.patience_s:
            return None
        missing = tuple(i for i in inputs if i.needed and i.silent_s >= min(self.patience_s, silent))
        if busy and not missing and silent < BUSY_PATIENCE * self.patience_s:
            return None
        cause = (tuple((i.topic, i.publishers) for i in missing), busy)
        if cause in self._said:
            return None
        self._said.add(cause)
        self.problem = f"no result for {silent:.1f} s: {_reason(missing, busy, inputs, drops)}"
        return self.problem


def _reason(missing: tuple[InputStatus, ...], busy: bool, inputs: tuple[InputStatus, ...],
            drops: Mapping[str, int]) -> str:
    if missing:
        return "; ".join(_describe(status) for status in missing)
    if busy:
        return "a frame is still being worked on"
    counts = ", ".join(f"{reason} {count}" for reason, count in drops.items()) or "none"
    topics = ", ".join(status.topic for status in inputs)
    return f"every input arrives ({topics}), but no frame came of them; dropped: {counts}"


def _describe(status: InputStatus) -> str:
    since = f"for {status.silent_s:.1f} s" if status.received else f"ever ({status.silent_s:.1f} s)"
    publishers = ", ".join(status.publishers) or "nobody publishes there"
    return f"nothing on {status.topic} {since}, publishers: {publishers}"
