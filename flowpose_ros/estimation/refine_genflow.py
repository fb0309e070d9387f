"""GenFlow's refinement: render, flow, pose, again, until the pose stands still (GenFlow 3.2-3.5)."""

from __future__ import annotations

import torch

from flowpose_ros.estimation.batches import in_parts
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.refine import LoopOptions, camera_poses, refine
from flowpose_ros.networks.flow import Update


def refine_genflow(target: Target, first: Look, options: LoopOptions, depth_options: DepthOptions,
                   generator: torch.Generator) -> list[Look]:
    """Looks at the poses of `first` after each of at most `iterations` updates, and after ICP where there is depth."""
    return refine(target, first, lambda look: update_once(target, look, depth_options, generator), options,
                  depth_options)


@torch.no_grad()
def update_once(target: Target, look: Look, depth_options: DepthOptions, generator: torch.Generator) -> torch.Tensor:
    """T_cam_obj [B,4,4] after the network's updates, and RANSAC-Kabsch where there is depth."""
    return pose_of(target, look, last_update(target, look), depth_options, generator)


@torch.no_grad()
def pose_of(target: Target, look: Look, update: Update, depth_options: DepthOptions, generator: torch.Generator
            ) -> torch.Tensor:
    """T_cam_obj [B,4,4] that an update of a look says: its own without depth, that of RANSAC-Kabsch with it."""
    return camera_poses(target, look, update.T_crop_obj, update.xyz, update.field.flow + update.pixel,
                        torch.sigmoid(update.field.certainty), update.valid, depth_options, generator)


def last_update(target: Target, look: Look) -> Update:
    """The last update of the network on a look."""
    update = target.networks.flow_update
    return in_parts(lambda part: update((part.query, part.views.network_view(target.shape), part.source)), look,
                    len(look.T_cam_obj))
