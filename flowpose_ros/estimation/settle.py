"""The last steps to an answer: poses that may be it come nearer in finer pixels, these show which one is, and it comes
nearer still.

Flow is off by as many pixels in a crop of any size; in one that shows the object larger, these are smaller. Most is
won in depth, which without a depth image only the object's size tells. Finer pixels also show print that tells an
object's sides apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowpose_ros.estimation.batches import in_parts, join
from flowpose_ros.estimation.depth import DepthOptions, hardly_measured
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.match import found_in_places
from flowpose_ros.estimation.refine import fit_surface
from flowpose_ros.estimation.trail import Trail
from flowpose_ros.estimation.views import sane
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.options import Options, option

FINE_SIZE, FINEST_SIZE = 192, 256
FINE_PADDING = 1.1
"""Sides in pixels of the crops in which poses are compared and in which the answer is updated last, and their half side
over half the longer side of the object's projection."""
FARTHEST, FARTHEST_WITH_DEPTH = 0.7, 0.1
"""An update in finer pixels moves no point farther than this share of the diameter; depth has brought poses nearer."""
COST = 0.05
"""A step is taken if the pose's score is not lower by more: scores tell sides, not millimetres."""
LEAST = 1e-6
"""Scores nearer to 0 or 1 are as good as these."""
MARGIN = 0.7
"""A pose is a rival of the best if its score's logit is not lower by more."""
BEFORE_WEIGHT, PLACE_WEIGHT = 0.5, 2.0
"""What a rival's score before its step, and how surely finer pixels show its parts in their places, count beside its
score after the step."""


@dataclass(frozen=True)
class SettleOptions(Options):
    """How the answer is chosen and brought nearer."""

    fine_updates: int = option(2, "updates of the answer in finer crops; 0 for none", low=0, high=10)
    rivals: int = option(2, "at most so many poses get all of these but the last, before one of them is chosen", low=1,
                         high=20)


def settled(target: Target, trail: Trail, options: SettleOptions, depth_options: DepthOptions) -> Look:
    """A look at the pose of a trail that is the answer, brought nearer by finer pixels and, where there is depth,
    fitted to it.

    Which side of an object is seen may be decided by a pose that was not updated yet.
    """
    symmetries = target.shape.model.symmetries
    if not options.fine_updates:
        return stepped(target, trail, *trail.distinct(symmetries, 1), FINEST_SIZE, 0, depth_options)[0]
    best, before = trail.distinct(symmetries, options.rivals)
    rivals = (logit(before) > logit(before[0]) - MARGIN).nonzero()[:, 0]
    looks, scores = stepped(target, trail, best.take(rivals), before[rivals], FINE_SIZE, options.fine_updates - 1,
                            depth_options)
    if len(rivals) > 1:
        right = logit(scores) + BEFORE_WEIGHT * logit(before[rivals])
        chosen = (right + PLACE_WEIGHT * found_finely(target, looks.T_cam_obj)).argmax()[None]
        looks, scores = looks.take(chosen), scores[chosen]
    return stepped(target, trail, looks, scores, FINEST_SIZE, 1, depth_options)[0]


def logit(score: torch.Tensor) -> torch.Tensor:
    """The logits of scores [B] in [0,1], finite."""
    return torch.logit(score, LEAST)


def stepped(target: Target, trail: Trail, looks: Look, scores: torch.Tensor, size: int, updates: int,
            depth_options: DepthOptions) -> tuple[Look, torch.Tensor]:
    """Looks at poses, with their scores [B], after updates in crops of `size` pixels and, where there is depth, a fit
    to it; those that this would cost more than COST stay as they were."""
    T_cam_obj = nearer(target, looks, size, updates, depth_options)
    if T_cam_obj is looks.T_cam_obj:
        return looks, scores
    after, value = trail.add([target.look(T_cam_obj)])
    index = torch.arange(len(scores), device=scores.device) + len(scores) * (value > scores - COST)
    return join([looks, after]).take(index), join([scores, value])[index]


def nearer(target: Target, look: Look, size: int, updates: int, depth_options: DepthOptions) -> torch.Tensor:
    """T_cam_obj [B,4,4] of a look after updates in crops of `size` pixels, fitted to the depth where there is any."""
    T_cam_obj, reach = look.T_cam_obj, farthest(look)
    for _ in range(updates):
        T_cam_obj = updated(target, T_cam_obj, size, reach)
    if look.depth is None or not depth_options.icp_iterations:
        return T_cam_obj
    views = target.render(T_cam_obj) if updates else look.views
    return fit_surface(target, views, target.frame.depth_crop(views.camera), depth_options)


def farthest(look: Look) -> torch.Tensor:
    """How far [B] finer pixels may move a point of the object, a share of the diameter."""
    free = look.T_cam_obj.new_full((len(look.T_cam_obj),), FARTHEST)
    if look.depth is None:
        return free
    return torch.where(hardly_measured(look.views.rendering.mask, look.depth), free, FARTHEST_WITH_DEPTH)


@torch.no_grad()
def updated(target: Target, T_cam_obj: torch.Tensor, size: int, reach: torch.Tensor) -> torch.Tensor:
    """T_cam_obj [B,4,4] after an update by the settler in crops of `size` pixels; those that moved a point by more than
    reach [B], a share of the diameter, stay as they were."""
    def update(T: torch.Tensor) -> torch.Tensor:
        views = target.render(T, size, FINE_PADDING)
        found = target.networks.settler_poses((target.frame.crop(views.camera), views.network_view(target.shape)))
        return views.camera.to_camera(sane(found, views, target.shape))

    found = in_parts(update, T_cam_obj, len(T_cam_obj))
    points = target.shape.points[None]
    moved = (transform_points(found, points) - transform_points(T_cam_obj, points)).norm(dim=-1).amax(1)
    return torch.where((moved < reach * target.shape.diameter)[:, None, None], found, T_cam_obj)


@torch.no_grad()
def found_finely(target: Target, T_cam_obj: torch.Tensor) -> torch.Tensor:
    """How surely [B] finer pixels show the parts of the object in their places under poses T_cam_obj [B,4,4]."""
    def place(T: torch.Tensor) -> torch.Tensor:
        views = target.render(T, FINE_SIZE, FINE_PADDING)
        source, query = map(target.networks.settler.encode, (views.rendering.rgb, target.frame.crop(views.camera)))
        return found_in_places(source, query, views.rendering.mask)

    return in_parts(place, T_cam_obj, len(T_cam_obj))
