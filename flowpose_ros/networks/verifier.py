"""The verifier: whether a pose is right, from what speaks for it cell by cell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

DEPTH = 5
"""The last maps, of depth."""
CHANNELS = 1 + 9 + 9 + 1 + 3 + 3 + 3 + 2 + 2 + 1 + DEPTH
"""Cover; cosines at 1/4 and 1/8 around the place; found in place; texture's correlation; colours of query and render;
their edges; the contour's change and place; the render's normal along the view; depth."""
COVER = 0
"""The map that says where the object is."""
NEAR = slice(1, 10), slice(10, 19)
"""Cosines with the 3 x 3 cells around, row by row."""
COLOURS = slice(20, 23), slice(23, 26), slice(26, 29)
"""Maps of one colour channel each: texture's correlation, the query, the render."""


@dataclass(frozen=True)
class VerifierConfig:
    """Shape of the network; part of a weights file."""

    width: int = 48
    channels: int = CHANNELS


class Verifier(nn.Module):
    """Evidence -> one logit per pose."""

    def __init__(self, config: VerifierConfig = VerifierConfig()) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.trunk = nn.Sequential(
            nn.Conv2d(config.channels, w, 3, 1, 1), nn.GroupNorm(6, w), nn.ReLU(inplace=True),
            nn.Conv2d(w, w, 3, 2, 1), nn.GroupNorm(6, w), nn.ReLU(inplace=True),
            nn.Conv2d(w, w, 3, 1, 1), nn.GroupNorm(6, w), nn.ReLU(inplace=True),
            nn.Conv2d(w, 2 * w, 3, 2, 1), nn.GroupNorm(6, 2 * w), nn.ReLU(inplace=True))
        self.logit = nn.Sequential(nn.Linear(6 * w, w), nn.ReLU(inplace=True), nn.Linear(w, 1))

    def forward(self, evidence: torch.Tensor) -> torch.Tensor:
        """Logits [B] of maps [B,channels,h,w]."""
        x = self.trunk(evidence)
        cover = nn.functional.adaptive_avg_pool2d(evidence[:, COVER:COVER + 1], x.shape[-2:])
        on_object = (x * cover).sum((2, 3)) / cover.sum((2, 3)).clamp_min(1e-3)
        return self.logit(torch.cat([on_object, x.mean((2, 3)), x.amax((2, 3))], 1))[:, 0]
