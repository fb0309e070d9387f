"""The crop of a pose: one rule for training and for inference."""

from __future__ import annotations

import torch

from flowpose_ros.geometry.camera import CropCamera, box_around, crop_around, look_at, project
from flowpose_ros.geometry.transforms import transform_points

PADDING = 1.35
"""Half side of a crop over half the longer side of the object's projection."""

NEAREST_Z = 0.01
WIDEST_TAN = 2.0


def crop_for_poses(points: torch.Tensor, T_cam_obj: torch.Tensor, size: int,
                   padding: float | torch.Tensor = PADDING) -> CropCamera:
    """Crop cameras that look at the object in each of B poses, with room around it.

    points [N,3] on the object, metres (or [B,N,3]); T_cam_obj [B,4,4]. The axis passes through the
    middle of the projected box; the half side is `padding`, one for all or [B], times the projection's reach from it.
    No intrinsics are needed: a crop is a bundle of viewing rays.
    """
    seen = transform_points(T_cam_obj, points)
    box = box_around(_plane(seen))
    middle = (box[:, :2] + box[:, 2:]) / 2
    rays = torch.cat([middle, torch.ones_like(middle[:, :1])], -1)
    turned = seen @ look_at(rays).transpose(-1, -2)
    reach = _plane(turned).abs().amax((1, 2))
    return crop_around(rays, (padding * reach).clamp(1e-4, WIDEST_TAN), size)


def _plane(points: torch.Tensor) -> torch.Tensor:
    """Points [B,N,3] projected to the plane z = 1, [B,N,2]."""
    return project(points, torch.eye(3, dtype=points.dtype, device=points.device), NEAREST_Z)
