"""One RANSAC loop, two minimal problems: truth under outliers, masks, seeds and hopeless data."""

import pytest
import torch

from flowpose_ros.geometry.camera import project
from flowpose_ros.geometry.p3p import solve_p3p
from flowpose_ros.geometry.ransac import KabschProblem, P3pProblem, RansacOptions, run_ransac
from flowpose_ros.geometry.transforms import rotation_angle, transform_points

K = torch.tensor([[500.0, 0, 80], [0, 500, 80], [0, 0, 1]])


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def problem(kind, T, outliers, N=1000, mask=None):
    """B problems whose first `outliers` share of data is random."""
    B, bad = len(T), int(outliers * N)
    points = 0.05 * noise(1, B, N, 3)
    seen = transform_points(T, points)
    mask = torch.ones(B, N, dtype=torch.bool) if mask is None else mask
    if kind == "kabsch":
        target = seen + 0.001 * noise(2, B, N, 3)
        target[:, :bad] += 0.1 * noise(3, B, bad, 3)
        return KabschProblem(points, target, mask, torch.full((B,), 0.005))
    pixels = project(seen, K) + 0.5 * noise(2, B, N, 2)
    pixels[:, :bad] += 60 * noise(3, B, bad, 2)
    return P3pProblem(points, pixels, mask, K.expand(B, 3, 3), torch.full((B,), 2.0))


def run(p, seed=0, **options):
    return run_ransac(p, RansacOptions(**options), torch.Generator().manual_seed(seed))


def test_p3p_has_the_truth_among_its_answers(poses):
    T = poses(2000)
    X = 0.07 * torch.randn(2000, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    found, ok = solve_p3p(X, transform_points(T, X))
    error = (found - T[:, None]).abs().amax((2, 3)).masked_fill(~ok, torch.inf).amin(1)
    assert (error < 1e-6).float().mean() > 0.999


def test_p3p_rejects_three_points_on_a_line():
    X = torch.tensor([[[0.0, 0, 1], [0.1, 0, 1], [0.2, 0, 1]]]).double()
    assert not solve_p3p(X, X)[1].any()


@pytest.mark.parametrize("kind", ["kabsch", "p3p"])
@pytest.mark.parametrize("outliers", [0.0, 0.3, 0.6])
def test_the_truth_is_found_under_outliers(poses, kind, outliers):
    T = poses(4, torch.float32)
    found = run(problem(kind, T, outliers))
    assert found.found.all()
    assert (rotation_angle(found.T[:, :3, :3], T[:, :3, :3]) < 0.01).all()
    assert ((found.T - T)[:, :3, 3].norm(dim=1) < 0.003).all()
    assert torch.allclose(found.inlier_ratio, torch.tensor(1 - outliers), atol=0.05)


@pytest.mark.parametrize("kind", ["kabsch", "p3p"])
def test_masked_data_neither_vote_nor_count(poses, kind):
    T = poses(3, torch.float32)
    mask = torch.ones(3, 1000, dtype=torch.bool)
    mask[:, :800] = False
    p = problem(kind, T, 0.8, mask=mask)
    (p.target if kind == "kabsch" else p.pixels)[:, :100] = torch.nan
    found = run(p)
    assert not found.inlier[:, :800].any()
    assert (found.inlier_ratio > 0.9).all()


@pytest.mark.parametrize("kind", ["kabsch", "p3p"])
def test_problems_without_data_are_not_found_and_leave_the_others(poses, kind):
    T = poses(3, torch.float32)
    mask = torch.ones(3, 1000, dtype=torch.bool)
    mask[1], mask[2, 2:] = False, False
    found = run(problem(kind, T, 0.0, mask=mask))
    assert found.found[0] and not found.found[1]
    assert found.inlier[1].sum() == 0 and found.inlier[2].sum() <= 2
    assert torch.isfinite(found.T).all()


def test_the_seed_alone_decides(poses):
    p = problem("kabsch", poses(2, torch.float32), 0.5)
    assert torch.equal(run(p, seed=3).T, run(p, seed=3).T)
    assert not torch.equal(run(p, seed=3, refits=0, hypotheses=4).T, run(p, seed=4, refits=0, hypotheses=4).T)


def test_refits_do_not_lose_support(poses):
    p = problem("kabsch", poses(6, torch.float32), 0.5)
    raw, refitted = run(p, refits=0, hypotheses=32), run(p, refits=2, hypotheses=32)
    assert (refitted.inlier.sum(1) >= 0.95 * raw.inlier.sum(1)).all()
    error = [(p.residual(r.T[:, None])[:, 0] * (torch.arange(1000) >= 500)).sum(1) for r in (raw, refitted)]
    assert (error[1] < error[0]).all()
