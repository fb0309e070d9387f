"""Resizing and blurring many square pictures at once, each in its own way: as products with matrices of lines."""

from __future__ import annotations

import torch


def resizing(before: torch.Tensor, after: torch.Tensor, columns: int, rows: int) -> torch.Tensor:
    """Matrices [B,rows,columns] that resize lines of before [B] pixels, the first of `columns`, to after [B]: by area
    where they shrink, linearly where they grow. Rows past the end repeat the last.
    """
    scale = (before / after)[:, None, None]
    source = torch.arange(columns, device=before.device)
    place = torch.arange(rows, device=before.device).minimum(after[:, None] - 1)[..., None]
    area = (torch.minimum(source + 1, (place + 1) * scale) - torch.maximum(source, place * scale)).clamp_min(0) / scale
    middle = ((place + 0.5) * scale - 0.5).clamp_min(0).minimum((before - 1)[:, None, None])
    return torch.where(scale > 1, area, (1 - (source - middle).abs()).clamp_min(0))


def blurring(sigma: torch.Tensor, width: torch.Tensor, size: int) -> torch.Tensor:
    """Matrices [B,size,size] that blur lines of width [B] pixels by Gaussians of sigma [B] pixels; rows past the end
    repeat the last."""
    source = torch.arange(size, device=sigma.device)
    place = source.minimum(width[:, None] - 1)[..., None]
    weight = torch.exp(-0.5 * ((source - place) / sigma.clamp_min(1e-3)[:, None, None]).square())
    weight = weight * (source < width[:, None])[:, None]
    return weight / weight.sum(-1, keepdim=True)


def separable(lines: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures [B,C,R,R] whose rows and columns are those of pictures [B,C,S,S] under lines [B,R,S]."""
    return lines[:, None] @ pictures @ lines[:, None].mT
