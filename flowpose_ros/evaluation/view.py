"""What part of the image an object's projection covers, and its depth there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.raycast import RaycastRenderer


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels: columns left..left+width-1, rows top..top+height-1."""

    left: int
    top: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Indices of the window in an array [H,W,...]."""
        return (slice(self.top, self.top + self.height), slice(self.left, self.left + self.width))

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    def union(self, other: Window) -> Window:
        """The smallest window around both; an empty one adds nothing."""
        if not self.area or not other.area:
            return self if self.area else other
        left, top = min(self.left, other.left), min(self.top, other.top)
        right = max(self.left + self.width, other.left + other.width)
        bottom = max(self.top + self.height, other.top + other.height)
        return Window(left, top, right - left, bottom - top)


def window_of(mesh: Mesh, T_cam_obj: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> Window:
    """The window of an image of `size` (H, W) outside which the object cannot be seen.

    T_cam_obj [4,4] metres; K [3,3] pixels. The whole image when a vertex lies in or behind the
    camera's plane, where projection says nothing; an empty window when all of them lie behind.
    """
    height, width = size
    points = mesh.vertices @ T_cam_obj[:3, :3].T + T_cam_obj[:3, 3]
    if (points[:, 2] <= 0).all():
        return Window(0, 0, 0, 0)
    if (points[:, 2] <= 1e-6).any():
        return Window(0, 0, width, height)
    pixels = points @ K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    left, top = np.clip(np.floor(pixels.min(0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(pixels.max(0)) + 1, 0, (width, height)).astype(int)
    return Window(left, top, max(right - left, 0), max(bottom - top, 0))


def depth_in_window(renderer: RaycastRenderer, mesh: Mesh, T_cam_obj: np.ndarray, K: np.ndarray,
                    window: Window) -> np.ndarray:
    """Depth [height,width] float32 metres along z of the object in a window, 0 where it is not seen."""
    depth = np.zeros((window.height, window.width), np.float32)
    if not window.area:
        return depth
    K_window = K.copy()
    K_window[:2, 2] -= (window.left, window.top)
    hits = renderer.cast(mesh, T_cam_obj[None].astype(np.float32), K_window[None].astype(np.float32), depth.shape)
    depth.ravel()[hits.pixel] = hits.z
    return depth
