"""A pose from global matches: finds the way where a start is too far off for the updates (RANSAC on matches)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from flowpose_ros.estimation.depth import DepthOptions, depth_at
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.views import sane
from flowpose_ros.geometry.camera import back_project
from flowpose_ros.geometry.ransac import KabschProblem, P3pProblem, RansacOptions, run_ransac
from flowpose_ros.networks.flow import cell_points
from flowpose_ros.networks.encoder import Features
from flowpose_ros.networks.matching import STRIDE, found_in_place, joint_features, match_cells
from flowpose_ros.options import Options, option

LEAST_COVER = 0.5
"""A cell takes part when the object covers this share of it."""
LEAST_CONFIDENCE = 0.5
"""And when its match is at least this confident, relative to the median of the object's cells."""


@dataclass(frozen=True)
class MatchOptions(Options):
    """How poses are found from matches of the whole crop."""

    iterations: int = option(1, "renders that are matched before the updates where there is depth; 0 for none", low=0,
                             high=10)
    iterations_rgb: int = option(0, "the same without depth: three matches tell little of the distance", low=0, high=10)
    inlier_px: float = option(5.0, "residual under which a match supports a pose, crop pixels", low=0.5, high=50.0)
    hypotheses: int = option(128, "three-point samples", low=1, high=4096)
    min_inlier_ratio: float = option(0.25, "a pose with a smaller share of inliers is dropped", low=0.0, high=1.0)
    min_inliers: int = option(15, "a pose with fewer inliers is dropped", low=4)


def match_poses(target: Target, first: Look, options: MatchOptions, depth_options: DepthOptions,
                generator: torch.Generator) -> list[Look]:
    """Looks at the poses after each round of match, solve and render; the first is `first`."""
    looks = [first]
    for _ in range(options.iterations_rgb if first.depth is None else options.iterations):
        looks.append(target.look(match_once(target, looks[-1], options, depth_options, generator)))
    return looks


@torch.no_grad()
def match_once(target: Target, look: Look, options: MatchOptions, depth_options: DepthOptions,
               generator: torch.Generator) -> torch.Tensor:
    """T_cam_obj [B,4,4] by RANSAC-P3P, or RANSAC-Kabsch where the matches have depth; a pose that too few
    matches support stays."""
    views, shape = look.views, target.shape
    xyz, cover = (x.flatten(2).transpose(1, 2)
                  for x in cell_points(views.rendering.xyz, views.rendering.mask, STRIDE))
    order, on_object = object_cells(cover[..., 0])
    xyz = xyz.gather(1, order[..., None].expand(-1, -1, 3))
    matches = match_cells(joint_features(look.source), joint_features(look.query), order, on_object)
    median = torch.where(on_object, matches.confidence, torch.nan).nanmedian(1, keepdim=True).values
    usable = on_object & (matches.confidence >= LEAST_CONFIDENCE * median)
    problem = problem_of_cells(xyz, matches.pixel, usable, views.camera.K, look.depth, options.inlier_px,
                               shape.diameter, depth_options)
    fit = run_ransac(problem, RansacOptions(options.hypotheses, scored_points=192), generator)
    good = (fit.inlier_ratio >= options.min_inlier_ratio) & (fit.inlier.sum(1) >= options.min_inliers)
    T_crop = torch.where((fit.found & good)[:, None, None], fit.T, views.T_crop_obj)
    return views.camera.to_camera(sane(T_crop, views, shape))


def problem_of_cells(xyz: torch.Tensor, pixel: torch.Tensor, usable: torch.Tensor, K: torch.Tensor,
                     depth: torch.Tensor | None, inlier_px: float, diameter: float, depth_options: DepthOptions
                     ) -> P3pProblem | KabschProblem:
    """The poses of object points xyz [B,N,3] seen at pixels [B,N,2] where usable [B,N]: 3D-3D where at least half of
    them have depth [B,S,S], else 2D-3D with residuals up to `inlier_px`; K [B,3,3], diameter metres."""
    if depth is not None:
        z = depth_at(depth, pixel)
        measured = usable & (z > 0)
        if (measured.sum(1) >= 0.5 * usable.sum(1)).all():
            # A cell is coarser than a pixel, and so is where its match lies.
            threshold = max(2 * depth_options.inlier_distance(diameter), 0.04 * diameter)
            return KabschProblem(xyz, back_project(pixel, z, K), measured, z.new_full((len(z),), threshold))
    return P3pProblem(xyz, pixel, usable, K, pixel.new_full((len(pixel),), inlier_px))


def found_in_places(source: Features, query: Features, mask: torch.Tensor) -> torch.Tensor:
    """How surely [B] a query shows the parts of a render's object, mask [B,S,S], in their places (see
    `found_in_place`); source, query: features of the render and of the query."""
    cells = object_cells(F.avg_pool2d(mask[:, None].float(), STRIDE).flatten(1))
    return found_in_place(joint_features(source), joint_features(query), *cells)


def object_cells(cover: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The cells [B,N] that an object covers enough of, by the share [B,h*w] it covers, and which [B,N] of them count:
    all poses' lists are as long as the longest."""
    on_object = cover > LEAST_COVER
    order = on_object.float().argsort(dim=1, descending=True, stable=True)[:, :max(3, int(on_object.sum(1).max()))]
    return order, on_object.gather(1, order)
