"""RefPose's refinement: render, read the query's geometry, pose, again, until the pose stands still (RefPose 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowpose_ros.estimation.batches import in_parts
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.refine import ITERATIONS, LoopOptions, camera_poses, refine
from flowpose_ros.networks.geometry_net import Geometry
from flowpose_ros.options import option


@dataclass(frozen=True)
class RefPoseOptions(LoopOptions):
    """The outer loop around the geometry network; the paper renders five times."""

    iterations: int = option(5, ITERATIONS, low=1, high=20)


def refine_refpose(target: Target, first: Look, options: RefPoseOptions, depth_options: DepthOptions,
                   generator: torch.Generator) -> list[Look]:
    """Looks at the poses of `first` after each of at most `iterations` updates, and after ICP where there is depth.

    Raises WeightsError when the networks hold no geometry network.
    """
    target.networks.need_geometry()
    return refine(target, first, lambda look: fitted_poses(target, look, geometry_of(target, look), depth_options,
                                                           generator), options, depth_options)


@torch.no_grad()
def geometry_of(target: Target, look: Look) -> Geometry:
    """What the geometry network reads in a look."""
    network = target.networks.need_geometry()
    return in_parts(lambda part: network(part.query, part.source, part.views.network_view(target.shape)), look,
                    len(look.T_cam_obj))


def fitted_poses(target: Target, look: Look, geometry: Geometry, depth_options: DepthOptions,
                 generator: torch.Generator) -> torch.Tensor:
    """T_cam_obj [B,4,4] of a look's geometry; by RANSAC-Kabsch where there is depth, for each pixel of the query is
    itself where the object point that it shows was measured."""
    xyz = geometry.xyz * target.shape.radius + target.shape.center[:, None, None]
    return camera_poses(target, look, geometry.T_crop_obj, xyz, geometry.pixel, torch.sigmoid(geometry.visible),
                        geometry.weight > 0, depth_options, generator)
