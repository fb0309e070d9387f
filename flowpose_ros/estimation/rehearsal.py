"""An image of an object by itself, to estimate before the first image: what a GPU chooses and records at the first
estimate is done then."""

from __future__ import annotations

import torch

from flowpose_ros.estimation.views import Shape
from flowpose_ros.geometry.camera import box_around, project
from flowpose_ros.geometry.transforms import exp_so3, make_transform, transform_points
from flowpose_ros.records import Detection, Frame
from flowpose_ros.rendering.renderer import Renderer

HEIGHT, WIDTH, FOCAL = 480, 640, 600.0
AWAY, TURN = 4.0, (2.2, 0.5, 0.3)
"""Diameters from the camera, and the rotation vector."""


def rehearsal_pose(shape: Shape) -> torch.Tensor:
    """The pose T_cam_obj [1,4,4] in which an object is shown."""
    center = shape.center[None]
    R = exp_so3(center.new_tensor([TURN]))
    away = center.new_tensor([[0.0, 0.0, AWAY * shape.diameter]])
    return make_transform(R, away - (R @ center[..., None])[..., 0])


def rehearsal(shape: Shape, renderer: Renderer) -> tuple[Frame, Detection]:
    """A frame with depth that shows an object alone, and its detection."""
    T = rehearsal_pose(shape)
    K = T.new_tensor([[[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]]])
    seen = renderer.render(shape.model.mesh, T, K, (HEIGHT, WIDTH))
    picture = torch.where(seen.mask[:, None], seen.rgb, 0.5)[0].permute(1, 2, 0)
    box = box_around(project(transform_points(T, shape.points), K))[0]
    frame = Frame((255 * picture).round().byte().cpu().numpy(), K[0].double().cpu().numpy(),
                  seen.depth[0].cpu().numpy())
    return frame, Detection(shape.model.label, box.double().cpu().numpy())
