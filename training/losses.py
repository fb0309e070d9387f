"""The losses of the flow refiner, each normalised by the number of pixels it is taken over."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from flowpose_ros.geometry.camera import pixel_grid
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.networks.flow import RenderView, Update
from training.pairs import PairBatch
from training.targets import at_cells

GOLDEN = 0.6180339887498949
"""Multiples of it, modulo one, are spread evenly whatever their number (Weyl)."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms and of the sequence (RAFT: later updates count more)."""

    gamma: float = 0.85
    flow: float = 1.0
    flow_l1: float = 0.1
    matching: float = 0.5
    certainty: float = 1.0
    pose: float = 5.0
    sensitivity: float = 0.01


def view_of(batch: PairBatch) -> RenderView:
    """The networks' view of a batch's renders."""
    return RenderView(batch.render_rgb, batch.render_normal, batch.render_xyz, batch.render_mask, batch.K,
                      batch.T_init, batch.center, batch.radius)


@dataclass(frozen=True)
class Losses:
    """total: scalar with gradient; the rest are figures of the last update, for the log, scalars too: reading
    a number waits for the GPU.

    flow_error: mean end-point error over visible pixels, px; certainty_error: BCE;
    pose_error: mean distance of model points, share of the diameter (before: of the start).
    """

    total: torch.Tensor
    flow_error: torch.Tensor
    certainty_error: torch.Tensor
    pose_error: torch.Tensor
    start_error: torch.Tensor


def refiner_loss(updates: list[Update], batch: PairBatch, weights: LossWeights,
                 pose_share: float | torch.Tensor) -> Losses:
    """Sequence loss over all updates; pose_share in [0,1] fades the pose term in."""
    total = batch.gt_flow.new_zeros(())
    for j, update in enumerate(updates):
        flow, l1, certainty, epe = field_losses(update, batch)
        pose = pose_loss(update.T_crop_obj, batch)
        term = weights.flow * flow + weights.flow_l1 * l1 + weights.certainty * certainty
        term = term + weights.pose * pose_share * pose
        term = term + weights.sensitivity * sensitivity_spread(update)
        total = total + weights.gamma ** (len(updates) - 1 - j) * term
    with torch.no_grad():
        moved = point_distance(updates[-1].T_crop_obj, batch)
        start = point_distance(batch.T_init, batch)
    return Losses(total / len(updates), epe, certainty.detach(), moved.mean(), start.mean())


def field_losses(update: Update, batch: PairBatch) -> tuple[torch.Tensor, ...]:
    """(mixture NLL on visible pixels, L1 on all of the object, certainty BCE, end-point error)."""
    field = update.field
    size, cells = batch.gt_flow.shape[-1], field.flow.shape[-1]
    truth = at_cells(batch.gt_flow, cells)
    visible, on_object = (at_cells(x[:, None], cells).float() for x in (batch.visible, batch.render_mask))
    error = (field.flow - truth).abs().clamp_max(float(size))
    nll = laplace_mixture_nll(error, field.mixture, field.log_scale).sum(1, keepdim=True)
    bce = F.binary_cross_entropy_with_logits(field.certainty, visible, reduction="none")
    l1 = error.sum(1, keepdim=True)
    epe = (field.flow - truth).norm(dim=1, keepdim=True)
    return (masked_mean(nll, visible), masked_mean(l1, on_object), masked_mean(bce, on_object),
            masked_mean(epe.detach(), visible))


def matching_loss(source: torch.Tensor, target: torch.Tensor, batch: PairBatch, cells: int = 256) -> torch.Tensor:
    """Cross-entropy of where render cells lie among all query cells, from features [B,C,h,w] alone.

    The recurrent unit learns nothing until correlation means something; asking for the match
    directly brings that about in a few hundred steps (the coarse loss of LoFTR, and Co-op's).
    At most `cells` visible cells of each sample are asked, always the same for the same batch.
    """
    B, C, h, w = source.shape
    stride = batch.gt_flow.shape[-1] // w
    visible = at_cells(batch.visible, w).flatten(1)
    grid = pixel_grid(h, w, device=source.device).reshape(1, -1, 2)
    wanted = grid + at_cells(batch.gt_flow, w).flatten(2).transpose(1, 2) / stride
    order = torch.arange(1, visible.numel() + 1, dtype=torch.float64, device=source.device)
    spread = (order * GOLDEN % 1).float().reshape(visible.shape) * visible
    index = spread.topk(min(cells, h * w), 1).indices
    asked = visible.gather(1, index).float()
    rows = source.flatten(2).transpose(1, 2).float().gather(1, index[..., None].expand(-1, -1, C))
    logits = rows @ target.flatten(2).float() / C ** 0.5
    wanted = wanted.gather(1, index[..., None].expand(-1, -1, 2))
    # Bilinear soft target: cells within one of the true position share it.
    near = (1 - (grid[:, None] - wanted[:, :, None]).abs()).clamp_min(0).prod(-1)
    near = near / near.sum(-1, keepdim=True).clamp_min(1e-6)
    return masked_mean(-(near * logits.log_softmax(-1)).sum(-1), asked)


def laplace_mixture_nll(error: torch.Tensor, mixture: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood per coordinate of |error| [B,2,h,w] px under a mixture of a Laplace of
    scale 1 px and one of scale exp(log_scale) (SEA-RAFT 3.2)."""
    narrow = F.logsigmoid(-mixture) - error
    wide = F.logsigmoid(mixture) - log_scale - error * torch.exp(-log_scale)
    return -torch.logaddexp(narrow, wide) + 0.6931472


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over mask; 0 when it is empty (RAFT #114: the mean of nothing is NaN)."""
    return (values * mask).sum() / mask.sum().clamp_min(1.0)


def point_distance(T: torch.Tensor, batch: PairBatch) -> torch.Tensor:
    """Mean L1 distance [B] of model points under T and the truth, share of the diameter (GenFlow eq. 5)."""
    moved = transform_points(T, batch.points) - transform_points(batch.T_gt, batch.points)
    return moved.abs().sum(-1).mean(1) / batch.diameter


def pose_loss(T: torch.Tensor, batch: PairBatch) -> torch.Tensor:
    """Disentangled pose loss (GenFlow eq. 4): rotation, lateral and depth errors one at a time.

    Rotation is about the object's centre here, as in the solver: about a far-off mesh origin the
    three would not be apart.
    """
    center = batch.center[:, :, None]
    R, R_gt = T[:, :3, :3], batch.T_gt[:, :3, :3]
    c = T[:, :3, 3] + (R @ center)[..., 0]
    c_gt = batch.T_gt[:, :3, 3] + (R_gt @ center)[..., 0]
    points = batch.points - batch.center[:, None]
    rotation = ((R - R_gt) @ points.transpose(1, 2)).abs().sum(1).mean(1)
    lateral = (c - c_gt)[:, :2].abs().sum(1)
    depth = (c - c_gt)[:, 2].abs()
    # A sample that went astray teaches nothing here: its pose is not near enough to be pulled.
    return ((rotation + lateral + depth) / batch.diameter).clamp_max(2.0).mean()


def sensitivity_spread(update: Update) -> torch.Tensor:
    """Keeps the sensitivity's mean near 1: the solver does not see its scale."""
    mean = masked_mean(update.field.sensitivity.mean(1, keepdim=True), update.valid.float())
    return (torch.log(mean.clamp_min(1e-6))) ** 2
