"""Confidence-weighted, batched PnP by Levenberg-Marquardt (GenFlow eq. 3).

Works in normalised units: lengths in object radii, residuals in crop sizes, weights with mean 1,
so that one damping fits every object. The rotation is about the object's centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from flowpose_ros.geometry.spd import inverse_spd6
from flowpose_ros.geometry.transforms import exp_so3, make_transform

Z_MIN = 0.1
"""Least depth, in object radii, at which a point still counts."""
MIN_POINTS = 24
"""Fewer weighted points than this leave the pose as it is."""
MAX_ROTATION = 0.5236
MAX_TRANSLATION = 0.5
"""Caps of one step: 30 degrees, half a radius (along z relative to the depth's own scale)."""
MAX_CONDITION = 1e8


@dataclass(frozen=True)
class PnpProblem:
    """B problems of N points each.

    points [B,N,3] about the object's centre, in radii; target [B,N,2] pixels;
    weight [B,N,2] non-negative, 0 for unused points; K [B,3,3]; pixel_scale: residuals are divided
    by this many pixels.
    """

    points: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    K: torch.Tensor
    pixel_scale: float


def normalise_weights(weight: torch.Tensor) -> torch.Tensor:
    """Weights [B,N,2] scaled to mean 1 over the points in use; their scale is a free gauge."""
    used = (weight > 0).sum((1, 2), keepdim=True).clamp_min(1)
    return weight * used / weight.sum((1, 2), keepdim=True).clamp_min(1e-9)


def normal_equations(problem: PnpProblem, R: torch.Tensor, t: torch.Tensor
                     ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """H [B,6,6], g [B,6] and weighted residuals [B,N,2] at R [B,3,3], t [B,3] (radii).

    Parameters are (translation, rotation vector on the left); H x = -g is the Gauss-Newton step.
    """
    rotated = problem.points @ R.transpose(1, 2)
    p = rotated + t[:, None]
    z = p[..., 2].clamp_min(Z_MIN)
    front = (p[..., 2] > Z_MIN)[..., None]
    focal = torch.stack([problem.K[:, 0, 0], problem.K[:, 1, 1]], -1)[:, None] / problem.pixel_scale
    centre = torch.stack([problem.K[:, 0, 2], problem.K[:, 1, 2]], -1)[:, None] / problem.pixel_scale
    xy = p[..., :2] / z[..., None]
    weight = problem.weight * front
    residual = weight * (focal * xy + centre - problem.target / problem.pixel_scale)
    # d(u,v)/dp, then dp/d(t, w) = [I, -[R X]x]; written out because autograd's is ten times slower.
    a = weight * focal / z[..., None]
    x, y = xy.unbind(-1)
    X, Y, Z = rotated.unbind(-1)
    o = torch.zeros_like(x)
    Ju = torch.stack([torch.ones_like(x), o, -x, -x * Y, Z + x * X, -Y], -1) * a[..., :1]
    Jv = torch.stack([o, torch.ones_like(x), -y, -Z - y * Y, y * X, X], -1) * a[..., 1:]
    J = torch.cat([Ju, Jv], 1)
    r = torch.cat([residual[..., 0], residual[..., 1]], 1)
    return J.transpose(1, 2) @ J, (J.transpose(1, 2) @ r[..., None])[..., 0], residual


def damped_step(H: torch.Tensor, g: torch.Tensor, damping: float) -> torch.Tensor:
    """Capped step [B,6]; 0 where the system cannot be solved."""
    diagonal = H.diagonal(dim1=1, dim2=2)
    floor = 1e-6 * diagonal.amax(1, keepdim=True) + 1e-12
    A = H + torch.diag_embed(damping * diagonal + floor)
    inverse, solvable = inverse_spd6(A)
    step = -(inverse @ g[..., None])[..., 0]
    step = torch.where(solvable[:, None] & torch.isfinite(step), step, torch.zeros_like(step))
    translation, rotation = step[:, :3], step[:, 3:]
    shrink = torch.minimum(MAX_TRANSLATION / translation.norm(dim=1).clamp_min(1e-12),
                           MAX_ROTATION / rotation.norm(dim=1).clamp_min(1e-12)).clamp_max(1.0)
    return step * shrink.detach()[:, None]


def apply_step(R: torch.Tensor, t: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """R [B,3,3] and t [B,3] moved by (translation, rotation vector) [B,6]."""
    return exp_so3(step[:, 3:]) @ R, t + step[:, :3]


def solve_pnp(problem: PnpProblem, R: torch.Tensor, t: torch.Tensor, *, lm_steps: int = 3,
              damping: float = 1e-2) -> tuple[torch.Tensor, torch.Tensor]:
    """Pose (R [B,3,3], t [B,3] in radii) after `lm_steps` LM steps without gradient and one hardly damped
    Gauss-Newton step whose gradient reaches `target` and `weight` (GenFlow 3.3).

    Problems with fewer than MIN_POINTS points in use keep their start; those that are nearly singular after the LM
    steps make no further one. Sources: GenFlow eq. 3;
    the detached steps as in EPro-PnP.
    """
    usable = ((problem.weight > 0).any(-1).sum(1) >= MIN_POINTS)[:, None]
    with torch.no_grad():
        R_k, t_k = R.detach(), t.detach()
        for _ in range(lm_steps):
            H, g, _ = normal_equations(problem, R_k, t_k)
            R_k, t_k = apply_step(R_k, t_k, damped_step(H, g, damping) * usable)
        H, _, _ = normal_equations(problem, R_k, t_k)
        inverse, solvable = inverse_spd6(H)
        # The product of the traces lies between the condition number and 36 times it.
        condition = (x.diagonal(dim1=1, dim2=2).sum(1) for x in (H, inverse))
        usable = usable & (solvable & (math.prod(condition) < MAX_CONDITION))[:, None]
    H, g, _ = normal_equations(problem, R_k, t_k)
    return apply_step(R_k, t_k, damped_step(H, g, 1e-4) * usable)


def pose_covariance(problem: PnpProblem, R: torch.Tensor, t: torch.Tensor, radius: torch.Tensor,
                    correlated_points: float = 16.0) -> torch.Tensor:
    """Covariance [B,6,6] of (translation m, rotation vector rad) at a solution; radius [B] metres.

    The inverse normal matrix times the weighted residual variance. Neighbouring residuals are
    correlated: `correlated_points` of them count as one measurement.
    """
    H, _, residual = normal_equations(problem, R, t)
    count = (problem.weight > 0).sum((1, 2)).clamp_min(7)
    variance = residual.square().sum((1, 2)) / (count - 6).clamp_min(1) * correlated_points
    diagonal = H.diagonal(dim1=1, dim2=2)
    A = H + torch.diag_embed(1e-6 * diagonal.amax(1, keepdim=True).expand_as(diagonal) + 1e-12)
    covariance = inverse_spd6(A)[0] * variance[:, None, None]
    scale = torch.cat([radius[:, None].expand(-1, 3), torch.ones_like(radius)[:, None].expand(-1, 3)], 1)
    return covariance * scale[:, :, None] * scale[:, None, :]


def to_transform(R: torch.Tensor, t: torch.Tensor, center: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """T_cam_obj [B,4,4] metres of a pose about the centre [B,3] in radii [B]."""
    return make_transform(R, t * radius[:, None] - (R @ center[..., None])[..., 0])


def from_transform(T: torch.Tensor, center: torch.Tensor, radius: torch.Tensor
                   ) -> tuple[torch.Tensor, torch.Tensor]:
    """The inverse of `to_transform`: (R [B,3,3], t [B,3] in radii)."""
    R = T[:, :3, :3]
    return R, (T[:, :3, 3] + (R @ center[..., None])[..., 0]) / radius[:, None]
