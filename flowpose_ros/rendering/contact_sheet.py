"""One picture of an object from all sides, as its templates show it."""

from __future__ import annotations

import numpy as np
import torch

from flowpose_ros.geometry.rotations import super_fibonacci
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.renderer import Renderer

ROWS, COLUMNS = 4, 6
VIEW_PIXELS = 160
DISTANCE_IN_RADII = 5.0
FILL = 0.92
"""Share of a view's side that the object's bounding sphere takes."""
BACKGROUND = 0.94


def contact_sheet(mesh: Mesh, renderer: Renderer) -> np.ndarray:
    """The picture [H,W,3] uint8 of ROWS x COLUMNS views, their rotations spread evenly."""
    T_cam_obj, K = _views(mesh, ROWS * COLUMNS)
    views = renderer.render(mesh, T_cam_obj, K, (VIEW_PIXELS, VIEW_PIXELS))
    rgb = torch.where(views.mask[:, None], views.rgb, torch.tensor(BACKGROUND)).permute(0, 2, 3, 1).numpy()
    grid = rgb.reshape(ROWS, COLUMNS, VIEW_PIXELS, VIEW_PIXELS, 3).swapaxes(1, 2)
    return np.round(255 * grid.reshape(ROWS * VIEW_PIXELS, COLUMNS * VIEW_PIXELS, 3).clip(0, 1)).astype(np.uint8)


def _views(mesh: Mesh, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """T_cam_obj [count,4,4] that look at the mesh's centre, and K [count,3,3] that its sphere fits into."""
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = super_fibonacci(count)
    T[:, :3, 3] = (0, 0, DISTANCE_IN_RADII * mesh.radius) - T[:, :3, :3] @ mesh.center
    focal = FILL * VIEW_PIXELS / 2 * np.sqrt(DISTANCE_IN_RADII**2 - 1)
    middle = (VIEW_PIXELS - 1) / 2
    K = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    return torch.from_numpy(T), torch.from_numpy(np.tile(K, (count, 1, 1)))
