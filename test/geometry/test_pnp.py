"""Weighted PnP: constructed truths, a slow twin, its gradient, and what must leave the pose alone."""

import dataclasses

import numpy as np
import pytest
import torch

from flowpose_ros.geometry import pnp
from flowpose_ros.geometry.camera import project
from flowpose_ros.geometry.transforms import exp_so3, rotation_angle
from reference import pnp as slow

K = torch.tensor([[300.0, 0, 79.5], [0, 310, 79.5], [0, 0, 1]]).double()


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(B=4, N=60, pixel_noise=0.0):
    """A problem, its truth (R, t), and a start about 10 degrees and a tenth of a radius away."""
    points = torch.nn.functional.normalize(noise(0, B, N, 3), dim=-1)
    R, t = exp_so3(noise(1, B, 3)), torch.tensor([0.1, -0.2, 6.0]).double().expand(B, 3)
    target = project(points @ R.transpose(1, 2) + t[:, None], K) + pixel_noise * noise(2, B, N, 2)
    weight = pnp.normalise_weights(torch.rand(B, N, 2, generator=torch.Generator().manual_seed(3)).double() + 0.1)
    problem = pnp.PnpProblem(points, target, weight, K.expand(B, 3, 3), 160.0)
    start = exp_so3(0.1 * noise(4, B, 3)) @ R, t + 0.1 * noise(5, B, 3)
    return problem, (R, t), start


def moved(R, t, start):
    return (rotation_angle(R, start[0]) + (t - start[1]).norm(dim=1)).max()


def test_exact_targets_give_the_truth():
    problem, (R_true, t_true), start = case()
    R, t = pnp.solve_pnp(problem, *start, lm_steps=8)
    assert rotation_angle(R, R_true).max() < 1e-5 and (t - t_true).norm(dim=1).max() < 1e-4


def test_noisy_targets_give_the_slow_twins_minimum():
    problem, _, start = case(B=2, N=30, pixel_noise=2.0)
    R, t = pnp.solve_pnp(problem, *start, lm_steps=15)
    for i in range(2):
        twin = slow.solve(*(x[i].numpy() for x in (*start, problem.points, problem.target, problem.weight)), K.numpy())
        assert np.allclose(R[i], twin[0], atol=1e-5) and np.allclose(t[i], twin[1], atol=1e-4)


def test_jacobian_is_the_finite_difference_of_the_residual():
    problem, _, (R, t) = case(B=1, pixel_noise=3.0)
    _, g, _ = pnp.normal_equations(problem, R, t)

    def cost(step):
        return pnp.normal_equations(problem, *pnp.apply_step(R, t, step))[2].square().sum() / 2

    steps = 1e-6 * torch.eye(6).double()
    want = torch.stack([(cost(e[None]) - cost(-e[None])) / 2e-6 for e in steps])
    assert torch.allclose(g[0], want, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["target", "weight"])
def test_gradient_is_that_of_the_last_step(name):
    problem, _, start = case(B=1, N=30, pixel_noise=1.0)
    value = getattr(problem, name)
    probe_R, probe_t = noise(6, 3, 3), noise(7, 3)

    def answer(x):
        R, t = pnp.solve_pnp(dataclasses.replace(problem, **{name: x}), *start, lm_steps=0)
        return (R * probe_R).sum() + (t * probe_t).sum()

    x = value.clone().requires_grad_()
    answer(x).backward()
    step = 1e-3 if name == "target" else 1e-5
    for n, axis in [(0, 0), (7, 1), (29, 0)]:
        e = torch.zeros_like(value)
        e[0, n, axis] = step
        want = (answer(value + e) - answer(value - e)) / (2 * step)
        assert x.grad[0, n, axis].item() == pytest.approx(want.item(), rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("used", [0, 1, pnp.MIN_POINTS - 1])
def test_too_few_points_keep_the_start_and_leave_the_others(used):
    problem, truth, start = case()
    problem.weight[0, used:] = 0
    R, t = pnp.solve_pnp(problem, *start)
    assert torch.equal(R[0], start[0][0]) and torch.equal(t[0], start[1][0])
    assert moved(R[1:], t[1:], [x[1:] for x in truth]) < 0.01


def test_points_in_one_place_keep_the_start():
    problem, _, start = case()
    problem = dataclasses.replace(problem, points=torch.zeros_like(problem.points))
    R, _ = pnp.solve_pnp(problem, *start)
    assert torch.isfinite(R).all() and rotation_angle(R, start[0]).max() < 1e-6


def test_steps_are_capped_under_absurd_targets():
    problem, _, start = case()
    problem = dataclasses.replace(problem, target=problem.target + 1e4 * noise(8, *problem.target.shape))
    R, t = pnp.solve_pnp(problem, *start, lm_steps=0)
    assert rotation_angle(R, start[0]).max() <= pnp.MAX_ROTATION + 1e-6
    assert (t - start[1]).norm(dim=1).max() <= pnp.MAX_TRANSLATION + 1e-6


def test_points_behind_the_camera_do_not_count():
    problem, truth, start = case()
    problem.points[:, :10] = -20 * truth[0][:, 2][:, None]
    R, t = pnp.solve_pnp(problem, *start, lm_steps=8)
    assert moved(R, t, truth) < 1e-3


def test_normalised_weights_have_mean_one_over_those_in_use():
    weight = torch.tensor([[[2.0, 4.0], [0.0, 6.0]], [[0.0, 0.0], [0.0, 0.0]]])
    found = pnp.normalise_weights(weight)
    assert found[0][found[0] > 0].mean().item() == pytest.approx(1.0)
    assert not found[1].any()


def test_transforms_go_there_and_back(poses):
    T, center, radius = poses(5), noise(9, 5, 3), torch.rand(5).double() + 0.1
    assert torch.allclose(pnp.to_transform(*pnp.from_transform(T, center, radius), center, radius), T)


def test_covariance_matches_the_spread_of_solutions():
    problem, (R, t), _ = case(B=1, N=100)
    many = 400
    flat = dataclasses.replace(problem, points=problem.points.expand(many, -1, -1), K=K.expand(many, 3, 3),
                               weight=torch.ones(many, 100, 2).double(),
                               target=problem.target + noise(10, many, 100, 2))
    R_all, t_all = pnp.solve_pnp(flat, R.expand(many, 3, 3), t.expand(many, 3))
    radius = torch.full((many,), 0.05).double()
    claimed = pnp.pose_covariance(flat, R_all, t_all, radius, correlated_points=1.0).mean(0).diagonal().sqrt()
    assert claimed[:3].numpy() == pytest.approx((t_all * 0.05).std(0).numpy(), rel=0.15)
