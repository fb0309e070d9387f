"""What every renderer gives: one protocol, one record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from flowpose_ros.objects.mesh import Mesh


@dataclass(frozen=True)
class Rendering:
    """B views of an object, each H x W; everything is 0 where `mask` is False.

    rgb [B,3,H,W] in [0,1]; depth [B,H,W] metres along z; normal [B,3,H,W] unit, camera frame,
    facing the camera; xyz [B,3,H,W] metres, object frame; mask [B,H,W] bool.
    """

    rgb: torch.Tensor
    depth: torch.Tensor
    normal: torch.Tensor
    xyz: torch.Tensor
    mask: torch.Tensor


class Renderer(Protocol):
    """Renders a mesh in an OpenCV camera; integer coordinates are pixel centres."""

    def render(self, mesh: Mesh, T_cam_obj: torch.Tensor, K: torch.Tensor,
               size: tuple[int, int]) -> Rendering:
        """Render B views: T_cam_obj [B,4,4] metres, K [B,3,3] pixels, size (height, width)."""
        ...
