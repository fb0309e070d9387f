"""A batch for which memory does not suffice, and one for which it does."""

from __future__ import annotations

from collections.abc import Callable

import torch

from flowpose_ros.estimation.batches import is_memory_shortage, take
from training.pairs import PairBatch


def largest_that_fits(attempt: Callable[[PairBatch], object], batch: PairBatch, unit: int) -> int:
    """Samples of the first part of `batch`, a half, a quarter and so on in multiples of `unit`, that `attempt` has
    memory for; 0 when it has for none."""
    count = len(batch.K)
    while count := count // 2 // unit * unit:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(take(batch, torch.arange(count)))
            return count
        except Exception as error:
            if not is_memory_shortage(error):
                raise
    return 0
