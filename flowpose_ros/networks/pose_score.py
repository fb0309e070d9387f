"""How far poses can be trusted: which of several seems right, how probable it is that an answer is, both by logistic
regression from what speaks for them, and how much farther right ones are off than the flow makes believe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


SPREADS = (1e-3, 1.0)
"""Range in which it counts how far off a pose may be, shares of the diameter."""


@dataclass(frozen=True)
class PoseScoreConfig:
    """How many witnesses there are without and with depth; part of a weights file."""

    rgb: int = 4
    rgbd: int = 6


class PoseScore(nn.Module):
    """Witnesses -> one logit per pose, by which poses are compared; with the verifier's, and with how far off the flow
    holds it possible, the logit that an answer is right. Which lines are used follows from the number of witnesses."""

    def __init__(self, config: PoseScoreConfig = PoseScoreConfig()) -> None:
        super().__init__()
        self.config = config
        self.rgb, self.rgbd = nn.Linear(config.rgb, 1), nn.Linear(config.rgbd, 1)
        self.trust_rgb, self.trust_rgbd = nn.Linear(3, 1), nn.Linear(3, 1)
        # What covariances from the flow's residuals are multiplied with, without and with depth.
        self.register_buffer("stretch", torch.ones(2))

    def forward(self, witnesses: torch.Tensor) -> torch.Tensor:
        """Logits [B] of witnesses [B,rgb] or [B,rgbd]."""
        line = self.rgb if witnesses.shape[-1] == self.config.rgb else self.rgbd
        return line(witnesses)[..., 0]

    def trust(self, witnesses: torch.Tensor, verified: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
        """Logits [B] that poses are right, by their witnesses, the verifier's logits [B], and how far they may be off
        [B], shares of the diameter."""
        line = self.trust_rgb if witnesses.shape[-1] == self.config.rgb else self.trust_rgbd
        return line(self.grounds(witnesses, verified, spread))[..., 0]

    def grounds(self, witnesses: torch.Tensor, verified: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
        """What the probability of being right is a logistic regression of [B,3]: rank score, verifier's logit, logarithm
        of the spread."""
        return torch.stack([self(witnesses), verified, spread.clamp(*SPREADS).log()], -1)
