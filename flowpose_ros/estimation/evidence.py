"""What speaks for and against a pose, cell by cell: maps for the verifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from flowpose_ros.estimation.agreement import contour_map, gradient, length, luminance, texture_map
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.match import object_cells
from flowpose_ros.networks.matching import SHARE_FLOOR, STRIDE, joint_features, place_shares
from flowpose_ros.networks.verifier import DEPTH

REACH = 1
"""Features are compared with those of the cells this far around."""
FARTHEST = 0.25
"""Differences of depth beyond this share of the diameter count as this much."""


@torch.no_grad()
def evidence(target: Target, look: Look, options: DepthOptions) -> torch.Tensor:
    """Maps [B,CHANNELS,S/4,S/4] of a look, in [-1,1], as `networks.verifier` lists them; those of depth are 0 where
    there is none."""
    r, picture = look.views.rendering, look.picture
    cover = F.avg_pool2d(r.mask[:, None].float(), STRIDE)
    fine, coarse = (similarities(s, q, cover.shape[-1]) for s, q in zip(look.source, look.query))
    texture, windows = texture_map(r.rgb, r.mask, picture, STRIDE)
    change, on_contour = (x[:, None] for x in contour_map(r.mask, picture))
    edges = (8 * length(gradient(luminance(x))) for x in (picture, r.rgb))
    parts = (picture - 0.5, r.rgb - 0.5, *edges, 40 * change * on_contour, 4 * on_contour, r.normal[:, 2:])
    maps = [cover, fine * (cover > 0.1), coarse * (cover > 0.1), place_map(look, cover),
            texture * (windows > 0), *(F.avg_pool2d(x, STRIDE) for x in parts), *depth_maps(target, look, options)]
    return torch.cat(maps, 1).clamp(-1, 1)


def similarities(source: torch.Tensor, query: torch.Tensor, side: int) -> torch.Tensor:
    """Cosines [B,9,side,side] of features [B,C,h,w] of a render with those of the query around the same place."""
    a, b = (x.float() / length(x.float()).clamp_min(1e-6) for x in (source, query))
    B, _, h, w = a.shape
    near = F.unfold(b, 2 * REACH + 1, padding=REACH).reshape(B, b.shape[1], -1, h, w)
    return F.interpolate((a[:, :, None] * near).sum(1), size=(side, side), mode="nearest")


def place_map(look: Look, cover: torch.Tensor) -> torch.Tensor:
    """How surely the query shows each cell of the object at its place [B,1,h,w], 0 beside the object."""
    cells, on_object = object_cells(cover.flatten(1))
    share = place_shares(joint_features(look.source), joint_features(look.query), cells)
    known = (1 + (share + SHARE_FLOOR).log() / 3) * on_object
    return torch.zeros_like(cover).flatten(1).scatter_add(1, cells, known).reshape(cover.shape)


def depth_maps(target: Target, look: Look, options: DepthOptions) -> list[torch.Tensor]:
    """How far the measured depth lies behind the rendered one, in quarters of the diameter, and the shares of each cell
    that are measured, that agree, that are looked through, and that show something beside the object at its distance:
    maps [B,1,h,w]."""
    r = look.views.rendering
    if look.depth is None:
        return [F.avg_pool2d(torch.zeros_like(r.depth[:, None]), STRIDE)] * DEPTH
    shape = target.shape
    distance = (look.views.T_crop_obj[:, 2, :3] @ shape.center + look.views.T_crop_obj[:, 2, 3])[:, None, None]
    beside = ~r.mask & (look.depth > 0) & ((look.depth - distance).abs() < shape.radius)
    seen = r.mask & (look.depth > 0)
    behind = (look.depth - r.depth) * seen
    near = options.agreement_distance(shape.diameter)
    reach = FARTHEST * shape.diameter
    parts = (behind.clamp(-reach, reach) / reach, seen.float(), (seen & (behind.abs() <= near)).float(),
             (behind > near).float(), beside.float())
    return [F.avg_pool2d(x[:, None], STRIDE) for x in parts]
