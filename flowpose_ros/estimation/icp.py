"""The last fit to depth: point-to-plane ICP with projective association, batched."""

from __future__ import annotations

import torch

from flowpose_ros.estimation.depth import DepthOptions, Length, depth_at
from flowpose_ros.geometry.camera import back_project, project
from flowpose_ros.geometry.spd import inverse_spd6
from flowpose_ros.geometry.transforms import exp_so3, make_transform, transform_points, vee

MAX_ROTATION = 0.1745
MAX_TRANSLATION = 0.2
"""Caps of one step: 10 degrees, a fifth of the radius."""
DAMPING = 0.002
"""Holds what the visible surface does not fix, such as sliding along a plane."""
GRAZING = 0.15
"""Cosine between normal and viewing ray below which a pixel's depth says nothing."""


@torch.no_grad()
def refine_icp(xyz: torch.Tensor, normal_cam: torch.Tensor, mask: torch.Tensor, T_render: torch.Tensor,
               depth_crop: torch.Tensor, K: torch.Tensor, T_init: torch.Tensor, diameter: Length,
               options: DepthOptions, held: float = 0.0) -> torch.Tensor:
    """T_crop_obj [B,4,4] moved from T_init until the rendered surface fits the measured one.

    xyz [B,3,S,S] metres (object frame), normal_cam [B,3,S,S] (crop camera) and mask [B,S,S] are
    those of a rendering at T_render [B,4,4]; depth_crop [B,S,S] metres; K [B,3,3]. The distance
    gate shrinks from `icp_gate` to twice `inlier_distance`. T_init stays where the fit does not bring
    more of the surface within `inlier_distance`, or where too little of it is measured. What the
    visible surface does not fix (a plate seen from above slides) stays nearly as it was, and the nearer to T_init the
    more it is held there: in units in which the surface's information on a motion of the radius, or of one radian, is at
    most 1.
    """
    diameter = torch.ones_like(T_init[:, 0, 0]) * diameter
    index = _spread(mask, options.icp_points)
    points, normal_obj = _take(xyz, index), _take(normal_cam, index) @ T_render[:, :3, :3]
    near = options.inlier_distance(diameter)
    first, last = options.icp_gate(diameter), 2 * near
    used = mask.flatten(1).any(1, keepdim=True).expand_as(index)
    T = T_init
    for i in range(options.icp_iterations):
        gate = first * (last / first) ** (i / max(1, options.icp_iterations - 1))
        T = _step(points, normal_obj, used, depth_crop, K, T, gate, diameter / 2, options.min_inliers, T_init, held)
    before = _support(points, used, depth_crop, K, T_init, near)
    after = _support(points, used, depth_crop, K, T, near)
    return torch.where((after > before)[:, None, None], T, T_init)


@torch.no_grad()
def tied(xyz: torch.Tensor, normal_cam: torch.Tensor, mask: torch.Tensor, T_render: torch.Tensor, diameter: Length,
         count: int) -> torch.Tensor:
    """How firmly [B], on the host, the surface, were all of it measured, would tie a pose: its information on the motion
    that it tells least of, in the units of `refine_icp`. 0: a sphere turns, and a plate slides, as they like.

    A rendering as `refine_icp` takes it, of which `count` pixels take part.
    """
    diameter = torch.ones_like(T_render[:, 0, 0]) * diameter
    index = _spread(mask, count)
    p, n = transform_points(T_render, _take(xyz, index)), _take(normal_cam, index)
    weight = _facing(p, n) * mask.flatten(1).any(1, keepdim=True)
    J = _jacobian(p, n, diameter[:, None] / 2)
    information = (weight[..., None] * J).transpose(1, 2) @ J / weight.sum(1).clamp_min(1)[:, None, None]
    return torch.linalg.eigvalsh(information.double().cpu())[:, 0].clamp_min(0)


def _jacobian(p: torch.Tensor, n: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """How a motion about the mean of points p [B,N,3], in radii [B,1] and radians, moves each along its normal n
    [B,N,3]: [B,N,6]."""
    return torch.cat([n, torch.linalg.cross((p - p.mean(1, keepdim=True)) / radius[..., None], n)], -1)


def _facing(p: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    """Which of points p [B,N,3] with normals n [B,N,3] face the camera at 0 enough to be measured: [B,N]."""
    return -(n * torch.nn.functional.normalize(p, dim=-1)).sum(-1) > GRAZING


def _spread(mask: torch.Tensor, count: int) -> torch.Tensor:
    """Indices [B,count] evenly spread over the true pixels of mask [B,S,S] (repeated if fewer)."""
    rank = mask.flatten(1).cumsum(1)
    share = (torch.arange(count, device=mask.device) + 0.5) / count
    wanted = (share * rank[:, -1:]).long() + 1
    return torch.searchsorted(rank, wanted).clamp_max(rank.shape[1] - 1)


def _take(image: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Vectors [B,N,3] of image [B,3,S,S] at flat pixels index [B,N]."""
    return image.flatten(2).gather(2, index[:, None].expand(-1, 3, -1)).transpose(1, 2)


def _associate(p: torch.Tensor, depth: torch.Tensor, K: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Measured points [B,N,3] at the pixels onto which p [B,N,3] project, and whether measured [B,N]."""
    pixels = project(p, K).round()
    z = depth_at(depth, pixels)
    return back_project(pixels, z, K), (z > 0) & (p[..., 2] > 0)


def _step(points: torch.Tensor, normal_obj: torch.Tensor, used: torch.Tensor, depth: torch.Tensor,
          K: torch.Tensor, T: torch.Tensor, gate: torch.Tensor, radius: torch.Tensor, min_points: int,
          T_init: torch.Tensor, held: float) -> torch.Tensor:
    """T [B,4,4] after one robust Gauss-Newton step about the points' mean, lengths in radii [B]; see `refine_icp`."""
    gate, radius = gate[:, None], radius[:, None]
    p, n = transform_points(T, points), normal_obj @ T[:, :3, :3].transpose(1, 2)
    q, measured = _associate(p, depth, K)
    distance = (n * (q - p)).sum(-1)
    paired = used & measured & _facing(p, n) & ((q - p).norm(dim=-1) < 2 * gate) & (distance.abs() < gate)
    weight = (1 - (distance / gate).square()).clamp_min(0).square() * paired  # Tukey's biweight
    centre = p.mean(1, keepdim=True)
    J = _jacobian(p, n, radius)
    weighted = weight[..., None] * J
    total = weight.sum(1, keepdim=True).clamp_min(1e-6)
    A = weighted.transpose(1, 2) @ J + torch.diag_embed(((DAMPING + held) * total).expand(-1, 6))
    back = (transform_points(T_init, points.mean(1, keepdim=True)) - centre)[:, 0] / radius
    turned = T[:, :3, :3] @ T_init[:, :3, :3].transpose(1, 2)
    back = torch.cat([back, -vee(turned - turned.transpose(1, 2)) / 2], -1)
    g = (weighted.transpose(1, 2) @ (distance / radius)[..., None])[..., 0] + held * total * back
    step = (inverse_spd6(A)[0] @ g[..., None])[..., 0] * (paired.sum(1) >= min_points)[:, None]
    move, turn = _capped(step[:, :3], MAX_TRANSLATION) * radius, _capped(step[:, 3:], MAX_ROTATION)
    R = exp_so3(turn)
    about = make_transform(R, move + centre[:, 0] - (R @ centre[:, 0, :, None])[..., 0])
    return about @ T


def _capped(v: torch.Tensor, longest: float) -> torch.Tensor:
    """Vectors [B,3], shortened where they are longer than `longest`."""
    return v * (longest / v.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0)


def _support(points: torch.Tensor, used: torch.Tensor, depth: torch.Tensor, K: torch.Tensor,
             T: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """Scores [B]: points whose measured depth is near, each by how near."""
    p = transform_points(T, points)
    q, measured = _associate(p, depth, K)
    share = (q - p)[..., 2] / gate[:, None]
    return ((1 - share.square()).clamp_min(0) * (used & measured)).sum(1)
