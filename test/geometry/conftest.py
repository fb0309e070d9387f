"""Seeded truths for the geometry tests."""

import pytest
import torch

from flowpose_ros.geometry.transforms import exp_so3, make_transform


@pytest.fixture
def poses():
    """poses(n, dtype): n poses T_cam_obj about 0.8 m before the camera, always the same."""
    def make(n, dtype=torch.float64):
        g = torch.Generator().manual_seed(n)
        R = exp_so3(2 * torch.randn(n, 3, generator=g, dtype=dtype))
        t = 0.1 * torch.randn(n, 3, generator=g, dtype=dtype) + torch.tensor([0, 0, 0.8], dtype=dtype)
        return make_transform(R, t)
    return make
