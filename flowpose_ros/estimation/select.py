"""Which of several judged poses is the answer."""

from __future__ import annotations

import numpy as np
import torch

from flowpose_ros.geometry.rotations import angles_between
from flowpose_ros.geometry.symmetry import SymmetryGroup

SAME = np.radians(8)
"""Poses nearer to each other are one."""


def best_of(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the `count` best scores [B], best first; of equals the first."""
    return scores.argsort(descending=True, stable=True)[:count]


def distinct_best(T_cam_obj: np.ndarray, scores: torch.Tensor, symmetries: SymmetryGroup, count: int,
                  apart: float) -> torch.Tensor:
    """Indices of the `count` best of poses [B,4,4] by scores [B], best first, none within `apart` radians of a better
    one or of a pose that looks the same as that."""
    chosen: list[int] = []
    for i in best_of(scores, len(scores)).tolist():
        near = (symmetries.nearest(T_cam_obj[i], T_cam_obj[k])[None, :3, :3] for k in chosen)
        if all(angles_between(R, T_cam_obj[k, None, :3, :3])[0, 0] >= apart for R, k in zip(near, chosen)):
            chosen.append(i)
        if len(chosen) == count:
            break
    return torch.tensor(chosen)


def rigid(T: np.ndarray) -> np.ndarray:
    """T [4,4] with its rotation made orthonormal to double precision."""
    U, _, Vt = np.linalg.svd(T[:3, :3])
    out = T.copy()
    out[:3, :3] = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    return out


def symmetric(covariance: np.ndarray) -> np.ndarray:
    """The symmetric part of a covariance [6,6]."""
    return (covariance + covariance.T) / 2
