"""How well flow supports a pose, and how sure that makes it: inlier ratio and covariance."""

from __future__ import annotations

import torch

from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.networks import CROP_SIZE
from flowpose_ros.estimation.refine_genflow import GenFlowOptions, last_update
from flowpose_ros.estimation.views import Views
from flowpose_ros.geometry.camera import project
from flowpose_ros.geometry.pnp import PnpProblem, from_transform, normalise_weights, pose_covariance
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.networks.flow import Update


@torch.no_grad()
def flow_support(target: Target, look: Look, options: GenFlowOptions) -> tuple[torch.Tensor, torch.Tensor]:
    """Of B poses: inlier ratio [B], the share of certainty whose flow stays within `inlier_px` of the pose
    (GoTrack's quality), and covariance [B,6,6] of (translation, rotation vector), camera axes."""
    update = last_update(target, look)
    weight = torch.sigmoid(update.field.certainty) * update.valid
    near = supporting(update, look.views.T_crop_obj, look.views.camera.K, options.inlier_px)
    inlier_ratio = (weight * near).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1.0)
    return inlier_ratio, covariance(target, update, look.views)


def supporting(update: Update, T_crop_obj: torch.Tensor, K: torch.Tensor, inlier_px: float) -> torch.Tensor:
    """Which cells [B,1,h,w] of an update have flow that ends within `inlier_px` of where poses [B,4,4] under K [B,3,3]
    put their object points."""
    points = transform_points(T_crop_obj, update.xyz.flatten(2).transpose(1, 2))
    reprojected = project(points, K).transpose(1, 2).reshape_as(update.pixel)
    return (update.pixel + update.field.flow - reprojected).norm(dim=1, keepdim=True) < inlier_px


def covariance(target: Target, update: Update, views: Views) -> torch.Tensor:
    """Covariance [B,6,6] of (translation, rotation vector) about the mesh's origin, camera axes: that of the flow's
    residuals, as much wider as right poses were found to be off; and wide along axes of revolution, about which nothing
    tells a turn."""
    shape, stretch = target.shape, target.networks.pose_score.stretch[int(target.frame.depth is not None)]
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
    free = shape.model.symmetries.free_covariance(views.camera.to_camera(views.T_crop_obj))
    return stretch * (J @ about_center @ J.transpose(1, 2)) + free
