"""What every renderer gives: one protocol, one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class JointRenderer(Renderer, Protocol):
    """A renderer to which views of several meshes are one piece of work."""

    def render_each(self, meshes: Sequence[Mesh], T_cam_obj: torch.Tensor, K: torch.Tensor,
                    size: tuple[int, int]) -> Rendering:
        """As `render`, view i of meshes[i]."""
        ...


def render_each(renderer: Renderer, meshes: Sequence[Mesh], T_cam_obj: torch.Tensor, K: torch.Tensor,
                size: tuple[int, int]) -> Rendering:
    """Render view i of meshes[i], for poses T_cam_obj [B,4,4] and K [B,3,3]: at once where the renderer can.

    Raises GeometryError when the shapes do not fit each other.
    """
    if isinstance(renderer, JointRenderer):
        return renderer.render_each(meshes, T_cam_obj, K, size)
    check_meshes(meshes, K)
    views = [renderer.render(mesh, T_cam_obj[i:i + 1], K[i:i + 1], size) for i, mesh in enumerate(meshes)]
    return joined(views)


def joined(renderings: Sequence[Rendering]) -> Rendering:
    """The views of several renderings, one after the other."""
    return Rendering(*(torch.cat([getattr(views, f.name) for views in renderings]) for f in fields(Rendering)))


def check_meshes(meshes: Sequence[Mesh], K: torch.Tensor) -> None:
    """GeometryError unless there is a mesh for each of the intrinsics [B,3,3]."""
    if len(meshes) != len(K):
        raise GeometryError(f"meshes: expected {len(K)}, one per pose, got {len(meshes)}")


def check_views(T_cam_obj: torch.Tensor, K: torch.Tensor,
                size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Poses [B,4,4] and intrinsics [B,3,3] as float32 arrays; GeometryError when shapes are wrong."""
    check_shapes(T_cam_obj, K, size)
    return (T_cam_obj.detach().cpu().numpy().astype(np.float32),
            K.detach().cpu().numpy().astype(np.float32))


def check_shapes(T_cam_obj: torch.Tensor, K: torch.Tensor, size: tuple[int, int]) -> None:
    """GeometryError unless poses are [B,4,4], intrinsics [B,3,3] and the size (height, width); reads no number."""
    if T_cam_obj.ndim != 3 or T_cam_obj.shape[1:] != (4, 4):
        raise GeometryError(f"T_cam_obj: expected shape [B, 4, 4], got {list(T_cam_obj.shape)}")
    if K.shape != (len(T_cam_obj), 3, 3):
        raise GeometryError(f"K: expected shape [{len(T_cam_obj)}, 3, 3], one per pose, got {list(K.shape)}")
    if len(size) != 2 or min(size) < 1:
        raise GeometryError(f"size: expected a positive (height, width), got {size}")


def pixel_rays(K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Ray directions [B,H*W,3] float32 with z = 1 of the pixel centres under K [B,3,3]."""
    height, width = size
    rays = np.ones((len(K), height, width, 3), np.float32)
    rays[..., 0] = ((np.arange(width) - K[:, 0, 2, None]) / K[:, 0, 0, None])[:, None, :]
    rays[..., 1] = ((np.arange(height) - K[:, 1, 2, None]) / K[:, 1, 1, None])[:, :, None]
    return rays.reshape(len(K), height * width, 3)
