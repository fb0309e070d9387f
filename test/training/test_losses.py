"""The refiner's losses on constructed batches whose truth is known."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from reference.losses import laplace_mixture_nll as slow_nll
from reference.losses import matching_loss as slow_matching_loss

from flowpose_ros.geometry.transforms import exp_so3
from flowpose_ros.networks.flow import SIZES, GenFlow, Update
from flowpose_ros.networks.update import FlowField
from training.losses import (LossWeights, field_losses, laplace_mixture_nll, masked_mean, matching_loss,
                             point_distance, pose_loss, refiner_loss, sensitivity_spread, view_of)
from training.pairs import PairBatch, collate

S = 64
CELLS = 16
STRIDE = S // CELLS
DIAMETER = 0.1
WEIGHTS = LossWeights()


def random_like(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def batch():
    """Two objects that fill the middle of the crop, their right half occluded; smooth flow of some pixels.

    The mesh's origin is far from the object's middle.
    """
    v, u = torch.meshgrid(torch.arange(float(S)), torch.arange(float(S)), indexing="ij")
    mask = torch.zeros(S, S, dtype=torch.bool)
    mask[8:56, 8:56] = True
    visible = mask.clone()
    visible[:, 32:] = False
    flow = torch.stack([3 + 2 * torch.sin(v / 9), -2 + torch.cos(u / 7)]) * mask
    z = 0.5 + 0.01 * torch.sin(u / 5) * torch.cos(v / 6)
    center = torch.tensor([0.3, -0.2, 0.1])
    camera = torch.stack([(u - 31.5) / 400 * z, (v - 31.5) / 400 * z, z])
    T = torch.eye(4)
    T[:3, 3] = torch.tensor([0, 0, 0.5]) - center
    xyz = (camera - T[:3, 3, None, None]) * mask
    K = torch.tensor([[400.0, 0, 31.5], [0, 400, 31.5], [0, 0, 1]])
    points = center + (random_like(256, 3) - 0.5) * DIAMETER / 2
    one = PairBatch(
        query_rgb=random_like(3, S, S, seed=1), query_depth=z, target_depth=z * visible, render_rgb=random_like(3, S, S, seed=2) * mask,
        render_normal=torch.stack([0 * u, 0 * u, -1.0 * mask]), render_xyz=xyz, render_mask=mask, K=K, T_init=T,
        T_gt=T, center=center, radius=torch.tensor(DIAMETER / 2), diameter=torch.tensor(DIAMETER),
        points=points, gt_flow=flow, visible=visible, start_angle=torch.tensor(0.0))
    one = PairBatch(*(getattr(one, f.name)[None] for f in fields(one)))
    return collate([one, one])


def centres(picture):
    """Values [...,CELLS,CELLS] of a picture [...,S,S] at its cells' centres."""
    return picture[..., STRIDE // 2::STRIDE, STRIDE // 2::STRIDE]


def true_update(batch):
    """An update that is right in all it says, and sure of it."""
    ones = torch.ones(len(batch.K), 1, CELLS, CELLS)
    certainty = torch.where(centres(batch.visible), 5.0, -5.0)[:, None]
    field = FlowField(centres(batch.gt_flow), certainty, ones.expand(-1, 2, -1, -1), -5 * ones, 0 * ones)
    nothing = torch.zeros(0)
    return Update(field, batch.T_gt, nothing, nothing, centres(batch.render_mask)[:, None], nothing)


def with_field(update, **changes):
    return replace(update, field=replace(update.field, **changes))


def wrong_flow(update):
    """Every flow off by 3 and 4 pixels."""
    return with_field(update, flow=update.field.flow + torch.tensor([3.0, 4.0])[:, None, None])


def moved(T, shift):
    T = T.clone()
    T[:, :3, 3] += torch.tensor(shift)
    return T


# --- the field


def test_the_true_flow_costs_less_than_a_wrong_one(batch):
    right = true_update(batch)
    nll, l1, _, epe = field_losses(right, batch)
    wrong_nll, wrong_l1, _, wrong_epe = field_losses(wrong_flow(right), batch)
    assert l1 == 0 and epe == 0
    assert wrong_l1.item() == pytest.approx(7) and wrong_epe.item() == pytest.approx(5)
    assert wrong_nll > nll + 4
    found = [refiner_loss([u], batch, WEIGHTS, 0.0) for u in (right, wrong_flow(right))]
    assert found[0].total + 4 < found[1].total
    assert (found[0].flow_error, found[1].flow_error) == (0, pytest.approx(5))


def test_the_truth_is_taken_where_the_network_says_its_cells_lie(batch):
    torch.manual_seed(0)
    network = GenFlow(SIZES["T"])
    updates = network(network.encode(batch.query_rgb), view_of(batch))
    assert {u.pixel.shape[-1] for u in updates} == {S // 4, S // 2}
    for update in updates:
        u, v = update.pixel[0].long()
        true = with_field(update, flow=batch.gt_flow[:, :, v, u])
        assert field_losses(true, batch)[3] == 0


def test_an_occluded_pixel_counts_for_the_plain_flow_error_alone(batch):
    right = true_update(batch)
    occluded = centres(batch.render_mask & ~batch.visible)[:, None]
    wrong = with_field(right, flow=right.field.flow + 2.0 * occluded)
    nll, l1, _, epe = field_losses(right, batch)
    wrong_nll, wrong_l1, _, wrong_epe = field_losses(wrong, batch)
    assert wrong_nll == nll and wrong_epe == epe
    share = occluded.sum() / right.valid.sum()
    assert 0.3 < share < 0.7
    assert (wrong_l1 - l1).item() == pytest.approx(4 * share)


def test_certainty_is_the_visibility_of_the_object_alone(batch):
    right = true_update(batch)
    wrong = with_field(right, certainty=-right.field.certainty)
    occluded = right.valid & ~centres(batch.visible)[:, None]
    too_sure = with_field(right, certainty=torch.where(occluded, 5.0, right.field.certainty))
    elsewhere = with_field(right, certainty=torch.where(right.valid, right.field.certainty, 9.0))
    cost, wrong_cost, too_sure_cost, cost_elsewhere = (
        field_losses(u, batch)[2].item() for u in (right, wrong, too_sure, elsewhere))
    assert cost == pytest.approx(math.log1p(math.exp(-5)), rel=1e-4)
    assert wrong_cost == pytest.approx(cost + 5, rel=1e-4)
    assert too_sure_cost == pytest.approx(cost + 5 * (occluded.sum() / right.valid.sum()).item(), rel=1e-4)
    assert cost_elsewhere == cost


def test_empty_masks_give_zero_and_finite_gradients(batch):
    empty = replace(batch, render_mask=torch.zeros_like(batch.render_mask),
                    visible=torch.zeros_like(batch.visible))
    leaves = [value.clone().requires_grad_() for value in vars(true_update(batch).field).values()]
    update = replace(wrong_flow(true_update(empty)), field=FlowField(*leaves))
    features = random_like(2, 2, 8, CELLS, CELLS).requires_grad_()
    match = matching_loss(*features, empty)
    assert all(term == 0 for term in field_losses(update, empty)) and match == 0
    losses = refiner_loss([update], empty, WEIGHTS, 1.0)
    assert torch.isfinite(losses.total) and losses.flow_error == 0
    (losses.total + match).backward()
    assert all(leaf.grad is None or (leaf.grad == 0).all() for leaf in (*leaves, features))


def test_what_no_mask_covers_changes_nothing(batch):
    right = wrong_flow(true_update(batch))
    features = random_like(2, 2, 8, CELLS, CELLS, seed=4)
    filled = replace(batch, gt_flow=torch.where(batch.render_mask[:, None], batch.gt_flow, 1e4))
    for found, wanted in zip(field_losses(right, filled), field_losses(right, batch)):
        assert found == wanted
    assert matching_loss(*features, filled) == matching_loss(*features, batch)


def test_samples_that_show_nothing_do_not_thin_the_loss(batch):
    nothing = replace(batch, render_mask=torch.zeros_like(batch.render_mask),
                      visible=torch.zeros_like(batch.visible))
    both = collate([batch, nothing])
    update = true_update(batch)
    noisy = with_field(update, flow=update.field.flow + random_like(*update.field.flow.shape))
    twice = with_field(noisy, **{name: torch.cat([value, value]) for name, value in vars(noisy.field).items()})
    for found, wanted in zip(field_losses(twice, both), field_losses(noisy, batch)):
        torch.testing.assert_close(found, wanted)
    source, target = random_like(2, 2, 8, CELLS, CELLS, seed=4)
    torch.testing.assert_close(matching_loss(source.repeat(2, 1, 1, 1), target.repeat(2, 1, 1, 1), both),
                               matching_loss(source, target, batch))


def test_the_mean_over_a_mask_is_that_of_its_values():
    values = torch.tensor([1.0, 5.0, 100.0])
    assert masked_mean(values, torch.tensor([1.0, 1, 0])) == 3
    assert masked_mean(values, torch.zeros(3)) == 0


def test_the_mixture_equals_the_slow_twin():
    generator = torch.Generator().manual_seed(0)
    error, mixture, log_scale = torch.rand(3, 500, generator=generator, dtype=torch.float64)
    error, mixture, log_scale = 30 * error, 10 * mixture - 5, 5 * log_scale
    found = laplace_mixture_nll(error, mixture, log_scale)
    np.testing.assert_allclose(found, slow_nll(error.numpy(), mixture.numpy(), log_scale.numpy()), atol=1e-6)


def test_the_mixture_stays_finite_where_its_density_underflows():
    error = torch.tensor([1e4], requires_grad=True)
    nll = laplace_mixture_nll(error, torch.tensor([-60.0]), torch.zeros(1))
    nll.backward()
    assert nll.item() == pytest.approx(1e4, rel=1e-3) and torch.isfinite(error.grad)


# --- the sequence


def test_a_later_update_counts_more(batch):
    right = true_update(batch)
    wrong = wrong_flow(right)
    best, late, early = (refiner_loss(updates, batch, WEIGHTS, 0.0).total.item()
                         for updates in ([right, right], [right, wrong], [wrong, right]))
    assert late > best
    assert early - best == pytest.approx(WEIGHTS.gamma * (late - best), rel=1e-4)


def test_the_pose_counts_by_its_share_and_the_figures_are_of_the_last_update(batch):
    right = true_update(batch)
    wrong = replace(right, T_crop_obj=moved(batch.T_gt, (0.02, 0.0, 0.0)))
    start = replace(batch, T_init=moved(batch.T_gt, (0.0, 0.0, 0.05)))
    free, half = (refiner_loss([wrong], start, WEIGHTS, share) for share in (0.0, 0.5))
    assert (half.total - free.total).item() == pytest.approx(WEIGHTS.pose * 0.5 * 0.2, rel=1e-4)
    last = refiner_loss([right, wrong], start, WEIGHTS, 1.0)
    assert last.pose_error == pytest.approx(0.2, rel=1e-4) and last.start_error == pytest.approx(0.5, rel=1e-4)


def test_sensitivity_is_held_at_a_mean_of_one_on_the_object(batch):
    update = true_update(batch)
    assert sensitivity_spread(update) == 0
    for factor in (math.e, 1 / math.e):
        scaled = torch.where(update.valid, factor * update.field.sensitivity, 50.0)
        assert sensitivity_spread(with_field(update, sensitivity=scaled)).item() == pytest.approx(1, rel=1e-4)


# --- matching


@pytest.mark.parametrize("cells", [8, 16])
def test_matching_equals_the_slow_twin(batch, cells):
    source, target = 4 * random_like(2, 2, 12, cells, cells, seed=3) - 2
    found = matching_loss(source, target, batch)
    given = (x.double().numpy() for x in (source, target, batch.gt_flow))
    wanted = slow_matching_loss(*given, batch.visible.numpy())
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_matching_pulls_the_right_cells_together(batch):
    right, up = 2, 1
    flow = torch.tensor([right * STRIDE, -up * STRIDE]).float()[:, None, None].expand_as(batch.gt_flow)
    batch = replace(batch, gt_flow=flow)
    features = random_like(2, 2, 16, CELLS, CELLS, seed=5).requires_grad_()
    seen = centres(batch.visible)
    wanted = torch.arange(CELLS * CELLS).reshape(CELLS, CELLS).roll((up, -right), (0, 1)).expand_as(seen)

    def share_right():
        source, target = features.flatten(3)
        return ((source.transpose(1, 2) @ target).argmax(2).reshape(seen.shape) == wanted)[seen].float().mean()

    assert share_right() < 0.1
    optimiser = torch.optim.SGD([features], lr=20.0)
    for _ in range(60):
        optimiser.zero_grad()
        matching_loss(*features, batch).backward()
        optimiser.step()
    assert share_right() == 1
    source_gradient = features.grad[0].abs().sum(1)
    assert (source_gradient[seen] > 0).all() and (source_gradient[~seen] == 0).all()


def test_matching_asks_some_of_the_visible_cells_always_the_same(batch):
    features = random_like(2, 2, 8, CELLS, CELLS, seed=6).requires_grad_()
    gradients = [torch.autograd.grad(matching_loss(*features, batch, cells=10), features)[0] for _ in range(2)]
    assert torch.equal(*gradients)
    asked = gradients[0][0].abs().sum(1) > 0
    assert (asked.flatten(1).sum(1) == 10).all()
    assert centres(batch.visible)[asked].all()


# --- the pose


def test_the_true_pose_costs_nothing(batch):
    assert pose_loss(batch.T_gt, batch) == 0
    assert (point_distance(batch.T_gt, batch) == 0).all()


@pytest.mark.parametrize("shift", [(0.02, 0, 0), (0, -0.02, 0), (0.01, -0.01, 0), (0, 0, 0.02), (0, 0, -0.02)])
def test_a_shift_costs_its_length_over_the_diameter(batch, shift):
    T = moved(batch.T_gt, shift)
    assert pose_loss(T, batch).item() == pytest.approx(0.02 / DIAMETER, rel=1e-4)
    torch.testing.assert_close(point_distance(T, batch), torch.full((2,), 0.2), rtol=1e-4, atol=0)


def test_a_turn_about_the_centre_costs_what_the_points_move(batch):
    turn = exp_so3(torch.tensor([[0.2, -0.3, 0.1]]))
    T = batch.T_gt.clone()
    T[:, :3, :3] = turn @ T[:, :3, :3]
    T[:, :3, 3] += ((batch.T_gt[:, :3, :3] - T[:, :3, :3]) @ batch.center[:, :, None])[..., 0]
    torch.testing.assert_close(pose_loss(T, batch), point_distance(T, batch).mean(), rtol=1e-4, atol=0)
    assert pose_loss(T, batch) > 0.05
    shifted = pose_loss(moved(T, (0.01, 0.0, -0.02)), batch)
    assert shifted.item() == pytest.approx(pose_loss(T, batch).item() + 0.3, rel=1e-4)


def test_one_sample_astray_does_not_drown_the_batch(batch):
    T = moved(batch.T_gt, (0.02, 0.0, 0.0))
    T[1, 0, 3] += 1000.0
    T.requires_grad_()
    cost = pose_loss(T, batch)
    cost.backward()
    assert cost.item() == pytest.approx((0.2 + 2.0) / 2, rel=1e-4)
    assert T.grad[0].any() and not T.grad[1].any()
