"""What JPEG does to pictures, as tensor operations: ITU-T T.81's tables in 8 x 8 blocks, colour at half the size."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

BRIGHTNESS_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99))
COLOUR_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *[(99,) * 8] * 4)
YCC_RGB = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
RGB_YCC = ((1, 0, 1.402), (1, -0.344136, -0.714136), (1, 1.772, 0))


def as_jpeg(pictures: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Pictures [B,3,S,S] in [0,1] after JPEG of quality [B] in 1..100; S a multiple of 16."""
    to_ycc = pictures.new_tensor(YCC_RGB)
    ycc = torch.einsum("ij,bjhw->bihw", to_ycc, 255 * pictures)
    brightness = _quantised(ycc[:, :1] - 128, BRIGHTNESS_STEPS, quality) + 128
    colour = _quantised(F.avg_pool2d(ycc[:, 1:], 2), COLOUR_STEPS, quality)
    colour = F.interpolate(colour, scale_factor=2, mode="bilinear")
    rgb = torch.einsum("ij,bjhw->bihw", pictures.new_tensor(RGB_YCC), torch.cat([brightness, colour], 1))
    return (rgb / 255).clamp(0, 1)


def _quantised(values: torch.Tensor, steps: tuple, quality: torch.Tensor) -> torch.Tensor:
    """Values [B,C,S,S] whose cosine transform is rounded in 8 x 8 blocks."""
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None]
    step = ((values.new_tensor(steps) * scale + 50) / 100).floor().clamp(1, 255)[:, None, None, None]
    place = torch.arange(8, device=values.device)
    D = torch.cos(math.pi / 8 * place[:, None] * (place + 0.5)) / 2
    D = torch.where(place[:, None] == 0, D / math.sqrt(2), D)
    blocks = values.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)
    blocks = D.mT @ ((D @ blocks @ D.mT / step).round() * step) @ D
    return blocks.transpose(-3, -2).flatten(-2).flatten(-3, -2)
