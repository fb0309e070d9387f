"""Global matching: where in the whole query each cell of a render lies, from features alone (GMFlow).

The recurrent updates look a few cells around the current pose; a match looks everywhere, so it finds
the way from farther off.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from flowpose_ros.geometry.camera import pixel_grid

STRIDE = 4
"""Pixels of a cell of the joint features."""
SHARE_FLOOR = 0.05
"""A cell that is hidden has no share at its place; it counts as this much, so that a few do not decide."""


@dataclass(frozen=True)
class Matches:
    """Of each of N render cells: pixel [B,N,2] where the query shows it; confidence [B,N] in [0,1]
    that both name each other."""

    pixel: torch.Tensor
    confidence: torch.Tensor


def joint_features(features: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Features [B,C,h,w] at 1/4 whose correlation is the sum of those at 1/4 and, interpolated, at 1/8."""
    fine, coarse = (f.float() for f in features)
    width = fine.shape[1] + coarse.shape[1]
    coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
    return torch.cat([f * (width / f.shape[1]) ** 0.25 for f in (fine, coarse)], 1)


@torch.no_grad()
def match_cells(source: torch.Tensor, target: torch.Tensor, cells: torch.Tensor, on_object: torch.Tensor) -> Matches:
    """Matches of joint features source and target [B,C,h,w], of the source cells [B,N] (v * w + u); on_object
    [B,N] bool says which of these count.

    Confidence is the product of both softmaxes (LoFTR 3.3); the place is their mean over the 3 x 3
    cells around the best. Where none counts, they are as if all did.
    """
    h, w = source.shape[-2:]
    on_object = on_object | ~on_object.any(1, keepdim=True)
    logits = cell_logits(source, target, cells)
    # In logarithms; a row's own normaliser does not change which of its cells is best.
    columns = logits.masked_fill(~on_object[..., None], -1e4).logsumexp(1, keepdim=True)
    rows, both = logits.logsumexp(2), 2 * logits - columns
    best = both.argmax(2)
    around, index, inside = neighbours(best, h, w)
    # Above 0, of cells that do not count alone, it would be no logarithm of a share.
    share = (both.gather(2, index) - rows[..., None]).clamp_max(0).exp() * inside
    cell = (share[..., None] * around).sum(2) / share.sum(2, keepdim=True).clamp_min(1e-12)
    confidence = (both.gather(2, best[..., None])[..., 0] - rows).clamp_max(0).exp()
    return Matches(cell * STRIDE + (STRIDE - 1) / 2, confidence)


@torch.no_grad()
def found_in_place(source: torch.Tensor, target: torch.Tensor, cells: torch.Tensor,
                   on_object: torch.Tensor) -> torch.Tensor:
    """How surely [B] the query shows a render's cells at their very places: the mean of `place_shares`' logarithm, plus
    SHARE_FLOOR; cells and on_object [B,N] as in `match_cells`."""
    share = place_shares(source, target, cells)
    return ((share + SHARE_FLOOR).log() * on_object).sum(1) / on_object.sum(1).clamp_min(1)


@torch.no_grad()
def place_shares(source: torch.Tensor, target: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """How surely [B,N] in [0,1] the query shows each of a render's cells at its very place: the softmax's share within
    one cell of it. Joint features source and target [B,C,h,w]; cells [B,N]."""
    h, w = source.shape[-2:]
    logits = cell_logits(source, target, cells)
    _, index, inside = neighbours(cells, h, w)
    return ((logits.gather(2, index) - logits.logsumexp(2, keepdim=True)).exp() * inside).sum(2)


def cell_logits(source: torch.Tensor, target: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Correlations [B,N,h*w] of the source cells [B,N] with all target cells; features [B,C,h,w]."""
    C = source.shape[1]
    asked = source.flatten(2).transpose(1, 2).gather(1, cells[..., None].expand(-1, -1, C))
    return (asked / C ** 0.5) @ target.flatten(2)


def neighbours(cells: torch.Tensor, h: int, w: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The 3 x 3 cells around cells [B,N] (v * w + u) of h x w: their places [B,N,9,2] (u, v), themselves [B,N,9],
    clamped to the picture, and which lie inside it."""
    steps = pixel_grid(3, 3, cells.device).reshape(-1, 2).long() - 1
    around = torch.stack([cells % w, cells // w], -1)[:, :, None] + steps
    inside = ((around >= 0) & (around < around.new_tensor([w, h]))).all(-1)
    return around, around[..., 1].clamp(0, h - 1) * w + around[..., 0].clamp(0, w - 1), inside
