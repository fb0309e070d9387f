"""Correlation volumes between render and query features, and their look-up (RAFT 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F


class CorrelationPyramid:
    """All-pairs correlation of one level, pooled over the query: a pyramid of `levels` volumes.

    source, target [B,C,h,w]: features of the render and of the query.
    """

    def __init__(self, source: torch.Tensor, target: torch.Tensor, levels: int, radius: int) -> None:
        B, C, h, w = source.shape
        self.radius = radius
        source = source.flatten(2).transpose(1, 2).float() / C ** 0.5
        self.volumes = []
        for _ in range(levels):
            volume = source @ target.flatten(2).float()
            self.volumes.append(volume.reshape(B, h * w, *target.shape[-2:]))
            # Pooling the features equals pooling the volume, at a fraction of the cost.
            target = F.avg_pool2d(target, 2)

    def lookup(self, position: torch.Tensor) -> torch.Tensor:
        """Correlations [B,levels*(2r+1)^2,h,w] around query positions [B,2,h,w] (u, v in cells)."""
        B, _, h, w = position.shape
        found = []
        for level, volume in enumerate(self.volumes):
            # A pooled cell's centre lies between those it came from.
            centre = (position.flatten(2).transpose(1, 2) + 0.5) / 2 ** level - 0.5
            found.append(sample_window(volume, centre, self.radius))
        return torch.cat(found, -1).transpose(1, 2).reshape(B, -1, h, w)


def sample_window(volume: torch.Tensor, centre: torch.Tensor, radius: int) -> torch.Tensor:
    """Bilinear samples [B,N,(2r+1)^2] of volume [B,N,H,W] in windows around centre [B,N,2] (x, y).

    All samples of a window share their sub-cell offset: gather the integer window once and blend
    its four shifts. 0 outside the volume.
    """
    B, N, H, W = volume.shape
    side = 2 * radius + 2
    base = centre.floor()
    # Far outside everything is 0 already; clamping keeps the integers small.
    fraction = (centre - base).unsqueeze(-1).unsqueeze(-1)
    steps = torch.arange(side, device=volume.device) - radius
    x = base[..., 0].clamp(-1e4, 1e4).long()[..., None] + steps
    y = base[..., 1].clamp(-1e4, 1e4).long()[..., None] + steps
    inside = ((y >= 0) & (y < H))[..., :, None] & ((x >= 0) & (x < W))[..., None, :]
    index = y.clamp(0, H - 1)[..., :, None] * W + x.clamp(0, W - 1)[..., None, :]
    window = volume.flatten(2).gather(2, index.flatten(2)).reshape(B, N, side, side) * inside
    fx, fy = fraction[:, :, 0], fraction[:, :, 1]
    rows = window[..., :-1] * (1 - fx) + window[..., 1:] * fx
    return (rows[..., :-1, :] * (1 - fy) + rows[..., 1:, :] * fy).flatten(2)
