"""The translation that makes an object fill a box, and the sides of a box that a pose does not fill."""

import pytest
import torch

from flowpose_ros.geometry.box import SLACK, sides_off, translation_from_box
from flowpose_ros.geometry.camera import box_around, project
from flowpose_ros.geometry.transforms import transform_points

K = torch.tensor([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]], dtype=torch.float64)


@pytest.mark.parametrize("origin", [(0.0, 0, 0), (0.03, 0.03, 0.03), (0, -3.0, 0), (10.0, 0, 0), (0, 0, 2.0)])
def test_the_true_box_gives_the_true_translation_wherever_the_files_origin_lies(poses, origin):
    origin = torch.tensor(origin).double()
    points = 0.05 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double() + origin
    T = poses(8)
    T[:, :3, 3] -= (T[:, :3, :3] @ origin[:, None])[..., 0]  # the body stays where it is
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


@pytest.fixture
def posed(poses):
    """Points, a pose [1,4,4] of theirs, and the box [4] that it fills."""
    points = 0.05 * torch.randn(200, 3, generator=torch.Generator().manual_seed(3)).double()
    T = poses(1)
    return points, T, box_around(project(transform_points(T, points), K))[0]


def off(posed, box, size=(10_000, 10_000)):
    points, T, _ = posed
    return float(sides_off(points, T, box, K, size))


def cut(box, side, share):
    """A box without a share of its length at one side."""
    rest = box.clone()
    rest[side] += share * (box[2:] - box[:2]).repeat(2)[side] * (1 if side < 2 else -1)
    return rest


def test_a_box_as_exact_as_detectors_are_is_filled(posed):
    *_, box = posed
    assert off(posed, box) == 0
    assert off(posed, box + 0.9 * SLACK * (box[2:] - box[:2]).repeat(2)) == 0


@pytest.mark.parametrize("side", range(4))
def test_a_side_counts_by_degrees_and_once_at_most(posed, side):
    *_, box = posed
    assert off(posed, cut(box, side, 1 / 6)) == pytest.approx(0.5)  # a fifth of what is left
    assert off(posed, cut(box, side, 1 / 3)) == pytest.approx(1.0)
    assert off(posed, cut(box, side, 2 / 3)) == pytest.approx(1.0)


def test_sides_count_for_themselves(posed):
    *_, box = posed
    assert off(posed, cut(cut(box, 0, 0.5), 3, 0.5)) == pytest.approx(2.0)
    assert off(posed, box + 5000) == pytest.approx(4.0)


def test_where_an_object_leaves_the_image_its_box_ends(posed):
    *_, box = posed
    width = float((box[0] + box[2]) / 2)
    clipped = box.clone()
    clipped[2] = width - 0.5
    assert off(posed, clipped, size=(10_000, round(width))) < 0.05
    assert off(posed, clipped) == pytest.approx(1.0)
