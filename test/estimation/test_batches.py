"""Batches taken apart and joined, and work in parts where the allocator refuses the whole."""

from dataclasses import dataclass

import pytest
import torch

from flowpose_ros.errors import MemoryShortageError
from flowpose_ros.estimation.batches import in_parts, is_memory_shortage, join, take


@dataclass(frozen=True)
class Pair:
    values: torch.Tensor
    parts: tuple
    size: int = 7


BATCH = Pair(torch.arange(10.0), (torch.arange(20.0).reshape(10, 2), None))


def hungry(most):
    """Doubles a batch, and asks for more memory than there is when it has more than `most` items."""
    sizes = []

    def work(batch):
        sizes.append(len(batch.values))
        torch.empty(2**60 if len(batch.values) > most else 1, dtype=torch.uint8)
        return Pair(2 * batch.values, batch.parts)

    return work, sizes


def test_parts_joined_are_the_whole():
    halves = [take(BATCH, index) for index in torch.arange(10).split(4)]
    again = join(halves)
    assert torch.equal(again.values, BATCH.values) and torch.equal(again.parts[0], BATCH.parts[0])
    assert again.parts[1] is None and again.size == 7


@pytest.mark.parametrize("most, expected", [(10, [10]), (5, [10, 5, 5]), (3, [10, 5, 3, 2, 5, 3, 2])])
def test_what_does_not_fit_is_done_in_parts(most, expected):
    work, sizes = hungry(most)
    done = in_parts(work, BATCH, 10)
    assert sizes == expected
    assert torch.equal(done.values, 2 * BATCH.values) and torch.equal(done.parts[0], BATCH.parts[0])


def test_where_not_even_one_fits_it_says_so():
    with pytest.raises(MemoryShortageError, match="room for one item, got none"):
        in_parts(hungry(0)[0], BATCH, 10)


@pytest.mark.parametrize("error, expected", [
    (RuntimeError("could not create a primitive"), True), (MemoryError(), True), (RuntimeError("shapes differ"), False),
    (ValueError("could not create a primitive"), False)])
def test_what_a_library_says_of_a_shortage_is_known(error, expected):
    assert is_memory_shortage(error) == expected


def test_other_errors_are_not_taken_for_it():
    with pytest.raises(RuntimeError, match="shapes"):
        in_parts(lambda batch: (_ for _ in ()).throw(RuntimeError("shapes differ")), BATCH, 10)
