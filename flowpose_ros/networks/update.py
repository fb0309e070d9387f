"""The recurrent update of one level: correlation in, flow and its confidences out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
import torch.nn.functional as F

UPSAMPLING = 2
"""Each level gives its outputs at twice its own resolution."""


@dataclass(frozen=True)
class FlowField:
    """Flow render -> query of B pairs at h x w cells, in pixels of the full-size crop.

    flow [B,2,h,w]; certainty [B,1,h,w] logits that the pixel is visible in the query;
    sensitivity [B,2,h,w] positive weights of the (u, v) residuals;
    mixture [B,1,h,w] logit and log_scale [B,1,h,w] (log pixels) of the wide Laplace component
    beside a narrow one of scale 1 (SEA-RAFT's mixture).
    """

    flow: torch.Tensor
    certainty: torch.Tensor
    sensitivity: torch.Tensor
    mixture: torch.Tensor
    log_scale: torch.Tensor

    def probability_within(self, radius: float) -> torch.Tensor:
        """Probability [B,1,h,w] that the flow's error is under `radius` pixels (Co-op's P_R)."""
        wide = torch.sigmoid(self.mixture)
        narrow_in = 1 - torch.exp(torch.tensor(-radius))
        return (1 - wide) * narrow_in + wide * (1 - torch.exp(-radius * torch.exp(-self.log_scale)))


class ConvGRU(nn.Module):
    """Gated recurrent unit with 3x3 convolutions (RAFT's small variant)."""

    def __init__(self, hidden: int, inputs: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(hidden + inputs, 2 * hidden, 3, 1, 1)
        self.candidate = nn.Conv2d(hidden + inputs, hidden, 3, 1, 1)

    def forward(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        z, r = torch.sigmoid(self.gates(torch.cat([h, x], 1))).chunk(2, 1)
        q = torch.tanh(self.candidate(torch.cat([r * h, x], 1)))
        return h + z * (q - h)


class UpdateBlock(nn.Module):
    """One GenFlow update: (hidden state, context, correlations, flow so far) -> FlowField."""

    def __init__(self, *, hidden: int, context: int, correlations: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        motion = hidden
        self.from_correlation = nn.Conv2d(correlations, motion, 1)
        self.from_flow = nn.Conv2d(4, motion // 2, 3, 1, 1)
        self.mix = nn.Conv2d(motion + motion // 2, motion, 3, 1, 1)
        self.gru = ConvGRU(hidden, context + motion)
        self.head = nn.Conv2d(hidden, 2 * hidden, 3, 1, 1)
        self.flow = nn.Conv2d(2 * hidden, 2, 3, 1, 1)
        self.confidence = nn.Conv2d(2 * hidden, 5, 3, 1, 1)
        self.mask = nn.Conv2d(2 * hidden, 9 * UPSAMPLING ** 2, 1)

    def forward(self, h: torch.Tensor, context: torch.Tensor, correlations: torch.Tensor,
                pose_flow: torch.Tensor, free_flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, FlowField]:
        """Returns the next hidden state, the flow at this level [B,2,h,w] and the FlowField at
        twice its resolution.

        pose_flow [B,2,h,w]: flow induced by the current pose, pixels; free_flow [B,2,h,w]: the last
        flow of the network. Their difference tells the unit where the pose could not follow (CIR).
        """
        scale = 1.0 / self.stride
        m = F.relu(self.from_correlation(correlations))
        f = F.relu(self.from_flow(torch.cat([pose_flow, free_flow - pose_flow], 1) * (scale / 4)))
        x = torch.cat([context, F.relu(self.mix(torch.cat([m, f], 1)))], 1)
        h = self.gru(h, x)
        y = F.relu(self.head(h))
        # The delta is added to the pose-induced flow, so every update starts from a rigid motion.
        flow = pose_flow + self.flow(y).float() * self.stride
        certainty, su, sv, mixture, log_scale = self.confidence(y).float().split(1, 1)
        sensitivity = F.softplus(torch.cat([su, sv], 1)) + 1e-3
        smooth = torch.cat([certainty, sensitivity, mixture, log_scale.clamp(0, 5)], 1)
        smooth = F.interpolate(smooth, scale_factor=UPSAMPLING, mode="bilinear")
        # RAFT scales the mask by 0.25 to balance its gradient.
        up = convex_upsample(flow, 0.25 * self.mask(y).float())
        return h, flow, FlowField(up, smooth[:, :1], smooth[:, 1:3], smooth[:, 3:4], smooth[:, 4:5])


def convex_upsample(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Values [B,C,h,w] at UPSAMPLING times their resolution, each a convex combination of its
    3x3 neighbourhood with softmaxed weights from mask [B,9*UPSAMPLING^2,h,w] (RAFT 3.3)."""
    B, C, h, w = values.shape
    s = UPSAMPLING
    weight = mask.reshape(B, 1, 9, s, s, h, w).softmax(2)
    padded = F.pad(values, (1, 1, 1, 1), mode="replicate")
    # Not unfold, which takes a kernel for each sample on a GPU.
    near = torch.stack([padded[..., i:i + h, j:j + w] for i in range(3) for j in range(3)], 2)[:, :, :, None, None]
    return (weight * near).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(B, C, s * h, s * w)
