"""The rigid transform between two matched sets of 3D points, in closed form."""

from __future__ import annotations

import torch

from flowpose_ros.geometry.transforms import make_transform

MIN_SPREAD = 1e-5
"""Second over first singular value of the points' covariance below which they count as one line."""


def weighted_kabsch(source: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
                    ) -> tuple[torch.Tensor, torch.Tensor]:
    """The transforms that minimise sum w |T source - target|^2, and whether they are determined.

    source, target [B,N,3] in any unit, weight [B,N] >= 0; returns T_target_source [B,4,4] and
    ok [B] bool. Not ok, and the identity: fewer than three points of positive weight, all on one
    line, all in one place, one that is no number. What has no weight may be anything.
    Source: Kabsch 1976, with the reflection fix of Umeyama 1991.
    """
    source, target = (torch.where((weight > 0)[..., None], points, 0.0) for points in (source, target))
    total = weight.sum(1, keepdim=True)
    share = (weight / total.clamp_min(torch.finfo(weight.dtype).tiny))[..., None]
    mean_source, mean_target = (share * source).sum(1), (share * target).sum(1)
    H = (share * (target - mean_target[:, None])).transpose(1, 2) @ (source - mean_source[:, None])
    numbers = torch.isfinite(H).all(-1).all(-1)
    U, spread, Vh = torch.linalg.svd(torch.where(numbers[:, None, None], H, 0.0))
    flip = torch.ones_like(mean_source)
    flip[:, 2] = torch.det(U @ Vh)
    R = (U * flip[:, None]) @ Vh
    t = mean_target - (R @ mean_source[..., None])[..., 0]
    ok = numbers & ((weight > 0).sum(1) >= 3) & (spread[:, 0] > 0) & (spread[:, 1] > MIN_SPREAD * spread[:, 0])
    identity = torch.eye(4, dtype=source.dtype, device=source.device)
    return torch.where(ok[:, None, None], make_transform(R, t), identity), ok
