"""The geometry network's loss, and the truth that it is held against."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from flowpose_ros.geometry.camera import pixel_grid, project
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.networks.geometry_net import Geometry, positional_encoding
from flowpose_ros.rendering.raycast import RaycastRenderer
from training.geometry_loss import GeometryWeights, geometry_loss, laplace_nll, true_geometry
from training.pairs import PairBatch, PairMaker, collate

SIZE = 64
CELLS = 32
WEIGHTS = GeometryWeights()


@pytest.fixture(scope="module")
def made():
    """Three samples and what their objects are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWPOSE_DATA", "no_data")
        maker = PairMaker(0, SIZE)
        return [maker.sample_with_object(i) for i in range(3)]


@pytest.fixture(scope="module")
def batch(made) -> PairBatch:
    return collate([sample for sample, _ in made])


@pytest.fixture
def right(batch) -> Geometry:
    """What a network that knows the truth says, and is sure of."""
    pixel = (2 * pixel_grid(CELLS, CELLS) + 1).permute(2, 0, 1).expand(3, -1, -1, -1)
    xyz, visible = true_geometry(batch, pixel)
    return Geometry(positional_encoding(xyz), xyz, torch.full_like(visible, -4.0), 10 * visible - 5, pixel, visible,
                    batch.T_gt)


def loss_of(said: Geometry, batch: PairBatch, pose_share: float = 1.0):
    return geometry_loss(said, positional_encoding, batch, WEIGHTS, pose_share)


def test_the_truth_is_what_a_render_at_the_true_pose_shows(made, batch, right):
    for i, (_, thing) in enumerate(made):
        view = RaycastRenderer().render(thing.mesh, batch.T_gt[i:i + 1], batch.K[i:i + 1], (SIZE, SIZE))
        seen = right.weight[i, 0] > 0
        rendered = ((view.xyz[0] - batch.center[i, :, None, None]) / batch.radius[i])[:, 1::2, 1::2]
        apart = (right.xyz[i] - rendered).norm(dim=0)[seen & view.mask[0, 1::2, 1::2]]
        assert len(apart) > 20 and apart.quantile(0.9) < 0.03


def test_the_truth_lies_where_the_query_shows_it(batch, right):
    points = right.xyz * batch.radius[:, None, None, None] + batch.center[:, :, None, None]
    seen = project(transform_points(batch.T_gt, points.flatten(2).transpose(1, 2)), batch.K)
    visible = right.weight.flatten(1) > 0
    torch.testing.assert_close(seen[visible], right.pixel.flatten(2).transpose(1, 2)[visible], atol=0.02, rtol=0)


def test_the_truth_costs_least(batch, right):
    best, figures = loss_of(right, batch)
    assert figures["encoding"] == 0 and figures["points"] == 0 and figures["pose"] < 1e-6 < figures["start"]
    for wrong in (replace(right, encoded=right.encoded + 0.1), replace(right, xyz=right.xyz + 0.1),
                  replace(right, visible=-right.visible), replace(right, T_crop_obj=batch.T_init)):
        assert loss_of(wrong, batch)[0] > best + 0.02


def test_the_figures_are_mean_errors(batch, right):
    _, figures = loss_of(replace(right, xyz=right.xyz + 0.1, encoded=right.encoded - 0.2), batch)
    assert figures["points"].item() == pytest.approx(0.1 * math.sqrt(3), rel=1e-4)
    assert figures["encoding"].item() == pytest.approx(0.2, rel=1e-4)


def test_what_the_query_does_not_show_is_not_asked_for(batch, right):
    hidden = right.weight == 0
    said = replace(right, xyz=torch.where(hidden, 7.0, right.xyz), encoded=torch.where(hidden, -3.0, right.encoded),
                   log_scale=torch.where(hidden, 1.0, right.log_scale))
    torch.testing.assert_close(loss_of(said, batch)[0], loss_of(right, batch)[0])


def test_the_pose_counts_by_its_share(batch, right):
    at_start = replace(right, T_crop_obj=batch.T_init)
    none, half, whole = (loss_of(at_start, batch, share)[0] for share in (0.0, 0.5, 1.0))
    assert none < half < whole
    torch.testing.assert_close(half - none, whole - half)


def test_a_batch_that_shows_nothing_has_a_finite_loss_and_gradient(batch, right):
    nothing = replace(batch, target_depth=torch.zeros_like(batch.target_depth))
    leaves = {name: getattr(right, name).clone().requires_grad_()
              for name in ("encoded", "xyz", "log_scale", "visible")}
    total, _ = loss_of(replace(right, **leaves), nothing)
    total.backward()
    assert total.isfinite() and all(leaf.grad.isfinite().all() for leaf in leaves.values())
    assert leaves["visible"].grad.any() and not leaves["xyz"].grad.any()


def test_the_best_scale_is_the_mean_error():
    error = torch.distributions.Laplace(0.0, 0.05).sample((1, 3, 100, 100))
    scales = torch.linspace(-5, 0, 501)
    cost = torch.stack([laplace_nll(error, s.expand(1, 1, 100, 100)).mean() for s in scales])
    assert scales[cost.argmin()].exp().item() == pytest.approx(error.abs().mean().item(), rel=0.02)
