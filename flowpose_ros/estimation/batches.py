"""Records of batches: parts of them, several as one, and work in smaller parts where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

import torch

from flowpose_ros.errors import MemoryShortageError

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def mapped(work: Callable[[torch.Tensor], torch.Tensor], record: Batch) -> Batch:
    """A record with `work` done on each tensor in it, in order, records and tuples in it included."""
    if isinstance(record, torch.Tensor):
        return work(record)
    if isinstance(record, tuple):
        return tuple(mapped(work, part) for part in record)
    if is_dataclass(record):
        return replace(record, **{f.name: mapped(work, getattr(record, f.name)) for f in fields(record)})
    return record


def tensors_of(record: Batch) -> list[torch.Tensor]:
    """The tensors of a record, in the order of `mapped`."""
    found: list[torch.Tensor] = []
    mapped(lambda tensor: found.append(tensor) or tensor, record)
    return found


def take(record: Batch, index: torch.Tensor) -> Batch:
    """A record of batches with only the items `index` [M] of each tensor in it, records and tuples in it included."""
    return mapped(lambda tensor: tensor[index], record)


def join(records: Sequence[Batch]) -> Batch:
    """One record of batches from several of one kind, their items one after the other; the opposite of `take`."""
    first = records[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(list(records))
    if isinstance(first, tuple):
        return tuple(map(join, zip(*records)))
    if is_dataclass(first):
        return replace(first, **{f.name: join([getattr(r, f.name) for r in records]) for f in fields(first)})
    return first


def in_parts(work: Callable[[Batch], Result], batch: Batch, count: int) -> Result:
    """`work` on a batch of `count` items; where memory does not suffice for all, on its halves, joined.

    Raises MemoryShortageError when it does not suffice for one.
    """
    try:
        return work(batch)
    except Exception as error:
        if not is_memory_shortage(error):
            raise
        if count == 1:
            raise MemoryShortageError(f"memory: expected room for one item, got none: {error}") from error
    # Here, where the error and all that its frames hold are gone.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    halves = torch.arange(count).split((count + 1) // 2)
    return join([in_parts(work, take(batch, half), len(half)) for half in halves])


def is_memory_shortage(error: Exception) -> bool:
    """Whether an error says that a device, or the host, has no memory left."""
    kinds = (MemoryShortageError, MemoryError, torch.OutOfMemoryError)
    # The host's shortages are plain RuntimeErrors: the allocator's, and what oneDNN makes of its own.
    words = ("DefaultCPUAllocator", "could not create a primitive")
    return isinstance(error, kinds) or isinstance(error, RuntimeError) and any(word in str(error) for word in words)
