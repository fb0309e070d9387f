"""How sure flow makes a pose: its covariance, and how far off it may be."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.refine_genflow import last_update
from flowpose_ros.estimation.views import Shape, Shapes, Views
from flowpose_ros.geometry.pnp import PnpProblem, from_transform, normalise_weights, pose_covariance
from flowpose_ros.geometry.transforms import covariance_at, skew
from flowpose_ros.networks.flow import Update


@dataclass(frozen=True)
class Support:
    """What the flow says of B poses: covariance [B,6,6] of (translation, rotation vector), camera axes; spread [B], how far
    the farthest surface point is off by the flow's residuals (root mean square), a share of the diameter."""

    covariance: torch.Tensor
    spread: torch.Tensor


@torch.no_grad()
def flow_support(target: Target, look: Look) -> Support:
    """How the flow supports the poses of a look."""
    update = last_update(target, look)
    weight = torch.sigmoid(update.field.certainty) * update.valid
    residual = residual_covariance(target.shape, update, look.views)
    spread = spread_of(target.shape, residual, look.views)
    # Where no flow says anything, there are no residuals either.
    spread = torch.where(weight.sum((1, 2, 3)) > 0, spread, torch.inf)
    # As much wider as right poses were found to be off, and wide along axes of revolution: nothing tells a turn there.
    stretch = target.networks.pose_score.stretch[int(target.frame.depth is not None)]
    free = target.shape.model.symmetries.free_covariance(look.T_cam_obj)
    return Support(stretch * residual + free, spread)


def residual_covariance(shape: Shape | Shapes, update: Update, views: Views) -> torch.Tensor:
    """Covariance [B,6,6] of (translation, rotation vector) about the mesh's origin, camera axes, by the residuals of
    the flow."""
    B = len(views.T_crop_obj)
    radius, center = shape.center.new_ones(B) * shape.radius, shape.center.expand(B, 3)
    points = (update.xyz - center[:, :, None, None]) / radius[:, None, None, None]
    problem = PnpProblem(points.flatten(2).transpose(1, 2),
                         (update.field.flow + update.pixel).flatten(2).transpose(1, 2),
                         normalise_weights(update.weight.flatten(2).transpose(1, 2)), views.camera.K,
                         float(views.rendering.mask.shape[-1]))
    R, t = from_transform(views.T_crop_obj, center, radius)
    about_center = pose_covariance(problem, R, t, radius)
    about_origin = covariance_at(about_center, -(R @ center[..., None])[..., 0])
    G = torch.zeros(B, 6, 6, device=R.device)
    G[:, :3, :3] = G[:, 3:, 3:] = views.camera.R_crop_cam.transpose(1, 2)
    return G @ about_origin @ G.transpose(1, 2)


def spread_of(shape: Shape, covariance: torch.Tensor, views: Views) -> torch.Tensor:
    """How far [B] the farthest surface point is off by a covariance [B,6,6]: root mean square, a share of the
    diameter."""
    R = views.camera.to_camera(views.T_crop_obj)[:, :3, :3]
    # A point p of the object moves by t + r x R p.
    lever = -skew(shape.points @ R.transpose(1, 2))
    motion = torch.cat([torch.eye(3, device=R.device).expand_as(lever), lever], -1)
    squared = torch.einsum("bnij,bjk,bnik->bn", motion, covariance, motion)
    return squared.amax(1).clamp_min(0).sqrt() / shape.diameter
