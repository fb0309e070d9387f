"""The renderers, each started once, and cameras to look through."""

import numpy as np
import pytest
import torch

from flowpose_ros.errors import FlowposeError
from flowpose_ros.geometry.rotations import super_fibonacci
from flowpose_ros.rendering.opengl import OpenglRenderer
from flowpose_ros.rendering.raster import RasterRenderer
from flowpose_ros.rendering.raycast import RaycastRenderer


@pytest.fixture(scope="session")
def raycast():
    return RaycastRenderer()


@pytest.fixture(scope="session")
def opengl():
    try:
        renderer = OpenglRenderer()
    except FlowposeError as error:
        pytest.skip(str(error))
    yield renderer
    renderer.close()


@pytest.fixture(scope="session")
def raster():
    return RasterRenderer()


@pytest.fixture(params=["raycast", "opengl", "raster"])
def renderer(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def cameras():
    """cameras(n): T_cam_obj [n,4,4] about 0.5 m away and off the axis, K [n,3,3] all different, for 180 x 240 pixels."""
    def make(n):
        rng = np.random.default_rng(n)
        T = np.tile(np.eye(4), (n, 1, 1))
        T[:, :3, :3] = super_fibonacci(n)
        T[:, :3, 3] = [0.02, -0.03, 0.5] + rng.uniform(-0.02, 0.02, (n, 3))
        K = np.tile([[360.0, 0, 94.3], [0, 340.0, 105.8], [0, 0, 1]], (n, 1, 1))
        K[:, :2, 2] += rng.uniform(-6, 6, (n, 2))
        return torch.from_numpy(T).float(), torch.from_numpy(K).float()
    return make
