"""Following: what a GPU records waits for no number, and gives what the function gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from flowpose_ros.estimation.batches import mapped, tensors_of
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.follow import Follower, FollowOptions, fit_to_surface
from flowpose_ros.estimation.networks import load_networks
from flowpose_ros.estimation.recorded import Recorded
from flowpose_ros.estimation.views import Shapes, Views
from flowpose_ros.rendering.raycast import RaycastRenderer
from rendering.meshes import sphere, textured_box

MESHES = [textured_box((0.1, 0.07, 0.05)), sphere(0.3, 16)]
"""So different in size that other distances count as near."""


@pytest.fixture(scope="module")
def follower():
    return Follower(load_networks("", "cpu"))


@pytest.fixture(scope="module")
def given():
    """What the network is given of two objects, their views, and the depth that they would have."""
    points, center = (torch.from_numpy(np.stack(x)).float()
                      for x in ([m.surface_points(500) for m in MESHES], [m.center for m in MESHES]))
    radius = torch.tensor([mesh.radius for mesh in MESHES])
    shapes, T = Shapes(points, center, radius, 2 * radius), torch.eye(4).repeat(2, 1, 1)
    T[:, 2, 3] = torch.tensor([0.5, 2.0])
    views = Views.render_each(MESHES, shapes, T, RaycastRenderer(), 128)
    return views.rendering.rgb, views, shapes


@torch.no_grad()
def test_what_is_recorded_waits_for_no_number(follower, given):
    _, views, shapes = given
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:  # has shapes alone, and refuses to give a number
        flowed = follower._flow(mapped(mode.from_tensor, given), FollowOptions())
        surface = mapped(mode.from_tensor, (views, shapes, views.rendering, views.T_crop_obj, views.rendering.depth))
        T, quality = fit_to_surface((*surface, flowed.confirmed, flowed.seen), DepthOptions())
        with pytest.raises(DataDependentOutputException):
            float(quality[0])
    assert T.shape == (2, 4, 4) and quality.shape == (2,)


@torch.no_grad()
def test_objects_of_different_sizes_are_each_fitted_by_their_own(given):
    _, views, shapes = given
    shifted = views.T_crop_obj.clone()
    shifted[:, 2, 3] += torch.tensor([0.004, 0.02])
    certain = torch.ones(2)

    def fitted(index):
        part = mapped(lambda tensor: tensor[index], (views, shapes, views.rendering, shifted, views.rendering.depth,
                                                     certain, certain))
        return fit_to_surface(part, DepthOptions())

    together, alone = fitted(torch.arange(2)), [fitted(torch.tensor([i])) for i in range(2)]
    for found, each in zip(together, zip(*alone)):
        torch.testing.assert_close(found, torch.cat(each), rtol=1e-4, atol=1e-5)
    assert (together[0][:, 2, 3] - views.T_crop_obj[:, 2, 3]).abs().max() < 1e-3
    small = replace(shapes, diameter=shapes.diameter[:1].expand(2), radius=shapes.radius[:1].expand(2))
    other = fit_to_surface((views, small, views.rendering, shifted, views.rendering.depth, certain, certain),
                           DepthOptions())
    assert not torch.allclose(other[0][1], together[0][1], rtol=0, atol=1e-4)


def test_on_a_cpu_a_recorded_function_is_called_as_it_is():
    calls = []
    double = Recorded(lambda batch, factor: calls.append(factor) or factor * batch[0])
    assert double((torch.ones(2),), 3).tolist() == [3, 3] and calls == [3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.no_grad()
def test_a_gpu_plays_what_the_function_gives(given):
    follower, options = Follower(load_networks("", "cuda")), FollowOptions()
    first = mapped(lambda tensor: tensor.cuda(), given)
    second = mapped(torch.clone, first)
    second[0].mul_(0.7).add_(0.1)
    for batch in (first, second, first):
        played, plain = follower._flowed(batch, options), follower._flow(batch, options)
        for one, other in zip(tensors_of(played), tensors_of(plain)):
            torch.testing.assert_close(one.float(), other.float(), rtol=1e-2, atol=1e-3)
    assert len(follower._flowed._recordings) == 1
    one = mapped(lambda tensor: tensor[:1], first)
    assert len(follower._flowed(one, options).T_crop_obj) == 1 and len(follower._flowed._recordings) == 2
