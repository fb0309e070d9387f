"""GenFlow's refinement: render, flow, pose, again, until the pose stands still (GenFlow 3.2-3.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowpose_ros.estimation.depth import DepthOptions, depth_agreement, fit_depth
from flowpose_ros.estimation.icp import refine_icp
from flowpose_ros.estimation.networks import CROP_SIZE, Networks
from flowpose_ros.estimation.views import FrameTensors, Shape, Views, colour_agreement, sane
from flowpose_ros.geometry.pnp import PnpProblem, from_transform, normalise_weights, pose_covariance
from flowpose_ros.geometry.camera import project
from flowpose_ros.geometry.transforms import rotation_angle, transform_points
from flowpose_ros.networks.flow import Update
from flowpose_ros.networks.scorer import cell_cover
from flowpose_ros.options import option
from flowpose_ros.rendering.renderer import Renderer


@dataclass(frozen=True)
class GenFlowOptions:
    """The outer loop around the network."""

    iterations: int = option(3, "renders of each hypothesis after those that were matched", low=1, high=20)
    still_deg: float = option(0.5, "stop when no hypothesis turns by more than this, degrees", low=0.0, high=20.0)
    still_of_diameter: float = option(0.005, "and none moves by more than this share of the diameter", low=0.0,
                                      high=0.5)
    inlier_px: float = option(2.0, "residual under which a flow vector supports the pose, crop pixels", low=0.1,
                              high=20.0)


@dataclass(frozen=True)
class Judged:
    """B poses and how good they look.

    T_cam_obj [B,4,4]; inlier_ratio [B]; depth_agreement [B] or None without depth;
    match [B] in [0,1] by the scorer; colour [B] in [0,1] by correlation; covariance [B,6,6] of
    (translation, rotation vector), camera axes.
    """

    T_cam_obj: torch.Tensor
    inlier_ratio: torch.Tensor
    match: torch.Tensor
    colour: torch.Tensor
    depth_agreement: torch.Tensor | None
    covariance: torch.Tensor


@torch.no_grad()
def refine_genflow(frame: FrameTensors, shape: Shape, T_cam_obj: torch.Tensor, networks: Networks,
                   renderer: Renderer, options: GenFlowOptions, depth_options: DepthOptions,
                   generator: torch.Generator) -> torch.Tensor:
    """T_cam_obj [B,4,4] after at most `iterations` renders, and ICP at the end where there is depth."""
    for _ in range(options.iterations):
        before = T_cam_obj
        views = Views.render(shape, T_cam_obj, renderer, CROP_SIZE)
        update = run_network(frame, views, shape, networks)
        T_crop = sane(update.T_crop_obj, views, shape)
        if frame.depth is not None:
            T_crop = fit_to_depth(frame, views, update, shape, T_crop, depth_options, generator)
        T_cam_obj = views.camera.to_camera(T_crop)
        if stands_still(before, T_cam_obj, shape, options):
            break
    if frame.depth is not None and depth_options.icp_iterations:
        views = Views.render(shape, T_cam_obj, renderer, CROP_SIZE)
        r = views.rendering
        T_crop = refine_icp(r.xyz, r.normal, r.mask, views.T_crop_obj, frame.depth_crop(views.camera),
                            views.camera.K, views.T_crop_obj, shape.diameter, depth_options)
        T_cam_obj = views.camera.to_camera(sane(T_crop, views, shape))
    return T_cam_obj


def run_network(frame: FrameTensors, views: Views, shape: Shape, networks: Networks) -> Update:
    """The last update of the network on views of the frame."""
    query = networks.flow.encode(frame.crop(views.camera))
    return networks.flow(query, views.network_view(shape))[-1]


def fit_to_depth(frame: FrameTensors, views: Views, update: Update, shape: Shape, T_crop: torch.Tensor,
                 options: DepthOptions, generator: torch.Generator) -> torch.Tensor:
    """Poses by RANSAC-Kabsch on certain correspondences; T_crop [B,4,4] where that fails."""
    fitted, _, _ = fit_depth(update.xyz, update.field.flow + update.pixel, torch.sigmoid(update.field.certainty),
                             update.valid, frame.depth_crop(views.camera), views.camera.K, T_crop,
                             shape.diameter, options, generator)
    return sane(fitted, views, shape)


def stands_still(before: torch.Tensor, after: torch.Tensor, shape: Shape, options: GenFlowOptions) -> bool:
    """Whether no pose [B,4,4] moved noticeably."""
    turn = rotation_angle(before[:, :3, :3], after[:, :3, :3]).amax()
    middle = shape.center[None]
    move = (transform_points(before, middle) - transform_points(after, middle)).norm(dim=-1).amax()
    return bool(torch.rad2deg(turn) < options.still_deg and move < options.still_of_diameter * shape.diameter)


@torch.no_grad()
def judge(frame: FrameTensors, shape: Shape, T_cam_obj: torch.Tensor, networks: Networks, renderer: Renderer,
          options: GenFlowOptions, depth_options: DepthOptions) -> Judged:
    """How well poses T_cam_obj [B,4,4] explain the frame: one more render and one more flow."""
    views = Views.render(shape, T_cam_obj, renderer, CROP_SIZE)
    picture = frame.crop(views.camera)
    query, source = (networks.flow.encode(rgb) for rgb in (picture, views.rendering.rgb))
    update = networks.flow(query, views.network_view(shape), source)[-1]
    logits = networks.scorer(source[1].float(), cell_cover(views.rendering.mask), query[1].float())
    weight = torch.sigmoid(update.field.certainty) * update.valid
    residual = (update.pixel + update.field.flow - reprojected(update, views)).norm(dim=1, keepdim=True)
    near = (residual < options.inlier_px).float()
    inlier_ratio = (weight * near).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1.0)
    agreement = None
    if frame.depth is not None:
        agreement = depth_agreement(views.rendering.depth, views.rendering.mask, frame.depth_crop(views.camera),
                                    1.5 * depth_options.inlier_distance(shape.diameter))
    colour = colour_agreement(views.rendering.rgb, views.rendering.mask, picture)
    return Judged(T_cam_obj, inlier_ratio, torch.sigmoid(logits), colour, agreement, covariance(update, views, shape))


def reprojected(update: Update, views: Views) -> torch.Tensor:
    """Where the update's object points [B,2,h,w] lie in the crop at the rendered pose."""
    points = transform_points(views.T_crop_obj, update.xyz.flatten(2).transpose(1, 2))
    return project(points, views.camera.K).transpose(1, 2).reshape_as(update.pixel)


def covariance(update: Update, views: Views, shape: Shape) -> torch.Tensor:
    """Covariance [B,6,6] of (translation, rotation vector) about the mesh's origin, camera axes."""
    B = len(views.T_crop_obj)
    radius = shape.center.new_full((B,), shape.radius)
    center = shape.center.expand(B, 3)
    points = (update.xyz - shape.center[:, None, None]) / shape.radius
    problem = PnpProblem(points.flatten(2).transpose(1, 2),
                         (update.field.flow + update.pixel).flatten(2).transpose(1, 2),
                         normalise_weights(update.weight.flatten(2).transpose(1, 2)), views.camera.K, float(CROP_SIZE))
    R, t = from_transform(views.T_crop_obj, center, radius)
    about_center = pose_covariance(problem, R, t, radius)
    # The origin moves with the rotation about the centre: t_origin = t_centre - [R c] rotation.
    A = torch.eye(6, device=R.device).repeat(B, 1, 1)
    lever = (R @ center[..., None])[..., 0]
    x, y, z = lever.unbind(-1)
    o = torch.zeros_like(x)
    A[:, :3, 3:] = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(B, 3, 3)
    G = torch.zeros(B, 6, 6, device=R.device)
    G[:, :3, :3] = G[:, 3:, 3:] = views.camera.R_crop_cam.transpose(1, 2)
    J = G @ A
    return J @ about_center @ J.transpose(1, 2)
