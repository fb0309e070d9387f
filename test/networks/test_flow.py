"""The network around its learned parts: what must hold whatever the weights are."""

import math
from dataclasses import replace

import pytest
import torch
from networks.views import bumpy_view

from flowpose_ros.geometry.transforms import exp_so3, make_transform, rotation_angle
from flowpose_ros.networks.flow import (CONFIDENCES, SIZES, GenFlow, GenFlowConfig, RenderView, cell_points,
                                        confidence_of, induced_flow)
from flowpose_ros.geometry.pnp import from_transform
from flowpose_ros.networks.update import FlowField


@pytest.mark.parametrize("size", SIZES)
def test_every_update_gives_a_rigid_pose_and_a_field_at_twice_its_resolution(size):
    torch.manual_seed(0)
    network = GenFlow(SIZES[size])
    view = bumpy_view()
    updates = network(network.encode(view.rgb), view)
    config = SIZES[size]
    assert [u.field.flow.shape[-1] for u in updates] == [32] * config.updates_coarse + [64] * config.updates_fine
    for update in updates:
        R = update.T_crop_obj[:, :3, :3]
        torch.testing.assert_close(R @ R.transpose(1, 2), torch.eye(3).expand_as(R), atol=1e-4, rtol=0)
        assert (update.weight[~update.valid.expand_as(update.weight)] == 0).all()
        assert (update.field.sensitivity > 0).all()


def test_a_perfect_flow_gives_the_true_pose():
    view = bumpy_view(1)
    turn = exp_so3(torch.tensor([[0.1, -0.15, 0.2]]))
    T_true = make_transform(turn @ view.T_crop_obj[:, :3, :3], view.T_crop_obj[:, :3, 3] + torch.tensor([0.01, -0.008, 0.03]))
    R, t = from_transform(T_true, view.center, view.radius)
    sub = view.xyz[..., 1::2, 1::2]
    flow = induced_flow(view, sub, R, t)
    ones = torch.ones(1, 1, 64, 64)
    field = FlowField(flow, 5 * ones, ones.expand(1, 2, 64, 64), -5 * ones, 0 * ones)
    start = from_transform(view.T_crop_obj, view.center, view.radius)
    update = GenFlow._fit(view, field, 2, *start, confidence_of(field, "probable", 2.0))
    assert math.degrees(rotation_angle(update.T_crop_obj[:, :3, :3], T_true[:, :3, :3]).item()) < 0.2
    assert (update.T_crop_obj[:, :3, 3] - T_true[:, :3, 3]).norm() < 1e-3


def test_certainty_learns_from_its_own_loss_alone_and_sensitivity_from_the_pose():
    torch.manual_seed(0)
    network = GenFlow(SIZES["T"])
    view = bumpy_view(1)
    last = network(network.encode(view.rgb), view)[-1]
    last.field.certainty.retain_grad()
    last.field.sensitivity.retain_grad()
    last.T_crop_obj.square().sum().backward()
    assert last.field.certainty.grad is None or not last.field.certainty.grad.any()
    assert last.field.sensitivity.grad.any()


def field_of():
    """A field of random numbers that can be learnt."""
    shapes = {"flow": 2, "certainty": 1, "sensitivity": 2, "mixture": 1, "log_scale": 1}
    return FlowField(**{name: torch.rand(1, channels, 4, 4).requires_grad_() for name, channels in shapes.items()})


def test_confidences_are_products_of_what_is_learnt_apart():
    torch.manual_seed(0)
    field = field_of()
    probable, factored, single, none = (confidence_of(field, kind, 2.0) for kind in CONFIDENCES)
    torch.testing.assert_close(factored, torch.sigmoid(field.certainty) * field.sensitivity)
    torch.testing.assert_close(probable, factored * field.probability_within(2.0))
    assert (single == field.sensitivity).all() and (none == 1).all()
    (probable + factored + single).sum().backward()
    assert field.sensitivity.grad.all()
    assert all(part.grad is None for part in (field.certainty, field.mixture, field.log_scale))


def test_an_unknown_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence: expected one of probable, .*, got 'sure'"):
        GenFlowConfig(confidence="sure")


@pytest.mark.parametrize("constrained", [True, False])
def test_updates_begin_from_the_flow_of_the_pose_or_from_their_own(constrained, monkeypatch):
    torch.manual_seed(0)
    network, view = GenFlow(replace(SIZES["T"], constrained=constrained)), bumpy_view(1)
    begun = []
    for block in (network.update_8, network.update_4):
        monkeypatch.setattr(block, "forward", lambda h, context, correlations, begin, free, call=block.forward: (
            begun.append(begin), call(h, context, correlations, begin, free))[1])
    with torch.no_grad():
        updates = network(network.encode(view.rgb.roll(5, -1)), view)
    assert not begun[0].any()
    if constrained:
        R, t = from_transform(updates[0].T_crop_obj, view.center, view.radius)
        xyz, share = cell_points(view.xyz, view.mask, 8)
        torch.testing.assert_close(begun[1], induced_flow(view, xyz, R, t) * (share > 0))
    else:
        torch.testing.assert_close(begun[3], updates[2].field.flow)  # at 1/4 with what 1/8 said


def test_without_a_cascade_all_updates_are_at_one_eighth():
    torch.manual_seed(0)
    network, view = GenFlow(replace(SIZES["T"], updates_coarse=5, updates_fine=0)), bumpy_view(1)
    updates = network(network.encode(view.rgb), view)
    assert [u.field.flow.shape[-1] for u in updates] == [32] * 5


def test_an_empty_render_keeps_the_pose():
    network = GenFlow(SIZES["T"]).eval()
    view = bumpy_view(1)
    nothing = RenderView(0 * view.rgb, 0 * view.normal, 0 * view.xyz, torch.zeros_like(view.mask), view.K,
                         view.T_crop_obj, view.center, view.radius)
    with torch.no_grad():
        last = network(network.encode(view.rgb), nothing)[-1]
    torch.testing.assert_close(last.T_crop_obj, view.T_crop_obj, atol=1e-5, rtol=0)
