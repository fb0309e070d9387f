"""What a depth image adds: poses fitted to it, and how well a pose agrees with it.

All depth images here are those of crops: metres along the crop camera's z axis, 0 where invalid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowpose_ros.geometry.camera import back_project, pixel_grid
from flowpose_ros.geometry.ransac import KabschProblem, RansacOptions, run_ransac
from flowpose_ros.options import Options, option

Length = float | torch.Tensor
"""Metres: one for all poses, or [B] for poses of different objects."""
MIN_SHIFT_PIXELS = 20
ENOUGH = 0.3
"""Where less of an object is measured, the shares of what is say the less about all of it."""
HARDLY_ANY = 0.1
"""Where less of an object is measured, nothing is fitted to that: its surroundings at its outline, most likely."""
UNKNOWN = 0.6, 0.3, 0.1
"""Shares that agree, are hidden and are looked through which speak neither for a pose nor against it."""
FREE_SPACE = 3.0
"""How much more a pixel that the sensor looked through counts than one that agrees."""


@dataclass(frozen=True)
class DepthOptions(Options):
    """How depth is used."""

    min_certainty: float = option(0.5, "least certainty of a flow vector that is paired with depth", low=0.0, high=1.0)
    hypotheses: int = option(256, "three-point samples of the fit to depth", low=1, high=4096)
    inlier_m: float = option(0.005, "inlier distance in metres, at least", low=0.0005, high=1.0)
    inlier_of_diameter: float = option(0.02, "inlier distance as a part of the diameter, at least", low=0.0, high=0.5)
    min_inlier_ratio: float = option(0.3, "a fit with a smaller share of inliers is dropped", low=0.0, high=1.0)
    min_inliers: int = option(50, "a fit with fewer inliers is dropped", low=3)
    icp_iterations: int = option(8, "steps of the final fit to the depth surface; 0 turns it off", low=0, high=50)
    icp_points: int = option(2000, "rendered pixels that take part in the final fit", low=100, high=100000)
    icp_gate_m: float = option(0.02, "first distance gate of the final fit in metres, at least", low=0.001,
                               high=1.0)
    icp_gate_of_diameter: float = option(0.1, "first gate as a part of the diameter, at least", low=0.0, high=1.0)

    def inlier_distance(self, diameter: Length) -> Length:
        """Distance in metres below which a measured point belongs to an object of this diameter."""
        return at_least(self.inlier_m, self.inlier_of_diameter * diameter)

    def agreement_distance(self, diameter: Length) -> Length:
        """Difference in metres below which a rendered and a measured depth agree; more than an inlier's, for a pose may
        be right and not yet fitted."""
        return 1.5 * self.inlier_distance(diameter)

    def icp_gate(self, diameter: Length) -> Length:
        """Distance in metres within which the first ICP step looks for the surface."""
        return at_least(self.icp_gate_m, self.icp_gate_of_diameter * diameter)


def at_least(least: float, length: Length) -> Length:
    """A length, or each of several [B], no shorter than `least`."""
    return length.clamp_min(least) if isinstance(length, torch.Tensor) else max(least, length)


def per_pixel(length: Length) -> Length:
    """A length for B images [B,H,W]: one for all, or of each."""
    return length[:, None, None] if isinstance(length, torch.Tensor) else length


def fit_depth(xyz: torch.Tensor, pixel_target: torch.Tensor, certainty: torch.Tensor, valid: torch.Tensor,
              depth_crop: torch.Tensor, K: torch.Tensor, T_init: torch.Tensor, diameter: float,
              options: DepthOptions, generator: torch.Generator
              ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """T_crop_obj [B,4,4] of 3D-3D pairs made by flow and depth, inlier ratio [B] and ok [B] bool.

    xyz [B,3,h,w] object points in metres; pixel_target [B,2,h,w] where flow sees them, (u, v) crop
    pixels; certainty [B,1,h,w] in [0,1]; valid [B,1,h,w] bool; depth_crop [B,S,S]; K [B,3,3];
    T_init [B,4,4] is returned where the fit is not ok. Source: GenFlow 3.5 (RGB-D input).
    """
    pixels = pixel_target.flatten(2).transpose(1, 2)
    z = depth_at(depth_crop, pixels)
    usable = (valid & (certainty > options.min_certainty)).flatten(1) & (z > 0)
    # What a network says about unused pixels need not be finite.
    measured = torch.where(usable[..., None], back_project(pixels, z, K), torch.zeros_like(pixels[..., :1]))
    threshold = torch.full_like(z[:, 0], options.inlier_distance(diameter))
    problem = KabschProblem(xyz.flatten(2).transpose(1, 2), measured, usable, threshold)
    fit = run_ransac(problem, RansacOptions(hypotheses=options.hypotheses), generator)
    ok = ((fit.inlier.sum(1) >= options.min_inliers) & (fit.inlier_ratio >= options.min_inlier_ratio))
    return torch.where(ok[:, None, None], fit.T, T_init), fit.inlier_ratio, ok


def depth_at(depth: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Depths [B,N] of the pixels nearest to pixels [B,N,2] (u, v) in depth [B,H,W]; 0 outside."""
    H, W = depth.shape[-2:]
    u, v = pixels.round().nan_to_num(-1).clamp(-1, max(H, W)).long().unbind(-1)
    inside = (u >= 0) & (u < W) & (v >= 0) & (v < H)
    index = v.clamp(0, H - 1) * W + u.clamp(0, W - 1)
    return depth.flatten(1).gather(1, index) * inside


@dataclass(frozen=True)
class DepthShares:
    """Of the rendered pixels that are measured, the shares [B] that agree, are hidden by something nearer, or
    are looked through by the sensor (`farther`); `measured` is the share of all rendered pixels."""

    agree: torch.Tensor
    hidden: torch.Tensor
    farther: torch.Tensor
    measured: torch.Tensor


def depth_shares(render_depth: torch.Tensor, mask: torch.Tensor, observed: torch.Tensor,
                 tolerance: Length) -> DepthShares:
    """How rendered and measured depth compare; render_depth, observed [B,S,S] metres (0: not measured);
    mask [B,S,S] bool rendered pixels; tolerance metres."""
    tolerance = per_pixel(tolerance)
    seen = mask & (observed > 0)
    difference = observed - render_depth
    count = seen.sum((1, 2)).clamp_min(1)
    agree, hidden = ((seen & part).sum((1, 2)) / count
                     for part in (difference.abs() <= tolerance, difference < -tolerance))
    measured = seen.sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)
    return DepthShares(agree, hidden, seen.any(2).any(1) * (1 - agree - hidden), measured)


def hardly_measured(mask: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Which [B] of the rendered objects, mask [B,S,S] bool, have next to no depth; observed [B,S,S] metres (0: not
    measured)."""
    return (mask & (observed > 0)).sum((1, 2)) < HARDLY_ANY * mask.sum((1, 2))


def believable(shares: DepthShares) -> DepthShares:
    """Shares that come the nearer to UNKNOWN the fewer of the rendered pixels are measured, below ENOUGH of them.

    Where an object gives hardly any depth (black, shiny, glass), the few pixels that have some show its surroundings at
    its outline: the right pose would count as looked through, and one that lies in the background as confirmed.
    """
    told = (shares.measured / ENOUGH).clamp_max(1)
    return DepthShares(*(told * share + (1 - told) * unknown
                         for share, unknown in zip((shares.agree, shares.hidden, shares.farther), UNKNOWN)),
                       shares.measured)


def depth_agreement(shares: DepthShares) -> torch.Tensor:
    """Scores [B] in [0,1] that rank poses by depth.

    Pixels without a measurement do not count; something measured nearer may hide the object and counts half
    against it; something farther means that the sensor looked through the object, and counts FREE_SPACE
    times: the handle of a cup turned to the wrong side is a small part of the cup.
    """
    return shares.agree / (shares.agree + 0.5 * shares.hidden + FREE_SPACE * shares.farther).clamp_min(1e-6)


def shift_to_depth(render_depth: torch.Tensor, mask: torch.Tensor, observed: torch.Tensor, K: torch.Tensor,
                   T_crop_obj: torch.Tensor, diameter: float, region: torch.Tensor | None = None
                   ) -> torch.Tensor:
    """Poses [B,4,4] moved along the viewing ray until the rendered surface lies in the measured one.

    render_depth, observed [B,S,S] metres; mask [B,S,S] bool rendered pixels; K [B,3,3];
    T_crop_obj [B,4,4]; region [B,S,S] bool limits where depth is compared (a detection's mask or
    box). The shift is a median of depth differences, taken again around the first; where fewer than 20 pixels can be
    compared, or hardly any of what is rendered there, the pose stays.
    """
    compared = mask if region is None else mask & region
    seen = compared & (observed > 0)
    difference = (observed - render_depth).flatten(1)
    # A pose from a box alone can be wrong by a fifth of its distance.
    near = seen.flatten(1) & (difference.abs() < 0.5 * diameter + 0.2 * render_depth.flatten(1))
    first = _median(difference, near)
    near &= (difference - first[:, None]).abs() < 0.5 * diameter
    enough = (near.sum(1) >= MIN_SHIFT_PIXELS) & ~hardly_measured(compared, observed)
    shift = torch.where(enough, _median(difference, near), torch.zeros_like(first))
    # The ray through the middle of the silhouette: the view then changes least.
    grid = pixel_grid(*mask.shape[1:], mask.device).reshape(-1, 2)
    share = mask.flatten(1) / mask.flatten(1).sum(1, keepdim=True).clamp_min(1)
    moved = T_crop_obj.clone()
    moved[:, :3, 3] += back_project((share @ grid)[:, None], shift[:, None], K)[:, 0]
    return moved


def _median(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Medians [B] of values [B,N] where mask [B,N]; 0 where there are none."""
    return values.masked_fill(~mask, torch.nan).nanmedian(1).values.nan_to_num(0.0)
