"""What every renderer gives: one protocol, one record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from flowpose_ros.errors import GeometryError
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

    def to(self, device: torch.device | str) -> Rendering:
        """The same views on a device."""
        return Rendering(self.rgb.to(device), self.depth.to(device), self.normal.to(device),
                         self.xyz.to(device), self.mask.to(device))


class Renderer(Protocol):
    """Renders a mesh in an OpenCV camera; integer coordinates are pixel centres."""

    def render(self, mesh: Mesh, T_cam_obj: torch.Tensor, K: torch.Tensor,
               size: tuple[int, int]) -> Rendering:
        """Render B views: T_cam_obj [B,4,4] metres, K [B,3,3] pixels, size (height, width).

        Raises GeometryError when the shapes do not fit each other.
        """
        ...


def check_views(T_cam_obj: torch.Tensor, K: torch.Tensor,
                size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Poses [B,4,4] and intrinsics [B,3,3] as float32 arrays; GeometryError when shapes are wrong."""
    if T_cam_obj.ndim != 3 or T_cam_obj.shape[1:] != (4, 4):
        raise GeometryError(f"T_cam_obj: expected shape [B, 4, 4], got {list(T_cam_obj.shape)}")
    if K.shape != (len(T_cam_obj), 3, 3):
        raise GeometryError(f"K: expected shape [{len(T_cam_obj)}, 3, 3], one per pose, got {list(K.shape)}")
    if len(size) != 2 or min(size) < 1:
        raise GeometryError(f"size: expected a positive (height, width), got {size}")
    return (T_cam_obj.detach().cpu().numpy().astype(np.float32),
            K.detach().cpu().numpy().astype(np.float32))


def pixel_rays(K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Ray directions [B,H*W,3] float32 with z = 1 of the pixel centres under K [B,3,3]."""
    height, width = size
    rays = np.ones((len(K), height, width, 3), np.float32)
    rays[..., 0] = ((np.arange(width) - K[:, 0, 2, None]) / K[:, 0, 0, None])[:, None, :]
    rays[..., 1] = ((np.arange(height) - K[:, 1, 2, None]) / K[:, 1, 1, None])[:, :, None]
    return rays.reshape(len(K), height * width, 3)
