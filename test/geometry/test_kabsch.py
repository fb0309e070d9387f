"""The closed-form rigid fit: exact data, weights, mirror images and degenerate sets."""

import pytest
import torch

from flowpose_ros.geometry.kabsch import weighted_kabsch
from flowpose_ros.geometry.transforms import exp_so3, make_transform, transform_points


def cloud(B, N, seed=0):
    return 0.1 * torch.randn(B, N, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("N", [3, 4, 50])
def test_exact_pairs_give_the_truth(poses, N):
    T, source = poses(20), cloud(20, N)
    found, ok = weighted_kabsch(source, transform_points(T, source), torch.ones(20, N).double())
    assert ok.all() and torch.allclose(found, T, atol=1e-9)


def test_points_of_no_weight_have_no_say(poses):
    T, source = poses(5), cloud(5, 20)
    target, weight = transform_points(T, source), torch.ones(5, 20).double()
    target[:, 10:15], target[:, 15:], weight[:, 10:] = 7.0, torch.nan, 0.0
    found, ok = weighted_kabsch(source, target, weight)
    assert ok.all() and torch.allclose(found, T, atol=1e-9)


def test_no_nearby_pose_fits_noisy_weighted_pairs_better(poses):
    T, source = poses(4), cloud(4, 30)
    target = transform_points(T, source) + cloud(4, 30, seed=1) / 10
    weight = torch.rand(4, 30, generator=torch.Generator().manual_seed(2)).double()

    def cost(pose):
        return (weight * (transform_points(pose, source) - target).square().sum(-1)).sum(1)

    found, _ = weighted_kabsch(source, target, weight)
    for w in 0.01 * cloud(1, 30, seed=3)[0]:
        near = make_transform(exp_so3(w), w.flip(0))
        assert (cost(near @ found) >= cost(found)).all()


def test_a_mirror_image_still_gives_a_rotation():
    source = cloud(3, 10)
    found, _ = weighted_kabsch(source, source * torch.tensor([1.0, 1, -1]), torch.ones(3, 10).double())
    assert torch.allclose(torch.linalg.det(found[:, :3, :3]), torch.ones(3).double())


@pytest.mark.parametrize("source, weight", [
    (torch.arange(4.0)[:, None] * torch.tensor([[0.1, 0.2, 0.3]]), torch.ones(4)),
    (torch.ones(4, 3), torch.ones(4)),
    (torch.randn(4, 3), torch.tensor([1.0, 1, 0, 0])),
    (torch.randn(4, 3), torch.zeros(4)),
    (torch.full((4, 3), torch.nan), torch.ones(4)),
], ids=["line", "one place", "two points", "no weight", "no numbers"])
def test_degenerate_sets_are_reported_and_give_the_identity(source, weight):
    T, ok = weighted_kabsch(source[None], source[None] + 1, weight[None])
    assert not ok.any() and torch.equal(T[0], torch.eye(4))
