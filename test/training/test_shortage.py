"""What is too large for the memory is refused with what fits; memory is really short here."""

import re
import resource
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from flowpose_ros.errors import MemoryShortageError
from training.pairs import PairMaker
from training.replay import Replay
from training.trainer import Lesson, PairTraining, train_on_pairs

GIGABYTE = 2 ** 30

pytestmark = pytest.mark.usefixtures("same_everywhere")


@contextmanager
def only(free: int):
    """The process has so many bytes of address space more."""
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def run(folder, batch, a_sample):
    """Train with a loss that takes so many bytes for each sample, of ten gigabytes."""
    def lesson_on(device):
        network = nn.Linear(2, 1)

        def loss(batch, pose_share):
            with only(10 * GIGABYTE):
                torch.empty(len(batch.K) * a_sample, dtype=torch.uint8)
            return network(batch.T_gt[:, 0, :2]).square().sum(), {}

        return Lesson(network, lambda at, step: loss, "network", "none", "none.safetensors")

    train_on_pairs(PairTraining(crop=64, steps=3, batch=batch), lesson_on, folder, workers=0, threads=1, save_every=9,
                   max_minutes=None)


def test_the_batch_that_fits_is_named(tmp_path):
    with pytest.raises(MemoryShortageError, match=r"memory of cpu suffices for, got 5; --batch 2 fits \(.*allocate"):
        run(tmp_path, 5, 4 * GIGABYTE)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_that_none_fits_is_said(tmp_path):
    with pytest.raises(MemoryShortageError, match="got 2; not even 1 fits"):
        run(tmp_path, 2, 12 * GIGABYTE)


def test_the_store_that_fits_is_named():
    sample = PairMaker(0, 64).sample(0)
    size = sum(value.nbytes for value in vars(sample).values())
    replay = Replay(10 * GIGABYTE // size, "cpu", 0)
    with only(4 * GIGABYTE), pytest.raises(MemoryShortageError, match=r"kept: .* of cpu .*; --kept (\d+) fits") as short:
        replay.add(sample)
    fits = int(re.search(r"--kept (\d+)", str(short.value)).group(1))
    assert fits * size < 4 * GIGABYTE < 3 * fits * size and fits % 8 == 0
    replay = Replay(fits, "cpu", 0)
    with only(4 * GIGABYTE):
        replay.add(sample)
    assert len(replay) == 1
