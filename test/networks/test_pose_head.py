"""The learned pose head's parameters, and what they do to a pose."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from networks.views import S, bumpy_view

from flowpose_ros.geometry.camera import project
from flowpose_ros.geometry.transforms import exp_so3, make_transform, rotation_angle, transform_points
from flowpose_ros.networks.flow import RenderView
from flowpose_ros.networks.pose_head import TRANSLATION_UNIT, PoseHead, moved_pose, rotation_of


def posed_view() -> RenderView:
    """Two views whose objects' centres are far from their origins and off the optical axis."""
    view = bumpy_view(2)
    R = exp_so3(torch.tensor([[0.3, -1.0, 0.5], [2.0, 0.4, -0.1]]))
    center, middle = torch.tensor([[0.2, -0.1, 0.3], [0.0, 0.05, 0.0]]), torch.tensor([[0.03, -0.02, 0.5]])
    T = make_transform(R, middle - (R @ center[..., None])[..., 0])
    return replace(view, T_crop_obj=T, center=center, radius=torch.tensor([0.06, 0.02]))


def centre_of(T: torch.Tensor, view: RenderView) -> torch.Tensor:
    """The object's centre [B,3] in the camera, metres."""
    return transform_points(T, view.center[:, None])[:, 0]


def parameters_of(T: torch.Tensor, view: RenderView) -> torch.Tensor:
    """The parameters [B,9] that lead from a view's pose to T, by their definition."""
    R = T[:, :3, :3] @ view.T_crop_obj[:, :3, :3].transpose(1, 2)
    before, after = (centre_of(pose, view) for pose in (view.T_crop_obj, T))
    shift = (project(after[:, None], view.K) - project(before[:, None], view.K))[:, 0] / S
    columns = (R[..., :2] - torch.eye(3)[:, :2]).transpose(1, 2).flatten(1)
    ratio = torch.log(after[:, 2:] / before[:, 2:])
    return torch.cat([columns, torch.cat([shift, ratio], 1) / TRANSLATION_UNIT], 1)


def test_no_parameters_leave_the_pose():
    view = posed_view()
    torch.testing.assert_close(moved_pose(view, torch.zeros(2, 9)), view.T_crop_obj)


def test_the_parameters_of_a_relative_pose_lead_to_it():
    view = posed_view()
    R = exp_so3(torch.tensor([[0.5, 0.7, -0.9], [-2.0, 1.0, 0.3]])) @ view.T_crop_obj[:, :3, :3]
    middle = centre_of(view.T_crop_obj, view) + torch.tensor([[0.04, 0.02, -0.1], [-0.01, 0.0, 0.3]])
    T = make_transform(R, middle - (R @ view.center[..., None])[..., 0])
    torch.testing.assert_close(moved_pose(view, parameters_of(T, view)), T, atol=1e-5, rtol=0)


def test_each_parameter_does_its_part_alone():
    view = posed_view()
    before = centre_of(view.T_crop_obj, view)
    turned = moved_pose(view, torch.tensor([[0.2, 0.4, -0.3, 0.1, 0.0, 0.5, 0.0, 0.0, 0.0]]).expand(2, -1))
    torch.testing.assert_close(centre_of(turned, view), before)
    nearer = moved_pose(view, torch.tensor([[0.0] * 8 + [-3.0]]).expand(2, -1))
    torch.testing.assert_close(centre_of(nearer, view), before * math.exp(-3 * TRANSLATION_UNIT))
    sideways = moved_pose(view, torch.tensor([[0.0] * 6 + [1.0, -0.5, 0.0]]).expand(2, -1))
    pixels = project(centre_of(sideways, view)[:, None], view.K) - project(before[:, None], view.K)
    torch.testing.assert_close(pixels[:, 0], (S * TRANSLATION_UNIT * torch.tensor([1.0, -0.5])).expand(2, -1),
                               atol=1e-3, rtol=0)
    assert rotation_angle(sideways[:, :3, :3], view.T_crop_obj[:, :3, :3]).max() < 1e-3


def test_whatever_the_parameters_rotations_are_rotations():
    R = rotation_of(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(R @ R.transpose(1, 2), torch.eye(3).expand_as(R), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(50))


def test_crops_of_any_size_are_read():
    head, view = PoseHead(7), posed_view()
    for size in (32, 64, 96):
        torch.testing.assert_close(head(torch.rand(2, 7, size, size), torch.rand(2, 7, size, size), view),
                                   view.T_crop_obj)
