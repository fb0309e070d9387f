"""RefPose's geometry network: its encoding, its attention, and the pose of what it says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from networks.views import S, bumpy_view

from flowpose_ros.geometry.transforms import exp_so3, rotation_angle, transform_points
from flowpose_ros.networks.flow import GenFlow, RenderView
from flowpose_ros.networks.geometry_net import (BANDS, Geometry, GeometryConfig, GeometryNet, GuidedAttention, Level,
                                                positional_encoding, read_off, solved_pose)
from flowpose_ros.networks.weights import load_network, shipped_folder

VARIANTS = [GeometryConfig(), GeometryConfig(encoded=False), GeometryConfig(upsampling="bilinear"),
            GeometryConfig(attention="learned"), GeometryConfig(pose="head")]


def network_of(config: GeometryConfig, seed: int = 0) -> GeometryNet:
    """A network whose every weight is random."""
    torch.manual_seed(seed)
    network = GeometryNet(config)
    learned = list(network.geometry.parameters())
    if config.pose == "head":
        learned += network.pose_head.tell[-1].parameters()
    for parameter in learned:
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


def features_of(rgb: torch.Tensor):
    torch.manual_seed(1)
    with torch.no_grad():
        return GenFlow().encode(rgb)


def moved(view: RenderView, degrees: float = 9.0) -> RenderView:
    """The same render said to be at a pose nearby."""
    T = view.T_crop_obj.clone()
    T[:, :3, :3] = exp_so3(math.radians(degrees) * torch.tensor([[0.6, -0.64, 0.48]])) @ T[:, :3, :3]
    T[:, :3, 3] += torch.tensor([0.008, -0.006, 0.03])
    return replace(view, T_crop_obj=T)


def true_geometry(view: RenderView) -> dict[str, torch.Tensor]:
    """What a network that knows everything says of a query that is the render of `view` itself."""
    xyz = (view.xyz - view.center[:, :, None, None])[..., 1::2, 1::2] / view.radius[:, None, None, None]
    on_object = view.mask[:, None, 1::2, 1::2]
    return {"encoded": xyz, "xyz": xyz, "log_scale": torch.full_like(xyz[:, :1], -3.0),
            "visible": torch.where(on_object, 6.0, -6.0)}


def fitted(view: RenderView, **said: torch.Tensor) -> Geometry:
    """What a network says, and the pose solved from it."""
    seen = read_off(view, **said)
    return replace(seen, T_crop_obj=solved_pose(seen, view))


def assert_same_pose(T: torch.Tensor, T_true: torch.Tensor, degrees: float, metres: float) -> None:
    assert torch.rad2deg(rotation_angle(T[:, :3, :3], T_true[:, :3, :3])).max() < degrees
    assert (T[:, :3, 3] - T_true[:, :3, 3]).norm(dim=1).max() < metres


# --- the encoding


def test_the_encoding_is_sines_and_cosines_of_doubling_frequencies():
    points = torch.tensor([[0.5, -0.25, 0.125]]).reshape(1, 3, 1, 1)
    said = positional_encoding(points)
    assert said.shape == (1, 30, 1, 1)
    bands = said.reshape(BANDS, 2, 3)
    torch.testing.assert_close(bands[0, 0], torch.tensor([1.0, -math.sqrt(0.5), math.sin(math.pi / 8)]))
    torch.testing.assert_close(bands[0, 1], torch.tensor([0.0, math.sqrt(0.5), math.cos(math.pi / 8)]))
    torch.testing.assert_close(bands[1, 1], torch.tensor([-1.0, 0.0, math.sqrt(0.5)]), atol=1e-6, rtol=0)
    for low, high in zip(bands, bands[1:]):  # sin 2a = 2 sin a cos a
        torch.testing.assert_close(high[0], 2 * low[0] * low[1], atol=1e-5, rtol=0)


def test_points_that_are_apart_have_encodings_that_are_apart():
    grid = torch.linspace(-1, 1, 41)[:-1]
    points = torch.stack([grid, 0 * grid, 0 * grid])[None]
    said = positional_encoding(points)[0].T
    distance = torch.cdist(said, said) + 9 * torch.eye(len(grid))
    assert distance.min() > 0.5


# --- the pose


@pytest.mark.parametrize("degrees", [0, 9, 60])
def test_what_is_right_in_all_gives_the_true_pose(degrees):
    view = bumpy_view()
    said = fitted(moved(view, degrees), **true_geometry(view))
    assert_same_pose(said.T_crop_obj, view.T_crop_obj, 0.05, 2e-4)
    seen = transform_points(view.T_crop_obj, (said.xyz * 0.06).flatten(2).transpose(1, 2))
    pixel = (seen[..., :2] / seen[..., 2:] * 440 + 63.5)[said.visible.flatten(1) > 0]
    torch.testing.assert_close(pixel, said.pixel.flatten(2).transpose(1, 2)[said.visible.flatten(1) > 0],
                               atol=1e-3, rtol=0)


@pytest.mark.parametrize("unsure", ["visible", "log_scale"])
def test_cells_that_are_wrong_and_say_so_do_not_move_the_pose(unsure):
    view = bumpy_view(1)
    truth = true_geometry(view)
    wrong = torch.zeros(1, 1, S // 2, S // 2, dtype=torch.bool)
    wrong[..., 10:28, :] = True
    said = truth | {"xyz": torch.where(wrong, 0.5 - truth["xyz"], truth["xyz"])}
    astray = fitted(moved(view), **said).T_crop_obj
    assert torch.rad2deg(rotation_angle(astray[:, :3, :3], view.T_crop_obj[:, :3, :3])) > 5
    value = {"visible": -4.0, "log_scale": 1.0}[unsure]
    said[unsure] = torch.where(wrong, value, truth[unsure])
    found = fitted(moved(view), **said)
    assert_same_pose(found.T_crop_obj, view.T_crop_obj, 1.0, 0.006)
    assert (found.weight[wrong] == 0).all() == (unsure == "visible")


def test_the_pose_teaches_the_points_alone():
    view = bumpy_view(1)
    said = {name: value.clone().requires_grad_() for name, value in true_geometry(view).items()}
    fitted(moved(view), **said).T_crop_obj.square().sum().backward()
    assert said["xyz"].grad.any() and said["xyz"].grad.isfinite().all()
    assert said["visible"].grad is None and said["log_scale"].grad is None


def test_a_query_that_shows_nothing_leaves_the_pose():
    view = bumpy_view(1)
    said = true_geometry(view) | {"visible": torch.full((1, 1, S // 2, S // 2), -6.0)}
    found = fitted(moved(view), **said)
    torch.testing.assert_close(found.T_crop_obj, moved(view).T_crop_obj)


# --- attention


@pytest.mark.parametrize("learned", [False, True])
def test_cells_off_the_object_get_no_attention(learned):
    torch.manual_seed(0)
    attention = GuidedAttention(8, 16, 10, 6, learned=learned)
    level = level_of(torch.randn(2, 16, 6, 6), torch.randn(2, 16, 6, 6))
    share = attention.attention(torch.randn(2, 8, 6, 6), level)
    off_object = (level.cover == 0).flatten(1)
    assert off_object.any() and (share.transpose(1, 2)[off_object] == 0).all()
    torch.testing.assert_close(share.sum(2), torch.ones(2, 36))
    assert (share.transpose(1, 2)[~off_object] > 0).any(1).all()


def level_of(query: torch.Tensor, source: torch.Tensor) -> Level:
    """A level whose reference counts its cells, on the object in all columns but two."""
    cover = torch.ones(2, 1, 6, 6)
    cover[..., 4:] = 0
    reference = torch.arange(36.0).reshape(1, 1, 6, 6) + 100 * torch.arange(10).reshape(1, 10, 1, 1)
    return Level(query, source, reference.expand(2, -1, -1, -1) * cover, cover)


def test_attention_brings_what_the_matching_cell_says():
    torch.manual_seed(0)
    attention = GuidedAttention(8, 16, 10, 6, learned=False)
    source = 6 * torch.randn(2, 16, 6, 6)
    level = level_of(source.roll(1, 2), source)
    _, brought = attention(torch.randn(2, 8, 6, 6), level)
    torch.testing.assert_close(brought[..., :4], level.reference.roll(1, 2)[..., :4], atol=0.1, rtol=1e-3)


def test_a_higher_temperature_spreads_attention():
    torch.manual_seed(0)
    attention = GuidedAttention(8, 16, 10, 6, learned=False)
    x, level = torch.randn(2, 8, 6, 6), level_of(torch.randn(2, 16, 6, 6), torch.randn(2, 16, 6, 6))
    before = attention.attention(x, level).amax(2)
    torch.nn.init.constant_(attention.log_temperature, 1.0)
    assert (attention.attention(x, level).amax(2) < before).all()


# --- the network


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_whatever_the_weights_it_says_something_finite_at_half_the_resolution(config):
    view = bumpy_view()
    query = features_of(torch.rand(2, 3, S, S, generator=torch.Generator().manual_seed(3)))
    with torch.no_grad():
        said = network_of(config)(query, features_of(view.rgb), view)
    assert said.encoded.shape == (2, 30 if config.encoded else 3, S // 2, S // 2)
    assert said.xyz.shape == (2, 3, S // 2, S // 2) and said.visible.shape == (2, 1, S // 2, S // 2)
    assert all(value.isfinite().all() for value in vars(said).values())
    R = said.T_crop_obj[:, :3, :3]
    torch.testing.assert_close(R @ R.transpose(1, 2), torch.eye(3).expand_as(R), atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_an_empty_render_keeps_the_pose(config):
    view = bumpy_view()
    nothing = replace(view, rgb=0 * view.rgb, normal=0 * view.normal, xyz=0 * view.xyz,
                      mask=torch.zeros_like(view.mask))
    with torch.no_grad():
        said = network_of(config)(features_of(view.rgb), features_of(nothing.rgb), nothing)
    assert all(value.isfinite().all() for value in vars(said).values())
    torch.testing.assert_close(said.T_crop_obj, view.T_crop_obj)


def test_before_it_learns_it_says_what_matches_say():
    view = bumpy_view(1)
    torch.manual_seed(0)
    network = GeometryNet()
    fine, coarse = (8 * torch.randn(1, width, S // stride, S // stride) for width, stride in ((32, 4), (96, 8)))
    with torch.no_grad():
        said = network((fine, coarse), (fine, coarse), view)
    inside = (..., slice(14, 50), slice(14, 50))
    truth = true_geometry(view)["xyz"]
    apart = (said.xyz - truth)[inside].norm(dim=1)
    assert apart.median() < 0.1 < truth[inside].norm(dim=1).median()


def test_everything_learns_from_all_that_it_says():
    network, view = network_of(GeometryConfig()).train(), bumpy_view(1)
    query = features_of(torch.rand(1, 3, S, S, generator=torch.Generator().manual_seed(3)))
    said: Geometry = network(query, features_of(view.rgb), view)
    sum(part.square().mean() for part in (said.encoded, said.xyz, said.log_scale, said.visible)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(p.grad.any() for name, p in network.named_parameters() if "log_temperature" in name)


def test_the_head_learns_from_the_pose_and_teaches_the_points():
    network, view = network_of(GeometryConfig(pose="head")).train(), bumpy_view(1)
    query = features_of(torch.rand(1, 3, S, S, generator=torch.Generator().manual_seed(3)))
    said = network(query, features_of(view.rgb), view)
    said.xyz.retain_grad()
    said.visible.retain_grad()
    said.T_crop_obj.square().sum().backward()
    assert said.xyz.grad.any() and said.visible.grad is None
    assert all(p.grad.isfinite().all() and p.grad.any() for p in network.pose_head.parameters())


def test_an_untrained_head_keeps_the_pose():
    network, view = GeometryNet(GeometryConfig(pose="head")).eval(), bumpy_view()
    with torch.no_grad():
        said = network(features_of(view.rgb.flip(0)), features_of(view.rgb), view)
    torch.testing.assert_close(said.T_crop_obj, view.T_crop_obj)


def test_shipped_weights_are_those_of_a_network_that_solves():
    network = load_network(shipped_folder() / "geometry.safetensors", "geometry", GeometryConfig, GeometryNet)
    assert network.config == GeometryConfig()


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="upsampling: expected convex or bilinear, got 'cubic'"):
        GeometryConfig(upsampling="cubic")
