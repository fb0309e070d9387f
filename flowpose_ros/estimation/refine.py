"""The loop around a refiner's network: render, ask it, render again, until the poses stand still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from flowpose_ros.estimation.depth import DepthOptions, fit_depth, hardly_measured
from flowpose_ros.estimation.icp import refine_icp
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.views import Shape, Views, sane
from flowpose_ros.geometry.transforms import rotation_angle, transform_points
from flowpose_ros.options import Options, option

ITERATIONS = "renders of each hypothesis after those that were matched"


@dataclass(frozen=True)
class LoopOptions(Options):
    """When the loop around a refiner ends."""

    iterations: int = option(3, ITERATIONS, low=1, high=20)
    still_deg: float = option(0.1, "stop when no hypothesis turns by more than this, degrees", low=0.0, high=20.0)
    still_of_diameter: float = option(0.001, "and none moves by more than this share of the diameter", low=0.0,
                                      high=0.5)


def refine(target: Target, first: Look, update: Callable[[Look], torch.Tensor], options: LoopOptions,
           depth_options: DepthOptions) -> list[Look]:
    """Looks at the poses of `first` after each of at most `iterations` updates, and after ICP where there is depth.

    update: better poses T_cam_obj [B,4,4] for those of a look.
    """
    looks = [first]
    for _ in range(options.iterations):
        looks.append(target.look(update(looks[-1])))
        if stands_still(looks[-2].T_cam_obj, looks[-1].T_cam_obj, target.shape, options):
            break
    if first.depth is not None and depth_options.icp_iterations:
        looks.append(target.look(fit_surface(target, looks[-1].views, looks[-1].depth, depth_options)))
    return looks[1:]


@torch.no_grad()
def camera_poses(target: Target, look: Look, T_crop_obj: torch.Tensor, xyz: torch.Tensor, pixel: torch.Tensor,
                 certainty: torch.Tensor, valid: torch.Tensor, depth_options: DepthOptions, generator: torch.Generator
                 ) -> torch.Tensor:
    """T_cam_obj [B,4,4] of a network's poses T_crop_obj [B,4,4] in a look's crops; where there is depth, those of
    RANSAC-Kabsch on what it says of each cell (see `fit_depth`). What is no pose before the camera stays as it was."""
    views, shape = look.views, target.shape
    T_crop = sane(T_crop_obj, views, shape)
    if look.depth is not None:
        fitted, _, _ = fit_depth(xyz, pixel, certainty, valid, look.depth, views.camera.K, T_crop, shape.diameter,
                                 depth_options, generator)
        T_crop = sane(fitted, views, shape)
    return views.camera.to_camera(T_crop)


@torch.no_grad()
def fit_surface(target: Target, views: Views, depth: torch.Tensor, depth_options: DepthOptions) -> torch.Tensor:
    """T_cam_obj [B,4,4] after ICP to depth [B,S,S] in the crops of B views; where hardly any of an object is measured, its
    pose stays."""
    r = views.rendering
    T_crop = refine_icp(r.xyz, r.normal, r.mask, views.T_crop_obj, depth, views.camera.K, views.T_crop_obj,
                        target.shape.diameter, depth_options)
    T_crop = torch.where(hardly_measured(r.mask, depth)[:, None, None], views.T_crop_obj, T_crop)
    return views.camera.to_camera(sane(T_crop, views, target.shape))


def stands_still(before: torch.Tensor, after: torch.Tensor, shape: Shape, options: LoopOptions) -> bool:
    """Whether no pose [B,4,4] moved noticeably."""
    turn = rotation_angle(before[:, :3, :3], after[:, :3, :3]).amax()
    middle = shape.center[None]
    move = (transform_points(before, middle) - transform_points(after, middle)).norm(dim=-1).amax()
    return bool(torch.rad2deg(turn) < options.still_deg and move < options.still_of_diameter * shape.diameter)
