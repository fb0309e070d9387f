"""What memory does not suffice for, and what of it does."""

from __future__ import annotations

from collections.abc import Callable

import torch

from flowpose_ros.estimation.batches import is_memory_shortage, take
from training.pairs import PairBatch


def largest_that_fits(attempt: Callable[[PairBatch], object], batch: PairBatch, unit: int) -> int:
    """Samples of the first part of `batch`, a half, a quarter and so on in multiples of `unit`, that `attempt` has
    memory for; 0 when it has for none."""
    return largest_count(lambda count: attempt(take(batch, torch.arange(count))), len(batch.K), unit)


def largest_count(attempt: Callable[[int], object], count: int, unit: int) -> int:
    """A half of `count`, a quarter and so on in multiples of `unit`, the first that `attempt` has memory for; 0 when
    it has for none."""
    while count := count // 2 // unit * unit:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(count)
            return count
        except Exception as error:
            if not is_memory_shortage(error):
                raise
    return 0
