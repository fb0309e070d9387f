"""RefPose's coarse stage: flow from the best templates to the query, a vote of theirs per pixel, a pose (RefPose 3.2).

Templates are rendered once more where the detection's box puts them, so that flow and coordinates are those of the
true perspective and only the classifier's features need be kept. The classifier is two-fold: a light head on kept
features picks the templates that are flowed, and the flow's own confidence those that vote.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowpose_ros.errors import OptionError
from flowpose_ros.estimation.batches import join, take
from flowpose_ros.estimation.box_start import best_starts, box_crop
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.hypotheses import Hypotheses
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.match import problem_of_cells
from flowpose_ros.estimation.refine_genflow import last_update, pose_of
from flowpose_ros.estimation.select import best_of
from flowpose_ros.estimation.template_features import TemplateFeatures, score_templates
from flowpose_ros.geometry.camera import CropCamera, back_project, pixel_grid, project
from flowpose_ros.geometry.ransac import RansacOptions, run_ransac
from flowpose_ros.networks.flow import Update
from flowpose_ros.options import Options, option
from flowpose_ros.records import Detection

CELL = 2
"""Pixels of a cell in which templates vote, as of the flow's."""
LONE = 0.5
"""Weight of a cell for which only one template votes, and so nothing contradicts it."""


@dataclass(frozen=True)
class FlowVoteOptions(Options):
    """Which templates are flowed to the query and which of them vote, and what a vote must be."""

    flowed: int = option(12, "best templates by the classifier, from which flow to the query is sought", low=1, high=64)
    voters: int = option(4, "of those, the ones with the surest flow, which vote", low=1, high=32)
    combine: str = option("medoid", "what the votes for a pixel become: the one nearest to all others, or their mean",
                          choices=("medoid", "mean"))
    apart_deg: float = option(12.0, "templates are at least this far apart, degrees", low=0.0, high=90.0)
    min_certainty: float = option(0.3, "least certainty of a flow vector that votes", low=0.0, high=1.0)
    agree_of_diameter: float = option(0.15, "a cell whose medoid is farther than this share of the diameter from all "
                                            "other votes is dropped", low=0.01, high=1.0)
    samples: int = option(400, "three-point samples of the pose of all votes", low=1, high=4096)
    inlier_px: float = option(3.0, "residual under which a vote supports a pose, crop pixels", low=0.1, high=20.0)
    min_inliers: int = option(30, "a pose with fewer is dropped", low=4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.voters > self.flowed:
            raise OptionError("voters", f"expected at most flowed, {self.flowed}, got {self.voters}")


@dataclass(frozen=True)
class Votes:
    """What k templates say about the query's cells, row by row: xyz [k,N,3] metres, object frame, and weight [k,N] in
    [0,1], 0 where a template says nothing."""

    xyz: torch.Tensor
    weight: torch.Tensor


@torch.no_grad()
def coarse_flow_vote(target: Target, detection: Detection, templates: TemplateFeatures, options: FlowVoteOptions,
                     depth_options: DepthOptions, generator: torch.Generator) -> Hypotheses:
    """The pose that the voters agree on, then that of each flowed template, the surest flow first."""
    networks, shape = target.networks, target.shape
    camera = box_crop(detection.box, target.frame.K)
    query = networks.flow.encode(target.frame.crop(camera))[1]
    starts = best_starts(target, detection, camera, templates.rotations, score_templates(templates, query, networks),
                         options.flowed, options.flowed, options.apart_deg, depth_options)
    look = target.look(starts.T_cam_obj)
    update = last_update(target, look)
    own, sure = pose_of(target, look, update, depth_options, generator), flow_confidence(update)
    order = best_of(sure, len(sure))
    votes = take(warp(update, look, camera, options.min_certainty), order[:options.voters])
    xyz, weight = (mean_vote(votes) if options.combine == "mean" else
                   medoid(votes, options.agree_of_diameter * shape.diameter))
    T_crop, found = pose_of_votes(xyz, weight, camera, target.frame.depth_crop(camera), shape.diameter, options,
                                  depth_options, generator)
    each = Hypotheses(own[order], sure[order])
    return join([Hypotheses(camera.to_camera(T_crop), sure[order[:1]]), each]) if found else each


def flow_confidence(update: Update) -> torch.Tensor:
    """How sure [B] a network is of its flow: the mean over the object of the probability that a cell is visible and
    its flow right to CELL pixels. A template whose flow cannot be predicted shows by it (RefPose 3.2)."""
    return (confidence(update) * update.valid).sum((1, 2, 3)) / update.valid.sum((1, 2, 3)).clamp_min(1)


def confidence(update: Update) -> torch.Tensor:
    """The probability [B,1,h,w] that each cell is visible and its flow right to CELL pixels."""
    return torch.sigmoid(update.field.certainty) * update.field.probability_within(float(CELL))


def warp(update: Update, look: Look, camera: CropCamera, min_certainty: float) -> Votes:
    """Each template's object points where its flow says the query shows them: cells of the crop of `camera`.

    Of several that fall into one cell the surest stays (RefPose 3.2).
    """
    k, side = len(look.T_cam_obj), camera.size // CELL
    target = (update.pixel + update.field.flow).flatten(2).transpose(1, 2)
    ahead = back_project(target, torch.ones_like(target[..., 0]), look.views.camera.K)
    seen = project(ahead @ look.views.camera.R_crop_cam @ camera.R_crop_cam.transpose(1, 2), camera.K)
    weight = confidence(update)
    sure = (torch.sigmoid(update.field.certainty) > min_certainty).flatten(1)
    cell = ((seen + 0.5) / CELL).floor().nan_to_num(-1).clamp(-1, side).long()
    inside = ((cell >= 0) & (cell < side)).all(-1) & sure & update.valid.flatten(1)
    index = torch.where(inside, cell[..., 1] * side + cell[..., 0], side * side)
    weight = torch.where(inside, weight.flatten(1), 0.0)
    surest = weight.new_zeros(k, side * side + 1).scatter_reduce(1, index, weight, "amax")
    # Of equals the first in the template, whatever order a device writes in.
    order = torch.arange(index.shape[1], device=index.device).expand_as(index)
    first = order.masked_fill(weight < surest.gather(1, index), index.shape[1])
    holder = index.new_full((k, side * side + 1), index.shape[1]).scatter_reduce(1, index, first, "amin")[:, :-1]
    taken = holder < index.shape[1]
    points = update.xyz.flatten(2).transpose(1, 2)
    xyz = points.gather(1, holder.clamp_max(index.shape[1] - 1)[..., None].expand(-1, -1, 3))
    return Votes(xyz * taken[..., None], surest[:, :-1] * taken)


def medoid(votes: Votes, agree: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each cell the vote nearest to all others, by their weights: xyz [N,3], and its weight [N] in [0,1].

    A cell whose medoid has no other vote within `agree` metres is dropped, one with a single vote counts LONE.
    """
    apart = torch.cdist(votes.xyz.transpose(0, 1), votes.xyz.transpose(0, 1))
    weight = votes.weight.T
    present = weight > 0
    cost = (apart * weight[:, None]).sum(2).masked_fill(~present, torch.inf)
    best = cost.argmin(1)
    cells = torch.arange(len(best), device=best.device)
    others = present.clone()
    others[cells, best] = False
    nearest = apart[cells, best].masked_fill(~others, torch.inf).amin(1)
    count = present.sum(1)
    share = torch.where(count == 1, LONE, (nearest <= agree).float()) * (count > 0)
    return votes.xyz[best, cells], weight[cells, best] * share


def mean_vote(votes: Votes) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of each cell's votes, by their weights: xyz [N,3], and its mean weight [N]. What the medoid is compared
    with (RefPose's ablation): one voter that is wrong moves it."""
    total, count = votes.weight.sum(0), (votes.weight > 0).sum(0)
    xyz = (votes.xyz * votes.weight[..., None]).sum(0) / total.clamp_min(1e-6)[:, None]
    return xyz, total / count.clamp_min(1)


def pose_of_votes(xyz: torch.Tensor, weight: torch.Tensor, camera: CropCamera, depth: torch.Tensor | None,
                  diameter: float, options: FlowVoteOptions, depth_options: DepthOptions, generator: torch.Generator
                  ) -> tuple[torch.Tensor, bool]:
    """T_crop_obj [1,4,4] of voted object points xyz [N,3], and whether enough of them support it: by RANSAC-P3P, or
    RANSAC-Kabsch where half of them have depth [1,S,S]."""
    side = camera.size // CELL
    pixels = (pixel_grid(side, side, xyz.device).reshape(1, -1, 2) + 0.5) * CELL - 0.5
    problem = problem_of_cells(xyz[None], pixels, (weight > 0)[None], camera.K, depth, options.inlier_px, diameter,
                               depth_options)
    fit = run_ransac(problem, RansacOptions(options.samples), generator)
    return fit.T, bool(fit.found[0] and fit.inlier.sum() >= options.min_inliers)
