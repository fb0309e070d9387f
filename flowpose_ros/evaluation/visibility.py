"""Which part of an annotated instance is seen: its visible share and the box around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowpose_ros.evaluation.view import Window, depth_in_window
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.raycast import RaycastRenderer


@dataclass(frozen=True)
class Visibility:
    """fract: visible share of the silhouette in [0,1]; box [4] float64 (left, top, right, bottom)
    pixels around the visible part, None where nothing is seen."""

    fract: float
    box: np.ndarray | None


def visibility_of_mask(mask: np.ndarray) -> Visibility:
    """Visibility from the mask [H,W] of the visible part alone.

    It does not tell how much is hidden, so an instance that is seen at all counts as seen whole.
    """
    box = box_of_mask(mask)
    return Visibility(0.0 if box is None else 1.0, box)


def box_of_mask(mask: np.ndarray) -> np.ndarray | None:
    """The box [4] (left, top, right, bottom) around the True pixels of a mask [H,W], or None."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float64)


def rendered_visibilities(meshes: Sequence[Mesh], transforms: Sequence[np.ndarray], K: np.ndarray,
                          size: tuple[int, int]) -> list[Visibility]:
    """Visibility of each instance when nothing but the other instances hides it.

    transforms T_cam_obj [4,4] metres; K [3,3] pixels; size (H, W).
    """
    if not meshes:
        return []
    renderer, window = RaycastRenderer(), Window(0, 0, size[1], size[0])
    depths = [depth_in_window(renderer, mesh, T, K, window) for mesh, T in zip(meshes, transforms)]
    nearest = np.min([np.where(depth > 0, depth, np.inf) for depth in depths], axis=0)
    found = []
    for depth in depths:
        visible = (depth > 0) & (depth <= nearest)
        found.append(Visibility(float(visible.sum() / max((depth > 0).sum(), 1)), box_of_mask(visible)))
    return found
