"""The scorer: how well a template fits the query, from frozen flow features (RefPose 3.2; the architecture is ours)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
import torch.nn.functional as F

from flowpose_ros.geometry.camera import pixel_grid

WINDOW = 2
"""A template cell is compared with the query cells this far around its own place."""
CHANNELS = (2 * WINDOW + 1) ** 2 + 5


@dataclass(frozen=True)
class ScorerConfig:
    """Shape of the head; part of a weights file."""

    width: int = 48


def match_maps(template: torch.Tensor, mask: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """What N templates and their queries have in common, per cell: [N,CHANNELS,h,w].

    template [N,C,h,w] features; mask [N,1,h,w] share of the cell that the object covers; query
    [N,C,h,w] or [1,C,h,w]. Channels: cosine similarity around the cell's own place, its best over
    the whole query, where that is relative to the cell, the query cell's best over the template,
    and the mask.
    """
    N, C, h, w = template.shape
    a = F.normalize(template.flatten(2).transpose(1, 2).float(), dim=-1)
    b = F.normalize(query.flatten(2).float(), dim=1)
    similarity = a @ b
    cells = pixel_grid(h, w, template.device).reshape(1, h * w, 2)
    near = near_cells(similarity, h, w)
    attention = (similarity * 10).softmax(-1)
    shift = (attention @ cells - cells) / w
    best = similarity.amax(-1, keepdim=True)
    inside = mask.flatten(2).transpose(1, 2)
    back = (similarity * (inside > 0.1)).amax(1)[..., None]
    maps = torch.cat([near * (inside > 0.1), best * inside, shift * inside, back, inside], -1)
    return maps.transpose(1, 2).reshape(N, -1, h, w)


def near_cells(similarity: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """Similarities [N,h*w,(2r+1)^2] of each cell with the cells around its own place, r = WINDOW; 0 outside.

    similarity [N,h*w,h*w] of all cells with all.
    """
    steps = torch.arange(-WINDOW, WINDOW + 1, device=similarity.device)
    v = (torch.arange(h, device=similarity.device)[:, None] + steps)[:, None, :, None]
    u = (torch.arange(w, device=similarity.device)[:, None] + steps)[None, :, None, :]
    inside = ((v >= 0) & (v < h) & (u >= 0) & (u < w)).reshape(h * w, -1)
    index = (v.clamp(0, h - 1) * w + u.clamp(0, w - 1)).reshape(h * w, -1)
    return similarity.gather(2, index.expand(len(similarity), -1, -1)) * inside


class Scorer(nn.Module):
    """Match maps -> one logit per template: is the pose near enough to be refined?"""

    def __init__(self, config: ScorerConfig = ScorerConfig()) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.trunk = nn.Sequential(
            nn.Conv2d(CHANNELS, w, 3, 1, 1), nn.GroupNorm(6, w), nn.ReLU(inplace=True),
            nn.Conv2d(w, w, 3, 1, 1), nn.GroupNorm(6, w), nn.ReLU(inplace=True),
            nn.Conv2d(w, w, 3, 2, 1), nn.GroupNorm(6, w), nn.ReLU(inplace=True))
        self.logit = nn.Sequential(nn.Linear(3 * w, w), nn.ReLU(inplace=True), nn.Linear(w, 1))

    def forward(self, template: torch.Tensor, mask: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """Logits [N]; see `match_maps` for the inputs."""
        x = self.trunk(match_maps(template, mask, query))
        cover = F.adaptive_avg_pool2d(mask, x.shape[-2:])
        on_object = (x * cover).sum((2, 3)) / cover.sum((2, 3)).clamp_min(1e-3)
        pooled = torch.cat([on_object, x.mean((2, 3)), x.amax((2, 3))], 1)
        return self.logit(pooled)[:, 0]


def cell_cover(mask: torch.Tensor) -> torch.Tensor:
    """Share of each 1/8 cell covered by mask [N,S,S] bool: [N,1,S/8,S/8]."""
    return F.avg_pool2d(mask[:, None].float(), 8)
