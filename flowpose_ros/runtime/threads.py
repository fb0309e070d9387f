"""How many threads of a CPU the networks get."""

from __future__ import annotations

import torch

ALL = torch.get_num_threads()
"""What torch takes by itself: one for each core, or as many as OMP_NUM_THREADS says."""


def share_threads(workers: int, wanted: int = 0) -> int:
    """Let each of `workers` that compute side by side use `wanted` threads, or its share of all (0), from now on; the
    number of threads of each. More threads than cores wait for each other."""
    count = wanted or max(1, ALL // workers)
    torch.set_num_threads(count)
    return count
