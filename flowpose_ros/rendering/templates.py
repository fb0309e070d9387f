"""Templates: an object seen from many sides, rendered once and kept on disk by content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flowpose_ros.cache import kept
from flowpose_ros.geometry.crops import PADDING, crop_for_poses
from flowpose_ros.geometry.rotations import super_fibonacci
from flowpose_ros.geometry.transforms import make_transform
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.renderer import Renderer

DISTANCE = 8.0
"""Distance of the templates' camera in object radii."""
CHUNK = 16
VERSION = "2"
"""Change it when templates of the same mesh come to look different."""


@dataclass(frozen=True)
class Templates:
    """N views of an object: rotations [N,3,3] float32 (object to crop camera), rgb [N,3,S,S] uint8,
    mask [N,S,S] bool."""

    rotations: torch.Tensor
    rgb: torch.Tensor
    mask: torch.Tensor


def view_cameras(mesh: Mesh, rotations: np.ndarray, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """T_crop_obj [N,4,4] and K_crop [N,3,3] of a mesh in rotations [N,3,3], filling crops of that size."""
    R = torch.from_numpy(np.ascontiguousarray(rotations)).float()
    ahead = torch.tensor([0.0, 0.0, DISTANCE * mesh.radius])
    T = make_transform(R, ahead - R @ torch.from_numpy(mesh.center).float())
    crop = crop_for_poses(torch.from_numpy(mesh.surface_points(500)), T, size, PADDING)
    return crop.to_crop(T), crop.K


def render_views(mesh: Mesh, renderer: Renderer, rotations: np.ndarray, size: int,
                 progress: Callable[[float], None] | None = None) -> Templates:
    """Views of a mesh in rotations [N,3,3], filling their crops as detections do; progress gets the
    share done."""
    T_crop_obj, K = view_cameras(mesh, rotations, size)
    rgb, mask = [], []
    for start in range(0, len(K), CHUNK):
        part = slice(start, start + CHUNK)
        view = renderer.render(mesh, T_crop_obj[part], K[part], (size, size))
        rgb.append((view.rgb * 255).round().to(torch.uint8).cpu())
        mask.append(view.mask.cpu())
        if progress is not None:
            progress(min(1.0, (start + CHUNK) / len(K)))
    return Templates(T_crop_obj[:, :3, :3].contiguous(), torch.cat(rgb), torch.cat(mask))


def load_templates(mesh: Mesh, renderer: Renderer, count: int, size: int, cache: Path,
                   progress: Callable[[float], None] | None = None) -> Templates:
    """`count` evenly spread views, from `cache` if it holds those of this very mesh.

    A file that is truncated, changed or of another kind is made again.
    """
    key = f"{VERSION} {mesh.content_hash} {count} {size} {PADDING} {DISTANCE}"
    return Templates(**kept(cache / "templates", key, lambda: vars(
        render_views(mesh, renderer, super_fibonacci(count), size, progress))))
