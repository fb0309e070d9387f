"""Processes that work through synthetic scenes side by side, each with a worker of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.pool import Pool
from tempfile import TemporaryDirectory
from typing import Any

import torch

_own: Any = None


@contextmanager
def crew(processes: int, make: Callable, *args: Any) -> Iterator[Pool]:
    """A pool whose processes each have made `make(*args)`, which `own` gives to what they are asked to do.

    What they keep of objects, which are seen once, is thrown away at the end.
    """
    with TemporaryDirectory() as cache, get_context("spawn").Pool(processes, _begin, (cache, make, args)) as pool:
        yield pool


def own() -> Any:
    """What this process of a crew has made."""
    return _own


def _begin(cache: str, make: Callable, args: tuple) -> None:
    global _own
    torch.set_num_threads(1)
    torch.multiprocessing.set_sharing_strategy("file_system")  # one open file for each number that is sent is too many
    os.environ["FLOWPOSE_CACHE"] = cache
    _own = make(*args)
