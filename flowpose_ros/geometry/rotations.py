"""Sets of rotations: even ones that cover SO(3), the angles between them, and noise around them."""

from __future__ import annotations

import math

import numpy as np
import torch

from flowpose_ros.errors import GeometryError
from flowpose_ros.geometry.transforms import exp_so3

_PSI = 1.533751168755204288118041413
"""The second irrational of the super-Fibonacci spiral: a root of psi^4 = psi + 4."""


def super_fibonacci(n: int) -> np.ndarray:
    """Rotations [n,3,3] float64 spread evenly over SO(3), the same for every call.

    Raises GeometryError if n < 1. Source: Alexa, Super-Fibonacci Spirals, CVPR 2022.
    """
    if n < 1:
        raise GeometryError(f"super_fibonacci: expected at least 1 rotation, got {n}")
    s = np.arange(n) + 0.5
    inner, outer = np.sqrt(s / n), np.sqrt(1 - s / n)
    alpha, beta = 2 * np.pi * s / math.sqrt(2), 2 * np.pi * s / _PSI
    return from_quaternions(np.stack([outer * np.cos(beta), inner * np.sin(alpha),
                                      inner * np.cos(alpha), outer * np.sin(beta)], 1))


def from_quaternions(q: np.ndarray) -> np.ndarray:
    """Rotation matrices [n,3,3] of unit quaternions [n,4], scalar part first."""
    w, x, y, z = np.asarray(q, dtype=np.float64).T
    return np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
                     2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
                     2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
                    1).reshape(-1, 3, 3)


def random_rotations(n: int, rng: np.random.Generator) -> np.ndarray:
    """Rotations [n,3,3] float64 drawn uniformly from SO(3)."""
    q = rng.normal(size=(n, 4))
    return from_quaternions(q / np.linalg.norm(q, axis=1, keepdims=True))


def perturb_rotations(R: np.ndarray, sigma_rad: float, rng: np.random.Generator) -> np.ndarray:
    """exp(w) R [n,3,3] for R [n,3,3], each with its own w ~ N(0, sigma_rad^2 I) in radians.

    In the tangent space, where no axis is singular as Euler angles have one.
    """
    w = torch.from_numpy(rng.normal(scale=sigma_rad, size=(len(R), 3)))
    return exp_so3(w).numpy() @ R


def angles_between(R_a: np.ndarray, R_b: np.ndarray) -> np.ndarray:
    """All geodesic angles [n,m] in radians between rotations [n,3,3] and [m,3,3]."""
    # The chord |R_a - R_b| keeps its digits at small angles, where the trace loses half of them.
    trace = R_a.reshape(-1, 9) @ R_b.reshape(-1, 9).T
    return 2 * np.arcsin(np.sqrt(np.clip((3 - trace) / 4, 0, 1)))


def mean_nearest_angle(R: np.ndarray) -> float:
    """Mean angle in radians from any rotation to the nearest one of a set [n,3,3]: its spacing.

    Over 4000 random rotations (always the same ones), which gives it to about 1 %.
    """
    return float(angles_between(random_rotations(4000, np.random.default_rng(0)), R).min(1).mean())


def log_so3(R: torch.Tensor) -> torch.Tensor:
    """Rotation vectors [...,3] in radians, length at most pi, of rotation matrices [...,3,3]."""
    q = _quaternions(R)
    w, v = q[..., :1], q[..., 1:]
    length = v.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, w)
    small = length < 1e-7
    return v * torch.where(small, torch.full_like(length, 2.0), angle / length.masked_fill(small, 1.0))


def _quaternions(R: torch.Tensor) -> torch.Tensor:
    """Unit quaternions [...,4] with w >= 0, scalar part first, of rotations [...,3,3]."""
    # Row i of M is 4 q_i q: the row with the largest diagonal has no cancellation, so that
    # angles near 0 and near pi are both accurate.
    xx, yy, zz = R.diagonal(dim1=-2, dim2=-1).unbind(-1)
    wx, wy, wz = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    xy, xz, yz = R[..., 0, 1] + R[..., 1, 0], R[..., 0, 2] + R[..., 2, 0], R[..., 1, 2] + R[..., 2, 1]
    M = torch.stack([1 + xx + yy + zz, wx, wy, wz,
                     wx, 1 + xx - yy - zz, xy, xz,
                     wy, xy, 1 - xx + yy - zz, yz,
                     wz, xz, yz, 1 - xx - yy + zz], -1).reshape(*R.shape[:-2], 4, 4)
    best = M.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*R.shape[:-2], 1, 4)
    q = M.gather(-2, best)[..., 0, :]
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)
