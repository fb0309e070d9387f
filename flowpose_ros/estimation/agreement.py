"""How alike a render and a query look: in colour, in texture and along the silhouette."""

from __future__ import annotations

import torch
import torch.nn.functional as F

WINDOW = 9
"""Side in pixels of the windows in which texture is compared."""
LUMA = (0.299, 0.587, 0.114)


def colour_agreement(rendered: torch.Tensor, mask: torch.Tensor, query: torch.Tensor, cell: int = 4) -> torch.Tensor:
    """Scores [B] in [0,1] of how alike render and query are coloured, whatever the light.

    rendered, query [B,3,S,S]; mask [B,S,S] bool. Normalised cross-correlation of all channels, each
    about its own mean, over cells of `cell` pixels inside the mask; 0.5 where nothing can be said.
    """
    cover = F.avg_pool2d(mask[:, None].float(), cell)
    a = F.avg_pool2d(rendered * mask[:, None], cell) / cover.clamp_min(1e-3)
    b = F.avg_pool2d(query * mask[:, None], cell) / cover.clamp_min(1e-3)
    weight = cover / cover.sum((2, 3), keepdim=True).clamp_min(1e-3)
    a, b = (x - (weight * x).sum((2, 3), keepdim=True) for x in (a, b))
    power = [(weight * x * x).sum((1, 2, 3)) for x in (a, b)]
    # A little noise power keeps plain objects near "nothing can be said".
    correlation = (weight * a * b).sum((1, 2, 3)) / ((power[0] + 1e-3) * (power[1] + 1e-3)).sqrt()
    return (0.5 + 0.5 * correlation).clamp(0, 1)


def texture_agreement(rendered: torch.Tensor, mask: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Mean over windows and channels [B] in [-1,1] of the correlation of `texture_map`."""
    correlation, weight = texture_map(rendered, mask, query)
    return ((correlation * weight).sum((2, 3)) / weight.sum((2, 3)).clamp_min(1e-6)).mean(1)


def texture_map(rendered: torch.Tensor, mask: torch.Tensor, query: torch.Tensor, stride: int = 3
                ) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised cross-correlation [B,3,h,w] in [-1,1] within small windows `stride` pixels apart, and the share
    [B,1,h,w] of each that lies on the object, 0 where that is too little.

    rendered, query [B,3,S,S]; mask [B,S,S] bool. Unlike `colour_agreement` it asks where edges and print lie,
    to a pixel or two, whatever the light of each place.
    """
    on_object = mask[:, None].float()

    def mean(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, WINDOW, stride, WINDOW // 2)

    cover = mean(on_object)
    a, b = rendered * on_object, query * on_object
    share = cover.clamp_min(1e-3)
    mean_a, mean_b = mean(a) / share, mean(b) / share
    power_a = (mean(a * rendered) / share - mean_a.square()).clamp_min(0)
    power_b = (mean(b * query) / share - mean_b.square()).clamp_min(0)
    # A deviation of 0.02 is noise: plain windows say nothing.
    correlation = (mean(a * query) / share - mean_a * mean_b) / ((power_a + 4e-4) * (power_b + 4e-4)).sqrt()
    return correlation, cover * (cover > 0.3)


def contour_agreement(mask: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """How strong [B] the query's edges are along a silhouette and in its direction: the mean of `contour_map`'s change.

    What tells poses of plain objects apart: a distance that is wrong, or a handle that is not there.
    """
    change, on_contour = contour_map(mask, query)
    return (change * on_contour).sum((1, 2)) / on_contour.sum((1, 2)).clamp_min(1e-6)


def contour_map(mask: torch.Tensor, query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Change of the query's luminance per pixel [B,S,S] across a silhouette, and how far each pixel lies on it [B,S,S].

    mask [B,S,S] bool; query [B,3,S,S] in [0,1].
    """
    # Pad by copies, so that an object that leaves the crop has no contour at its border.
    silhouette = F.avg_pool2d(F.pad(mask[:, None].float(), (1, 1, 1, 1), mode="replicate"), 3, 1)
    across = gradient(silhouette)
    strength = length(across)[:, 0]
    on_contour = strength * (strength > 0.05)
    change = (gradient(luminance(query)) * across / strength[:, None].clamp_min(1e-6)).sum(1).abs()
    return change, on_contour


def luminance(rgb: torch.Tensor) -> torch.Tensor:
    """Luminance [B,1,S,S] of pictures [B,3,S,S]."""
    return (rgb * rgb.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def length(x: torch.Tensor) -> torch.Tensor:
    """Lengths [B,1,S,S] of vectors [B,C,S,S]; on a CPU many times faster than `norm`."""
    return x.square().sum(1, keepdim=True).sqrt()


def gradient(x: torch.Tensor) -> torch.Tensor:
    """Sobel derivatives [B,2,S,S] of pictures [B,1,S,S], per pixel."""
    across = x.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), torch.stack([across, across.T])[:, None])
