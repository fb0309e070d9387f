"""Rigid transforms as 4x4 matrices; `T_to_from` maps points of `from` into `to`. Batched torch."""

from __future__ import annotations

import numpy as np
import torch

from flowpose_ros.errors import GeometryError


def skew(v: torch.Tensor) -> torch.Tensor:
    """Cross-product matrices [...,3,3] of vectors [...,3]."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*v.shape[:-1], 3, 3)


def vee(S: torch.Tensor) -> torch.Tensor:
    """Vectors [...,3] of skew-symmetric matrices [...,3,3]: the opposite of `skew`."""
    return torch.stack([S[..., 2, 1], S[..., 0, 2], S[..., 1, 0]], -1)


def exp_so3(w: torch.Tensor) -> torch.Tensor:
    """Rotation matrices [...,3,3] of rotation vectors [...,3] in radians (Rodrigues)."""
    squared = (w * w).sum(-1)[..., None, None]
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    a = torch.where(small, 1 - squared / 6, torch.sin(angle) / angle)
    b = torch.where(small, 0.5 - squared / 24, (1 - torch.cos(angle)) / (angle * angle))
    W = skew(w)
    return torch.eye(3, dtype=w.dtype, device=w.device) + a * W + b * (W @ W)


def rotation_angle(R_a: torch.Tensor, R_b: torch.Tensor) -> torch.Tensor:
    """Geodesic angle [...] in radians between rotations [...,3,3]."""
    # atan2 of both parts stays accurate near 0, where arccos of the trace alone does not.
    R = R_a.transpose(-1, -2) @ R_b
    cos = (R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    axis = torch.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0],
                        R[..., 1, 0] - R[..., 0, 1]], -1)
    return torch.atan2(axis.norm(dim=-1) / 2, cos)


def make_transform(R: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """T [...,4,4] from rotations [...,3,3] and translations [...,3]."""
    T = torch.zeros(*R.shape[:-2], 4, 4, dtype=R.dtype, device=R.device)
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = R, t, 1
    return T


def invert(T: torch.Tensor) -> torch.Tensor:
    """Inverse [...,4,4] of rigid transforms: invert(T_a_b) is T_b_a."""
    R_inv = T[..., :3, :3].transpose(-1, -2)
    return make_transform(R_inv, -(R_inv @ T[..., :3, 3:])[..., 0])


def transform_points(T: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Points [...,N,3] of the `from` frame in the `to` frame of T [...,4,4]."""
    return points @ T[..., :3, :3].transpose(-1, -2) + T[..., None, :3, 3]


def covariance_at(covariance: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Covariances [...,6,6] of (translation, rotation vector) of a body about a point, about the point that lies `by`
    [...,3] from it, in the same axes: a turn r moves that one by r x `by`, too."""
    J = torch.eye(6).to(covariance).repeat(*by.shape[:-1], 1, 1)
    J[..., :3, 3:] = -skew(by)
    return J @ covariance @ J.transpose(-1, -2)


def nearest_rotation(M: torch.Tensor) -> torch.Tensor:
    """The rotation [...,3,3] nearest to a matrix [...,3,3] in the Frobenius norm (Kabsch 1976)."""
    U, _, Vh = torch.linalg.svd(M)
    D = torch.ones_like(M[..., 0])
    D[..., 2] = torch.det(U @ Vh)
    return (U * D[..., None, :]) @ Vh


def check_transform(T: np.ndarray, name: str = "transform") -> np.ndarray:
    """T as a float64 [4,4] rigid transform; raises GeometryError if it is not one (1e-3 on R)."""
    T = np.asarray(T, dtype=np.float64)
    if T.shape != (4, 4):
        raise GeometryError(f"{name}: expected shape [4, 4], got {list(T.shape)}")
    if not np.isfinite(T).all():
        raise GeometryError(f"{name}: expected finite numbers, got {T.tolist()}")
    R = T[:3, :3]
    if np.abs(R @ R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(R) < 0:
        raise GeometryError(f"{name}: expected an orthonormal right-handed rotation, got {R.tolist()}")
    return T
