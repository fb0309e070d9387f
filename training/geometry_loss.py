"""The loss of the geometry network (RefPose 3.3), each term normalised by the number of cells it is taken over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from flowpose_ros.geometry.camera import back_project
from flowpose_ros.networks.geometry_net import Geometry
from training.learner import Figures
from training.losses import masked_mean, point_distance, pose_loss
from training.pairs import PairBatch

SCALE_POWER = 0.5
"""With 0 a cell counts by its likelihood, with 1 by its plain error."""


@dataclass(frozen=True)
class GeometryWeights:
    """Weights of the terms."""

    encoding: float = 3.0
    points: float = 0.5
    visible: float = 1.0
    pose: float = 1.0


def geometry_loss(said: Geometry, encode: Callable[[torch.Tensor], torch.Tensor], batch: PairBatch,
                  weights: GeometryWeights, pose_share: float | torch.Tensor) -> tuple[torch.Tensor, Figures]:
    """The loss and its figures: error of the encoding, error of the points in radii, BCE of visibility, and the mean
    distance of model points, share of the diameter, after (`pose`) and before (`start`).

    encode: what the network learns of points [B,3,h,w]; pose_share in [0,1] fades the pose term in.
    """
    truth, visible = true_geometry(batch, said.pixel)
    encoding = masked_mean((said.encoded - encode(truth)).abs().mean(1, keepdim=True), visible)
    # Weighted, or the few cells that are sure and wrong are all that is learnt from (beta-NLL, Seitzer et al. 2022).
    nll = laplace_nll(said.xyz - truth, said.log_scale) * torch.exp(SCALE_POWER * said.log_scale.detach())
    nll = masked_mean(nll, visible)
    bce = F.binary_cross_entropy_with_logits(said.visible, visible)
    total = (weights.encoding * encoding + weights.points * nll + weights.visible * bce
             + weights.pose * pose_share * pose_loss(said.T_crop_obj, batch))
    with torch.no_grad():
        error = masked_mean((said.xyz - truth).norm(dim=1, keepdim=True), visible)
        moved, start = (point_distance(T, batch).mean() for T in (said.T_crop_obj, batch.T_init))
    return total, {"loss": total.detach(), "encoding": encoding.detach(), "points": error, "visible": bce.detach(),
                   "pose": moved, "start": start}


def true_geometry(batch: PairBatch, pixel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Object points [B,3,h,w] about the centre, in radii, that the query shows at pixels [B,2,h,w] of whole numbers,
    and where it shows any [B,1,h,w], 1 or 0.

    T_gt is the symmetric equivalent nearest to the start, so that these are the points that its render shows there.
    """
    B, _, h, w = pixel.shape
    size = batch.target_depth.shape[-1]
    place = (pixel[:, 1] * size + pixel[:, 0]).long().flatten(1)
    depth = batch.target_depth.flatten(1).gather(1, place)
    seen = back_project(pixel.flatten(2).transpose(1, 2), depth, batch.K)
    R, t = batch.T_gt[:, :3, :3], batch.T_gt[:, :3, 3]
    points = ((seen - t[:, None]) @ R - batch.center[:, None]) / batch.radius[:, None, None]
    visible = (depth > 0).float().reshape(B, 1, h, w)
    return points.transpose(1, 2).reshape(B, 3, h, w) * visible, visible


def laplace_nll(error: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood [B,1,h,w], up to a constant, of errors [B,3,h,w] under a Laplace of scale
    exp(log_scale [B,1,h,w]) in each coordinate."""
    return error.abs().sum(1, keepdim=True) * torch.exp(-log_scale) + error.shape[1] * log_scale
