"""Ground truth of many pairs at once: the batched twin of training.targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from flowpose_ros.geometry.camera import pixel_grid, project
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.rendering.renderer import Rendering
from training.targets import LEAST_TOLERANCE, TOLERANCE


def flow_targets(render: Rendering, depth: torch.Tensor, T_init: torch.Tensor, T_gt: torch.Tensor, K: torch.Tensor,
                 diameter: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow [B,2,S,S] pixels, 0 off the object, and visible [B,S,S] bool of B renders at T_init [B,4,4]: what
    `targets.flow_target` says of one.

    depth [B,S,S] clean depth of the queries; T_gt [B,4,4]; K [B,3,3]; diameter [B] metres.
    """
    B, size = len(depth), depth.shape[-1]
    points = transform_points(T_gt, render.xyz.flatten(2).mT)
    pixels = pixel_grid(size, size, depth.device).reshape(1, -1, 2)
    target = project(points, K)
    normal = render.normal.flatten(2).mT @ (T_gt[:, :3, :3] @ T_init[:, :3, :3].mT).mT
    facing = (normal * points).sum(-1) < 0
    inside = ((target > -0.5) & (target < size - 0.5)).all(-1) & (points[..., 2] > 0)
    near = _depth_apart(points[..., 2], target, depth) < (TOLERANCE * diameter).clamp_min(LEAST_TOLERANCE)[:, None]
    mask = render.mask.flatten(1)
    flow = torch.where(mask[..., None], target - pixels, 0).mT.reshape(B, 2, size, size).contiguous()
    return flow, (mask & facing & inside & near).reshape(B, size, size)


def _depth_apart(z: torch.Tensor, target: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Smallest difference [B,N] of depths z [B,N] to the four pixels around targets [B,N,2]."""
    size = depth.shape[-1]
    low = target.floor().clamp(-1, size).long()
    padded = F.pad(depth[:, None], (1, 2, 1, 2), mode="replicate").flatten(1)
    corner = (low[..., 1] + 1) * (size + 3) + low[..., 0] + 1
    return torch.stack([(padded.gather(1, corner + step) - z).abs()
                        for step in (0, 1, size + 3, size + 4)]).amin(0)
