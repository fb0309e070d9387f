"""Threads of the networks are shared by workers."""

import threading

import pytest
import torch

from flowpose_ros.runtime.threads import ALL, share_threads


@pytest.fixture(autouse=True)
def as_before():
    yield
    torch.set_num_threads(ALL)


@pytest.mark.parametrize("workers, wanted, each", [(1, 0, ALL), (2, 0, max(1, ALL // 2)), (10 * ALL, 0, 1), (2, 3, 3)])
def test_each_worker_gets_its_share_or_what_was_wanted(workers, wanted, each):
    assert share_threads(workers, wanted) == each
    seen = []
    worker = threading.Thread(target=lambda: seen.append(torch.ones(64, 64).matmul(torch.ones(64, 64)).sum() and
                                                         torch.get_num_threads()))
    worker.start()
    worker.join()
    assert seen == [each]
