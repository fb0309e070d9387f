"""The translation that makes an object fill a box."""

import pytest
import torch

from flowpose_ros.geometry.box import translation_from_box
from flowpose_ros.geometry.camera import box_around, project
from flowpose_ros.geometry.transforms import transform_points

K = torch.tensor([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]], dtype=torch.float64)


@pytest.mark.parametrize("origin", [0.0, 0.3])
def test_the_true_box_gives_the_true_translation(poses, origin):
    points = 0.05 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double() + origin * 0.1
    T = poses(8)
    box = box_around(project(transform_points(T, points), K))
    t = translation_from_box(points, T[:, :3, :3], box, K)
    assert ((t - T[:, :3, 3]).norm(dim=1) < 2e-3).all()


def test_a_box_of_no_width_gives_a_finite_place_before_the_camera():
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)).double() * 0.05
    t = translation_from_box(points, torch.eye(3).double()[None], torch.tensor([100.0, 100, 100, 100]), K)
    assert torch.isfinite(t).all() and t[0, 2] > 0


def test_a_box_larger_than_the_view_keeps_the_object_before_the_camera():
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(2)).double() * 0.05
    t = translation_from_box(points, torch.eye(3).double()[None], torch.tensor([-9e3, -9e3, 9e3, 9e3]), K)
    assert ((points + t)[..., 2] > 0).all()
