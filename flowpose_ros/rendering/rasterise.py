"""Which triangle each pixel sees, in torch alone: the same on a CPU and on a GPU, for any number of pictures at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

PAIRS = 1 << 23
"""Pixel and triangle pairs looked at together; each takes about 60 bytes."""
NOTHING = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Visible:
    """The M pixels that see a triangle: pixel [M] flat index into B*H*W, rising; triangle [M]; z [M] metres along the
    camera's axis; bary [M,3] weights of the triangle's corners on the surface."""

    pixel: torch.Tensor
    triangle: torch.Tensor
    z: torch.Tensor
    bary: torch.Tensor


@dataclass(frozen=True)
class _Edges:
    """N triangles as linear functions of the pixel (u, v): edge [N,3,3] holds (a, b, c) per corner, and a u + b v + c
    is that corner's weight times |volume|, not negative inside; volume [N] positive; picture [N];
    low, high [N,2] int64 (u, v), the rectangle of pixel centres to look at, high past its end."""

    edge: torch.Tensor
    volume: torch.Tensor
    picture: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


def visible_triangles(corners: torch.Tensor, picture: torch.Tensor, K: torch.Tensor,
                      size: tuple[int, int]) -> Visible:
    """The nearest triangle at each pixel centre of B pictures of H x W pixels, seen from either side.

    corners [N,3,3] of N triangles, each in the camera frame of its picture [N], metres; K [B,3,3] pixels. The corner
    weights of a ray d are d . (b x c), d . (c x a), d . (a x b): exact in perspective, and a triangle that reaches
    behind the camera needs no cutting (Olano and Greer 1997). In double precision two triangles agree about the edge
    they share, so there are no gaps.
    """
    height, width = size
    edges = _edges(corners.double(), picture, K.double(), size)
    nearest = torch.full((len(K) * height * width,), NOTHING, device=corners.device)
    spans = edges.high - edges.low
    count = spans.prod(1)
    for first, last in _portions(count):
        pixels = count[first:last]
        triangle = torch.repeat_interleave(torch.arange(first, last, device=count.device), pixels)
        place = torch.arange(len(triangle), device=count.device) - (pixels.cumsum(0) - pixels)[triangle - first]
        across = spans[triangle, 0]
        u = edges.low[triangle, 0] + place % across
        v = edges.low[triangle, 1] + place // across
        weights = _weights(edges.edge, triangle, u, v)
        inside = ((weights >= 0).all(1) & (weights.sum(1) > 0)).nonzero()[:, 0]
        triangle, weights = triangle[inside], weights[inside]
        pixel = (edges.picture[triangle] * height + v[inside]) * width + u[inside]
        z = (edges.volume[triangle] / weights.sum(1)).float()
        # Positive floats keep their order as integers: the least key is the nearest triangle, then the first.
        key = (z.view(torch.int32).long() << 32) | triangle
        nearest.scatter_reduce_(0, pixel, key, "amin")
    pixel = (nearest != NOTHING).nonzero()[:, 0]
    triangle = nearest[pixel] & 0xFFFFFFFF
    weights = _weights(edges.edge, triangle, pixel % width, pixel // width % height)
    total = weights.sum(1)
    return Visible(pixel, triangle, (edges.volume[triangle] / total).float(), (weights / total[:, None]).float())


def _edges(corners: torch.Tensor, picture: torch.Tensor, K: torch.Tensor, size: tuple[int, int]) -> _Edges:
    """The triangles' edge functions; a triangle seen edge-on or behind the camera gets no pixels."""
    a, b, c = corners.unbind(1)
    normals = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 1)
    volume = (a * normals[:, 0]).sum(1)
    focal, middle = K[:, [0, 1], [0, 1]][picture], K[:, :2, 2][picture]
    slope = normals[..., :2] / focal[:, None]
    constant = normals[..., 2] - (slope * middle[:, None]).sum(2)
    edge = torch.cat([slope, constant[..., None]], 2) * volume.sign()[:, None, None]
    low, high = _rectangle(corners, focal, middle, size)
    empty = (volume == 0) | (corners[..., 2] <= 0).all(1) | ~torch.isfinite(corners).flatten(1).all(1)
    return _Edges(edge, volume.abs(), picture, low, torch.where(empty[:, None], low, high))


def _rectangle(corners: torch.Tensor, focal: torch.Tensor, middle: torch.Tensor,
               size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel centres [low, high) that a triangle may cover; all of them when it reaches behind the camera."""
    height, width = size
    end = torch.tensor([width, height], dtype=torch.float64, device=corners.device)
    z = corners[..., 2:]
    seen = corners[..., :2] / z.clamp_min(1e-9) * focal[:, None] + middle[:, None]
    margin = 1e-6
    low, high = (seen.amin(1) - margin).ceil(), (seen.amax(1) + margin).floor() + 1
    whole = (z[..., 0] <= 1e-9).any(1)[:, None]
    low, high = torch.where(whole, 0.0, low), torch.where(whole, end, high)
    low = low.nan_to_num(0).clamp_min(0).minimum(end)
    return low.long(), high.nan_to_num(0).minimum(end).maximum(low).long()


def _weights(edge: torch.Tensor, triangle: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Edge functions [P,3] of triangles [P] at pixels u, v [P]."""
    a, b, c = edge[triangle].unbind(2)
    return a * u[:, None] + b * v[:, None] + c


def _portions(count: torch.Tensor) -> list[tuple[int, int]]:
    """Ranges of triangles with about PAIRS pairs each; empty ones are no work."""
    if not len(count):
        return []
    ends = count.cumsum(0)
    cuts = torch.arange(PAIRS, int(ends[-1]) + PAIRS, PAIRS, device=count.device)
    last = [0, *(torch.searchsorted(ends, cuts, right=False) + 1).clamp_max(len(count)).tolist()]
    return [(first, end) for first, end in zip(last[:-1], last[1:]) if end > first]
