"""Feature encoders: what the networks see in an image, at 1/4 and 1/8 of its size."""

from __future__ import annotations

import torch
from torch import nn
import torch.nn.functional as F

Features = tuple[torch.Tensor, torch.Tensor]
"""Features at 1/4 and 1/8 of the crop, as the flow network encodes them."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a skip; the first may halve the resolution."""

    def __init__(self, width_in: int, width_out: int, *, stride: int = 1, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, 1)
        self.norm1 = make_norm(norm, width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, 1, 1)
        self.norm2 = make_norm(norm, width_out)
        plain = stride == 1 and width_in == width_out
        self.skip = nn.Identity() if plain else nn.Conv2d(width_in, width_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        return F.relu(self.skip(x) + y, inplace=True)


class Encoder(nn.Module):
    """Images [B,C,H,W] -> features [B,fine,H/4,W/4] and [B,coarse,H/8,W/8].

    A residual trunk down to 1/16 and a feature pyramid back up, so that the fine features know the
    whole object. GenFlow uses the first two stages of a pre-trained ConvNeXt; ours is small enough
    to learn from nothing.
    """

    def __init__(self, *, channels: int, widths: tuple[int, int, int], fine: int, coarse: int,
                 norm: str) -> None:
        super().__init__()
        w4, w8, w16 = widths
        self.stem = nn.Sequential(
            nn.Conv2d(channels, w4 // 2, 3, 2, 1), make_norm(norm, w4 // 2), nn.ReLU(inplace=True),
            nn.Conv2d(w4 // 2, w4, 3, 2, 1), make_norm(norm, w4), nn.ReLU(inplace=True),
            ResidualBlock(w4, w4, norm=norm))
        self.to_8 = nn.Sequential(ResidualBlock(w4, w8, stride=2, norm=norm), ResidualBlock(w8, w8, norm=norm))
        self.to_16 = nn.Sequential(ResidualBlock(w8, w16, stride=2, norm=norm),
                                   ResidualBlock(w16, w16, norm=norm))
        self.lateral_16 = nn.Conv2d(w16, coarse, 1)
        self.lateral_8 = nn.Conv2d(w8, coarse, 1)
        self.out_8 = nn.Conv2d(coarse, coarse, 3, 1, 1)
        self.down_8 = nn.Conv2d(coarse, fine, 1)
        self.lateral_4 = nn.Conv2d(w4, fine, 1)
        self.out_4 = nn.Conv2d(fine, fine, 3, 1, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x4 = self.stem(image)
        x8 = self.to_8(x4)
        x16 = self.to_16(x8)
        top = self.lateral_8(x8) + F.interpolate(self.lateral_16(x16), size=x8.shape[-2:], mode="bilinear")
        top = F.relu(top)
        fine = self.lateral_4(x4) + F.interpolate(self.down_8(top), size=x4.shape[-2:], mode="bilinear")
        return self.out_4(F.relu(fine)), self.out_8(top)


def make_norm(kind: str, width: int) -> nn.Module:
    """Instance norm for image features (lighting of query and render differ), group norm for context."""
    if kind == "instance":
        return nn.InstanceNorm2d(width)
    return nn.GroupNorm(max(1, width // 8), width)


def convolutions(tensor: torch.Tensor, bfloat16: bool) -> torch.autocast:
    """Half precision, if wanted, for convolutions alone, and on a GPU alone: correlation and the pose need
    fp32, and a CPU without bf16 units takes eight times as long with it."""
    return torch.autocast(tensor.device.type, torch.bfloat16, enabled=bfloat16 and tensor.is_cuda)
