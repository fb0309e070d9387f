"""The last step to an answer: the one best pose is brought nearer than all were worth, by the depth or by finer pixels.

Flow is off by as many pixels in a crop of any size; in one that shows the object larger, these are smaller. Most is
won in depth, which without a depth image only the object's size tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.refine import fit_surface
from flowpose_ros.estimation.refine_genflow import last_update
from flowpose_ros.estimation.trail import Trail
from flowpose_ros.estimation.views import sane
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.options import option

FINE_SIZE = 192
FINE_PADDING = 1.1
"""The finer crop's side in pixels, and its half side over half the longer side of the object's projection."""
FARTHEST = 0.3
"""Finer pixels move no point farther than this share of the diameter: what they do show so far away is another part."""
COST = 0.05
"""The last step is taken if the pose's score is not lower by more: scores tell sides, not millimetres."""


@dataclass(frozen=True)
class SettleOptions:
    """What is done to the best pose where there is no depth."""

    fine_updates: int = option(2, "updates of the answer in a finer crop where there is no depth; 0 for none", low=0,
                               high=10)


def settled(target: Target, trail: Trail, options: SettleOptions, depth_options: DepthOptions) -> Look:
    """A look at the best pose of a trail, fitted to the depth or, where there is none, to finer pixels.

    Which side of an object is seen may be decided by a pose that was not updated yet.
    """
    best, score = trail.best()
    steps = options.fine_updates if best.depth is None else depth_options.icp_iterations
    if not steps:
        return best
    nearer = finer(target, best, steps) if best.depth is None else fit_surface(target, best, depth_options)
    last, value = trail.add([target.look(nearer)])
    return last if value > score - COST else best


@torch.no_grad()
def finer(target: Target, look: Look, updates: int) -> torch.Tensor:
    """T_cam_obj [B,4,4] after updates of the flow network in finer crops; those that went too far stay as they were."""
    T = look.T_cam_obj
    for _ in range(updates):
        fine = target.look(T, FINE_SIZE, FINE_PADDING)
        T = fine.views.camera.to_camera(sane(last_update(target, fine).T_crop_obj, fine.views, target.shape))
    points = target.shape.points[None]
    moved = (transform_points(T, points) - transform_points(look.T_cam_obj, points)).norm(dim=-1).amax(1)
    return torch.where((moved < FARTHEST * target.shape.diameter)[:, None, None], T, look.T_cam_obj)
