"""Devices that answer, and one that does not."""

import pytest
import torch

from flowpose_ros.errors import DeviceLostError
from flowpose_ros.runtime.device import check_device


def test_a_cpu_and_a_gpu_that_works_answer():
    check_device(torch.device("cpu"))
    if torch.cuda.is_available():
        check_device(torch.device("cuda"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_does_not_answer():
    with pytest.raises(DeviceLostError, match="device cuda: expected an answer, got '.*'; only another process"):
        check_device(torch.device("cuda"))
