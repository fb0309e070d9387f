"""Pictures of samples, a row each, and of what a network says of them beside the truth."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from flowpose_ros.geometry.camera import pixel_grid
from flowpose_ros.networks.flow import Update
from flowpose_ros.networks.geometry_net import Geometry
from training.geometry_loss import true_geometry
from training.pairs import PairBatch

STRIP = 6
"""Pixels below a view of the scorer's that say what it is."""


def pair_rows(batch: PairBatch) -> np.ndarray:
    """Rows of query, render, query warped back by the true flow, visible pixels, depth; RGB uint8."""
    on_object, depth = batch.render_mask[:, None], batch.query_depth[:, None]
    known = depth > 0
    near = depth.masked_fill(~known, torch.inf).amin((2, 3), keepdim=True)
    span = (depth.amax((2, 3), keepdim=True) - near).clamp_min(1e-6)
    return sheet(batch.query_rgb, batch.render_rgb, warped_back(batch.query_rgb, batch.gt_flow) * on_object,
                 batch.render_rgb * (0.3 + 0.7 * batch.visible[:, None]), torch.where(known, (depth - near) / span, 0))


def refiner_rows(update: Update, batch: PairBatch) -> np.ndarray:
    """Rows of query, render, query warped back by the flow of `update` and by the true flow, certainty and true
    visibility; RGB uint8."""
    size, on_object = batch.query_rgb.shape[-2:], batch.render_mask[:, None]
    flow, certainty = (F.interpolate(values.float(), size, mode="bilinear")
                       for values in (update.field.flow, torch.sigmoid(update.field.certainty)))
    return sheet(batch.query_rgb, batch.render_rgb,
                 *(warped_back(batch.query_rgb, moved) * on_object for moved in (flow, batch.gt_flow)),
                 certainty * on_object, batch.visible[:, None].float())


def geometry_rows(said: Geometry, batch: PairBatch) -> np.ndarray:
    """Rows of query, render, object points (a colour each) as said and as true, visibility as said and as true; RGB
    uint8."""
    truth, visible = true_geometry(batch, said.pixel)
    seen = torch.sigmoid(said.visible)
    columns = ((0.5 + said.xyz / 2) * visible, (0.5 + truth / 2) * visible, seen, visible)
    size = batch.query_rgb.shape[-2:]
    return sheet(batch.query_rgb, batch.render_rgb, *(F.interpolate(column.float(), size) for column in columns))


def scorer_rows(query: torch.Tensor, views: torch.Tensor, logits: torch.Tensor, near: torch.Tensor,
                far: torch.Tensor) -> np.ndarray:
    """Rows of a query and its views, the highest logit first, those near the truth on green, those far from it on red;
    RGB uint8. query [B,3,S,S], views [B,N,3,S,S] in [0,1]; logits, near, far [B,N]."""
    color = torch.stack([far, near, torch.zeros_like(near)], 2).float()
    views = views.clone()
    views[..., -STRIP:, :] = color[..., None, None]
    order = logits.argsort(1, descending=True)
    rows = [row[index] for row, index in zip(views, order)]
    return sheet(query, *torch.stack(rows, 1))


def warped_back(query: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """The query [B,3,S,S] as it looks at the render's pixels, by the flow [B,2,S,S] from render to query; black
    outside."""
    size = query.shape[-1]
    place = pixel_grid(size, size, query.device) + flow.permute(0, 2, 3, 1)
    return F.grid_sample(query, (2 * place + 1) / size - 1, align_corners=False)


def sheet(*columns: torch.Tensor) -> np.ndarray:
    """Columns [B,3,S,S], or [B,1,S,S] for grey, in [0,1] as one picture [B*S,n*S,3] uint8."""
    rows = torch.cat([column.expand(-1, 3, -1, -1) for column in columns], 3).permute(0, 2, 3, 1).flatten(0, 1)
    return (255 * rows.clamp(0, 1)).byte().cpu().numpy()
