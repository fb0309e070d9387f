"""GenFlow's refinement: render, flow, pose, again, until the pose stands still (GenFlow 3.2-3.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowpose_ros.estimation.depth import DepthOptions, fit_depth
from flowpose_ros.estimation.icp import refine_icp
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.views import Shape, sane
from flowpose_ros.geometry.transforms import rotation_angle, transform_points
from flowpose_ros.networks.flow import Update
from flowpose_ros.options import option


@dataclass(frozen=True)
class GenFlowOptions:
    """The outer loop around the network."""

    iterations: int = option(2, "renders of each hypothesis after those that were matched", low=1, high=20)
    still_deg: float = option(0.5, "stop when no hypothesis turns by more than this, degrees", low=0.0, high=20.0)
    still_of_diameter: float = option(0.005, "and none moves by more than this share of the diameter", low=0.0,
                                      high=0.5)
    inlier_px: float = option(2.0, "residual under which a flow vector supports the pose, crop pixels", low=0.1,
                              high=20.0)


def refine_genflow(target: Target, first: Look, options: GenFlowOptions, depth_options: DepthOptions,
                   generator: torch.Generator) -> list[Look]:
    """Looks at the poses of `first` after each of at most `iterations` updates, and after ICP where there is depth."""
    looks = [first]
    for _ in range(options.iterations):
        looks.append(target.look(update_once(target, looks[-1], depth_options, generator)))
        if stands_still(looks[-2].T_cam_obj, looks[-1].T_cam_obj, target.shape, options):
            break
    if first.depth is not None and depth_options.icp_iterations:
        looks.append(target.look(fit_surface(target, looks[-1], depth_options)))
    return looks[1:]


@torch.no_grad()
def update_once(target: Target, look: Look, depth_options: DepthOptions, generator: torch.Generator) -> torch.Tensor:
    """T_cam_obj [B,4,4] after the network's updates, and RANSAC-Kabsch where there is depth."""
    return pose_of(target, look, last_update(target, look), depth_options, generator)


@torch.no_grad()
def pose_of(target: Target, look: Look, update: Update, depth_options: DepthOptions, generator: torch.Generator
            ) -> torch.Tensor:
    """T_cam_obj [B,4,4] that an update of a look says: its own without depth, that of RANSAC-Kabsch with it."""
    views, shape = look.views, target.shape
    T_crop = sane(update.T_crop_obj, views, shape)
    if look.depth is not None:
        fitted, _, _ = fit_depth(update.xyz, update.field.flow + update.pixel, torch.sigmoid(update.field.certainty),
                                 update.valid, look.depth, views.camera.K, T_crop, shape.diameter, depth_options,
                                 generator)
        T_crop = sane(fitted, views, shape)
    return views.camera.to_camera(T_crop)


@torch.no_grad()
def fit_surface(target: Target, look: Look, depth_options: DepthOptions) -> torch.Tensor:
    """T_cam_obj [B,4,4] after ICP to the depth."""
    views, r = look.views, look.views.rendering
    T_crop = refine_icp(r.xyz, r.normal, r.mask, views.T_crop_obj, look.depth, views.camera.K, views.T_crop_obj,
                        target.shape.diameter, depth_options)
    return views.camera.to_camera(sane(T_crop, views, target.shape))


def last_update(target: Target, look: Look) -> Update:
    """The last update of the network on a look."""
    return target.networks.flow(look.query, look.views.network_view(target.shape), look.source)[-1]


def stands_still(before: torch.Tensor, after: torch.Tensor, shape: Shape, options: GenFlowOptions) -> bool:
    """Whether no pose [B,4,4] moved noticeably."""
    turn = rotation_angle(before[:, :3, :3], after[:, :3, :3]).amax()
    middle = shape.center[None]
    move = (transform_points(before, middle) - transform_points(after, middle)).norm(dim=-1).amax()
    return bool(torch.rad2deg(turn) < options.still_deg and move < options.still_of_diameter * shape.diameter)
