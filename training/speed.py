"""How fast samples are made and learnt from, measured where they pass."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

import torch

Batch = TypeVar("Batch")

MEASURED = 20.0
"""Seconds that a run measures: with its start this is over in its first minute."""
MUCH = 0.3
"""Waiting for samples more than this share of the time, less than 70 % of the network's speed is left."""


class Watched(Generic[Batch]):
    """Batches passed on, with the number of samples so far and the seconds that their taker waited for them.

    size: samples of a batch.
    """

    def __init__(self, batches: Iterable[Batch], size: int) -> None:
        self._batches, self._size = batches, size
        self.samples, self.waited = 0, 0.0

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self._batches)
        while True:
            begin = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.waited += time.monotonic() - begin
            self.samples += self._size
            yield batch


@dataclass(frozen=True)
class Speed:
    """Samples made and learnt from per second; waited: share of the time that went by waiting for them."""

    made: float
    learnt: float
    waited: float

    def line(self, batch: int, left: int | None, others: int = 0, remedy: str | None = None) -> str:
        """What to tell whoever watches a run.

        batch: samples of a step; left: steps to come that are like those measured, None when the clock ends the run;
        others: steps that learn by another loss, which takes another time; remedy: what helps where samples are waited
        for.
        """
        text = f"{self.made:.1f} samples/s made, {self.learnt:.1f} samples/s learnt"
        if left is not None:
            text += f"; {left} steps more like these take {timedelta(seconds=round(left * batch / self.learnt))}"
        if others:
            text += f", {others} by another loss come beside them"
        if remedy is not None and self.waited > MUCH:
            text += f"\nwaiting for samples takes {self.waited:.0%} of the time: {remedy}"
        return text


class FirstLook:
    """Measures the speed of a run once, from the end of its first step for `seconds`."""

    def __init__(self, made: Watched, learnt: Watched, seconds: float = MEASURED) -> None:
        self._made, self._learnt, self._seconds = made, learnt, seconds
        self._begin: tuple[float, ...] | None = None
        self._over = False

    def after_step(self) -> Speed | None:
        """The speed, after the step that ends the measurement; None after all others."""
        if self._over or self._begin and time.monotonic() - self._begin[0] < self._seconds:
            return None
        now = self._now()
        if self._begin is None:
            self._begin = now
            return None
        self._over = True
        passed, made, learnt, waited = (b - a for a, b in zip(self._begin, now))
        return Speed(made / passed, learnt / passed, waited / passed)

    def _now(self) -> tuple[float, ...]:
        if torch.cuda.is_initialized():  # steps that stand in its queue are not done yet
            torch.cuda.synchronize()
        return time.monotonic(), self._made.samples, self._learnt.samples, self._learnt.waited
