"""Ground truth of a pair: where each render pixel went, and whether it can be seen there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

Picture = TypeVar("Picture", np.ndarray, torch.Tensor)

LEAST_TOLERANCE, TOLERANCE = 0.003, 0.02
"""Depth difference under which a point counts as seen: metres, and share of the diameter."""


@dataclass(frozen=True)
class FlowTarget:
    """flow [2,S,S] pixels from render to query, 0 off the object; visible [S,S] bool."""

    flow: np.ndarray
    visible: np.ndarray


def at_cells(picture: Picture, cells: int) -> Picture:
    """Values [...,cells,cells] of a picture [...,S,S] at the pixels where the cells of a field lie."""
    stride = picture.shape[-1] // cells
    return picture[..., stride // 2::stride, stride // 2::stride]


def depth_tolerance(diameter: float) -> float:
    """Depth difference under which a point counts as seen, metres."""
    return max(LEAST_TOLERANCE, TOLERANCE * diameter)


def flow_target(xyz: np.ndarray, normal: np.ndarray, mask: np.ndarray, depth_true: np.ndarray,
                T_init: np.ndarray, T_gt: np.ndarray, K: np.ndarray, diameter: float) -> FlowTarget:
    """Flow induced by T_init -> T_gt [4,4] on a render, and the visibility of its targets.

    xyz [3,S,S] object frame, metres; normal [3,S,S] camera frame of the render; mask [S,S];
    depth_true [S,S] clean depth of the query. A pixel is visible when its target lies in the
    picture, faces the camera, and is no further than depth_tolerance from the scene there.
    """
    size = mask.shape[0]
    v, u = np.nonzero(mask)
    points = xyz[:, v, u].T @ T_gt[:3, :3].T + T_gt[:3, 3]
    target = points[:, :2] / points[:, 2:].clip(1e-6) * K[[0, 1], [0, 1]] + K[:2, 2]
    turned = normal[:, v, u].T @ (T_gt[:3, :3] @ T_init[:3, :3].T).T
    facing = (turned * points).sum(1) < 0
    inside = ((target > -0.5) & (target < size - 0.5)).all(1) & (points[:, 2] > 0)
    apart = _depth_apart(points[:, 2], target, depth_true)
    flow = np.zeros((2, size, size), np.float32)
    flow[:, v, u] = (target - np.stack([u, v], 1)).T
    visible = np.zeros((size, size), bool)
    visible[v, u] = facing & inside & (apart < depth_tolerance(diameter))
    return FlowTarget(flow, visible)


def _depth_apart(z: np.ndarray, target: np.ndarray, depth_true: np.ndarray) -> np.ndarray:
    """Smallest difference [N] of depths z [N] to the four pixels around targets [N,2]; the nearest
    pixel alone would reject steep surfaces."""
    size = depth_true.shape[0]
    low = np.floor(target)
    apart = np.full(len(z), np.inf)
    for du in (0, 1):
        for dv in (0, 1):
            u, v = np.clip(low + (du, dv), 0, size - 1).astype(np.int64).T
            apart = np.minimum(apart, np.abs(depth_true[v, u] - z))
    return apart
