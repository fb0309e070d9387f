"""Where an object of known size and rotation stands, from the box it fills in the image, and how well a pose fills it."""

from __future__ import annotations

import torch

from flowpose_ros.geometry.camera import box_around, project
from flowpose_ros.geometry.transforms import transform_points

SLACK, REACH = 0.1, 0.2
"""A side is where it belongs up to so many of the box's own sides off, and as wrong as it can be so many farther on."""


def translation_from_box(points: torch.Tensor, R: torch.Tensor, box: torch.Tensor, K: torch.Tensor,
                         *, iterations: int = 4) -> torch.Tensor:
    """Translations t [B,3] metres that make the projected object fill a 2D box.

    points [N,3] on the object, object frame; R [B,3,3] rotations R_cam_obj; box [4] or [B,4] pixels
    (left, top, right, bottom); K [3,3] or [B,3,3]. The object's origin may lie anywhere.
    Source: MegaPose's rule (start at 1 m on the ray through the box's centre, depth from the
    object's extents, mean of both directions), then `iterations` corrections with the true
    perspective.
    """
    # What the box tells is where the body is; the origin of a CAD part may be metres from it.
    points = points.to(R)
    body = (points.amin(0) + points.amax(0)) / 2
    B = R.shape[0]
    box, K = box.to(R).expand(B, 4), K.to(R).expand(B, 3, 3)
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], -1)
    principal = torch.stack([K[:, 0, 2], K[:, 1, 2]], -1)
    centre = (box[:, :2] + box[:, 2:]) / 2
    size = (box[:, 2:] - box[:, :2]).clamp_min(1.0)  # a box thinner than a pixel tells no distance
    rotated = (points - body) @ R.transpose(-1, -2)
    # Nearer than this the object would reach behind the camera.
    nearest = -1.05 * rotated[..., 2].amin(1, keepdim=True).clamp_max(-1e-6)

    extent = (rotated.amax(1) - rotated.amin(1))[:, :2]
    z = torch.maximum((focal * extent / size).mean(1, keepdim=True), nearest)
    t = torch.cat([(centre - principal) / focal * z, z], -1)
    for _ in range(iterations):
        now = box_around(project(rotated + t[:, None], K))
        t = t * torch.maximum(((now[:, 2:] - now[:, :2]) / size).mean(1, keepdim=True),
                              nearest / t[:, 2:])
        now = box_around(project(rotated + t[:, None], K))
        shift = (centre - (now[:, :2] + now[:, 2:]) / 2) / focal * t[:, 2:]
        t = torch.cat([t[:, :2] + shift, t[:, 2:]], -1)
    return t - R @ body


def sides_off(points: torch.Tensor, T_cam_obj: torch.Tensor, box: torch.Tensor, K: torch.Tensor,
              size: tuple[int, int]) -> torch.Tensor:
    """How many sides [B], 0 to 4, of the boxes that poses T_cam_obj [B,4,4] fill in an image of `size` (height, width) are
    off a detection's box [4].

    A side counts by degrees from SLACK to SLACK + REACH, for detectors' boxes are not exact, and no more beyond: where
    something hides part of an object, they end there. points [N,3] on the object; K [3,3]; pixels.
    """
    height, width = size
    own = box_around(project(transform_points(T_cam_obj, points), K))
    corner = own.new_tensor([width, height, width, height]) - 0.5
    own = torch.minimum(own.clamp_min(-0.5), corner)
    length = (box[2:] - box[:2]).clamp_min(1.0).repeat(2)
    return (((own - box).abs() / length - SLACK) / REACH).clamp(0, 1).sum(-1)
