"""How good a flow field and its certainty are against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.stats import rankdata

from flowpose_ros.networks.update import FlowField
from training.targets import at_cells


@dataclass(frozen=True)
class FlowErrors:
    """A flow field against the truth: distance [N] in crop pixels of the visible cells; certainty [M], logits, and
    visible [M] bool of all cells on the object."""

    distance: torch.Tensor
    certainty: torch.Tensor
    visible: torch.Tensor


def flow_errors(field: FlowField, flow: torch.Tensor, visible: torch.Tensor, mask: torch.Tensor) -> FlowErrors:
    """Errors of a field of B pairs, whose true flow is [B,2,S,S] pixels from render to query, visible [B,S,S] bool in
    the query where it is, on an object with mask [B,S,S] bool in the render."""
    flow, visible, mask = (at_cells(x, field.flow.shape[-1]) for x in (flow, visible, mask))
    return FlowErrors((field.flow - flow).norm(dim=1)[visible], field.certainty[:, 0][mask], visible[mask])


def area_under_roc(score: torch.Tensor, positive: torch.Tensor) -> float | None:
    """Probability that a positive one of scores [N] is above a negative one, half where equal, by positive [N] bool;
    None unless there are both."""
    chosen = positive.cpu().numpy()
    ups = int(chosen.sum())
    downs = len(chosen) - ups
    if not ups or not downs:
        return None
    ranks = rankdata(score.cpu().numpy())
    return float((ranks[chosen].sum() - ups * (ups + 1) / 2) / (ups * downs))
