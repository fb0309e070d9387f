"""Rigid transforms against the matrix exponential and against each other."""

import math

import numpy as np
import pytest
import torch

from flowpose_ros.errors import GeometryError
from flowpose_ros.geometry.transforms import (check_transform, exp_so3, invert, make_transform,
                                              nearest_rotation, rotation_angle, skew, transform_points)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-3, 1.0, math.pi - 1e-6, math.pi, 5.0])
def test_exp_is_the_matrix_exponential(angle):
    w = angle * torch.tensor([0.36, -0.48, 0.8], dtype=torch.float64)
    assert torch.allclose(exp_so3(w), torch.matrix_exp(skew(w)), atol=1e-12)


def test_exp_has_a_finite_gradient_at_zero():
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    exp_so3(w)[2, 1].backward()
    assert torch.allclose(w.grad, torch.tensor([1.0, 0, 0], dtype=torch.float64))


@pytest.mark.parametrize("angle", [1e-6, 0.1, 3.1])
def test_rotation_angle_is_that_of_the_rotation_between(angle):
    R = exp_so3(torch.tensor([0.3, 1.0, -2.0], dtype=torch.float64))
    turned = R @ exp_so3(angle * torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64))
    assert rotation_angle(R, turned).item() == pytest.approx(angle, rel=1e-6)


def test_inverse_undoes_and_points_follow_the_matrix(poses):
    T = poses(5)
    points = torch.randn(5, 7, 3, dtype=torch.float64)
    moved = transform_points(T, points)
    homogeneous = torch.nn.functional.pad(points, (0, 1), value=1.0)
    assert torch.allclose(moved, torch.einsum("bij,bnj->bni", T, homogeneous)[..., :3])
    assert torch.allclose(transform_points(invert(T), moved), points)


def test_nearest_rotation_mends_a_rotation_and_never_reflects():
    R = exp_so3(torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64))
    assert torch.allclose(nearest_rotation(R * 1.1), R)
    assert torch.linalg.det(nearest_rotation(R @ torch.diag(torch.tensor([1.0, 1, -0.1]).double()))) > 0


@pytest.mark.parametrize("T, said", [
    (np.eye(3), "shape"),
    (np.full((4, 4), np.nan), "finite"),
    (np.diag([1.0, 1, -1, 1]), "right-handed"),
    (np.diag([1.01, 1, 1, 1]), "orthonormal"),
])
def test_check_says_what_is_wrong(T, said):
    with pytest.raises(GeometryError, match=f"T_cam_obj.*{said}"):
        check_transform(T, "T_cam_obj")


def test_check_accepts_a_rigid_transform(poses):
    T = poses(1)[0].numpy()
    assert np.array_equal(check_transform(T), T)
    assert np.array_equal(make_transform(torch.tensor(T[:3, :3]), torch.tensor(T[:3, 3])).numpy(), T)
