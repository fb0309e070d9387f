"""Sets of rotations: cover, uniformity and the logarithm."""

import math

import numpy as np
import pytest
import torch

from flowpose_ros.errors import GeometryError
from flowpose_ros.geometry.rotations import (angles_between, from_quaternions, log_so3, mean_nearest_angle,
                                             perturb_rotations, random_rotations, super_fibonacci)
from flowpose_ros.geometry.transforms import exp_so3, rotation_angle


@pytest.mark.parametrize("R", [super_fibonacci(100), random_rotations(100, np.random.default_rng(0))])
def test_they_are_rotations(R):
    assert np.allclose(R @ R.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(R), 1)


def test_the_spiral_covers_evenly_better_than_chance():
    even = mean_nearest_angle(super_fibonacci(500))
    chance = mean_nearest_angle(random_rotations(500, np.random.default_rng(1)))
    assert even < 0.9 * chance
    # Eight times as many rotations stand twice as close.
    assert mean_nearest_angle(super_fibonacci(4000)) == pytest.approx(even / 2, rel=0.1)


def test_no_rotations_are_refused():
    with pytest.raises(GeometryError, match="at least 1"):
        super_fibonacci(0)


def test_quaternion_by_hand():
    half = math.sqrt(0.5)
    assert np.allclose(from_quaternions(np.array([[half, 0, 0, half]]))[0], [[0, -1, 0], [1, 0, 0], [0, 0, 1]])


def test_angles_between_agree_with_the_pairwise_ones():
    rng = np.random.default_rng(2)
    a, b = random_rotations(4, rng), random_rotations(3, rng)
    slow = [[rotation_angle(torch.tensor(p), torch.tensor(q)).item() for q in b] for p in a]
    assert np.allclose(angles_between(a, b), slow)


def test_noise_has_the_asked_size():
    R = random_rotations(4000, np.random.default_rng(3))
    moved = perturb_rotations(R, 0.05, np.random.default_rng(4))
    w = log_so3(torch.tensor(moved @ R.transpose(0, 2, 1)))
    assert w.std(0).numpy() == pytest.approx(np.full(3, 0.05), rel=0.05)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, 3.0, math.pi - 1e-7])
def test_log_undoes_exp(angle):
    axes = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(5)).double(), dim=1)
    assert torch.allclose(log_so3(exp_so3(angle * axes)), angle * axes, atol=1e-8)
