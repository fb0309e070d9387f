"""Draw a pose over an image: the object's outline, its axes, a label."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from flowpose_ros.evaluation.view import depth_in_window, window_of
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.raycast import RaycastRenderer

AXIS_COLORS = ((230, 60, 60), (60, 200, 60), (70, 110, 255))
"""RGB of the object's x, y and z axis."""


@dataclass(frozen=True)
class PoseStyle:
    """How a pose is drawn: color RGB, thickness in pixels, with or without axes."""

    color: tuple[int, int, int]
    thickness: int
    axes: bool


ESTIMATE_STYLE = PoseStyle((40, 235, 60), 2, True)
TRUTH_STYLE = PoseStyle((170, 210, 255), 1, False)


def draw_pose(image: np.ndarray, mesh: Mesh, T_cam_obj: np.ndarray, K: np.ndarray, renderer: RaycastRenderer,
              style: PoseStyle = ESTIMATE_STYLE, text: str = "") -> np.ndarray:
    """A copy of an image [H,W,3] uint8 RGB with the object's outline at T_cam_obj [4,4] under K [3,3].

    The same renderer should serve all calls: it keeps what it has built for a mesh.
    """
    drawn = np.ascontiguousarray(image).copy()
    contours = outline(mesh, T_cam_obj, K, image.shape[:2], renderer)
    cv2.drawContours(drawn, contours, -1, style.color, style.thickness, cv2.LINE_AA)
    if style.axes:
        _draw_axes(drawn, T_cam_obj, K, 0.5 * mesh.radius)
    if text and contours:
        _draw_text(drawn, text, np.concatenate(contours).reshape(-1, 2), style.color)
    return drawn


def outline(mesh: Mesh, T_cam_obj: np.ndarray, K: np.ndarray, size: tuple[int, int],
            renderer: RaycastRenderer) -> list[np.ndarray]:
    """Outlines [N,1,2] int32 pixels of the object's silhouette in an image of `size` (H, W), holes included."""
    window = window_of(mesh, T_cam_obj, K, size)
    if not window.area:
        return []
    mask = (depth_in_window(renderer, mesh, T_cam_obj, K, window) > 0).astype(np.uint8)
    found, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(window.left, window.top))
    return list(found)


def _draw_axes(image: np.ndarray, T_cam_obj: np.ndarray, K: np.ndarray, length: float) -> None:
    """Draw the object's frame in place, when all of it lies before the camera."""
    points = np.concatenate([np.zeros((1, 3)), length * np.eye(3)]) @ T_cam_obj[:3, :3].T + T_cam_obj[:3, 3]
    if (points[:, 2] <= 1e-3).any():
        return
    pixels = points @ K.T
    # Far outside the image a line would overflow the drawing function's integers.
    pixels = np.clip(pixels[:, :2] / pixels[:, 2:], -10_000, 10_000)
    origin, *ends = (tuple(int(round(c)) for c in pixel) for pixel in pixels)
    for end, color in zip(ends, AXIS_COLORS):
        cv2.line(image, origin, end, color, 2, cv2.LINE_AA)


def _draw_text(image: np.ndarray, text: str, around: np.ndarray, color: tuple[int, int, int]) -> None:
    """Write text in place above the points [N,2], inside the image, on a dark ground to be readable."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    left, top = around.min(0)
    x = int(np.clip(left, 2, max(2, image.shape[1] - width - 2)))
    y = int(np.clip(top - 6, height + 2, image.shape[0] - below))
    cv2.rectangle(image, (x - 2, y - height - 2), (x + width + 2, y + below - 1), (20, 22, 26), cv2.FILLED)
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, 1, cv2.LINE_AA)
