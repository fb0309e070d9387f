"""GenFlow: recurrent flow from a render to the query, bound at each update to a rigid pose.

Tensors: B pairs, crops S x S, level 8 has cells of 8 pixels, level 4 of 4 pixels; every level
gives flow at twice its resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import nn
import torch.nn.functional as F

from flowpose_ros.geometry.camera import pixel_grid
from flowpose_ros.geometry.pnp import PnpProblem, from_transform, normalise_weights, solve_pnp, to_transform
from flowpose_ros.networks.correlation import CorrelationPyramid
from flowpose_ros.networks.encoder import Encoder, convolutions
from flowpose_ros.networks.update import UPSAMPLING, FlowField, UpdateBlock


PNP_CELLS = 32
"""The pose is fitted to about this many flow vectors a side."""
CONFIDENCES = "probable", "factored", "single", "none"


@dataclass(frozen=True)
class GenFlowConfig:
    """Shape of the network; part of a weights file.

    constrained: updates start from the flow that the pose induces, not from the network's own; confidence: weights of
    the pose's fit (see `confidence_of`). These, and `updates_fine` of 0 for no cascade, are what the paper's ablation
    varies. Raises ValueError where a confidence is none of CONFIDENCES.
    """

    widths: tuple[int, int, int] = (32, 64, 96)
    fine: int = 32
    coarse: int = 96
    context_widths: tuple[int, int, int] = (24, 40, 64)
    hidden_fine: int = 32
    hidden_coarse: int = 64
    radius: int = 3
    levels_coarse: int = 3
    levels_fine: int = 1
    updates_coarse: int = field(default=3, metadata={"least": 0})
    updates_fine: int = field(default=2, metadata={"least": 0})
    constrained: bool = True
    confidence: str = "probable"

    def __post_init__(self) -> None:
        if self.confidence not in CONFIDENCES:
            raise ValueError(f"confidence: expected one of {', '.join(CONFIDENCES)}, got {self.confidence!r}")


SIZES = {
    "T": GenFlowConfig(),
    "S": GenFlowConfig(widths=(40, 72, 112), fine=64, coarse=128, context_widths=(32, 56, 96),
                       hidden_fine=64, hidden_coarse=96, radius=4, levels_fine=2,
                       updates_coarse=4, updates_fine=4),
}


@dataclass(frozen=True)
class RenderView:
    """The render at the pose to refine, and its camera.

    rgb, normal, xyz [B,3,S,S] (xyz metres, object frame); mask [B,S,S] bool; K [B,3,3] of the crop;
    T_crop_obj [B,4,4]; center [B,3] and radius [B] of the object, metres.
    """

    rgb: torch.Tensor
    normal: torch.Tensor
    xyz: torch.Tensor
    mask: torch.Tensor
    K: torch.Tensor
    T_crop_obj: torch.Tensor
    center: torch.Tensor
    radius: torch.Tensor


@dataclass(frozen=True)
class Update:
    """What one update gives: the free flow field, the pose fitted to it, and the lifted points.

    T_crop_obj [B,4,4]; pixel [B,2,h,w] where on the render the field's cells lie; xyz [B,3,h,w]
    metres; valid [B,1,h,w] bool, the cell is on the rendered object; weight [B,2,h,w] as solved with.
    """

    field: FlowField
    T_crop_obj: torch.Tensor
    pixel: torch.Tensor
    xyz: torch.Tensor
    valid: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True)
class _Level:
    """Everything of one resolution that stays the same over its updates."""

    stride: int
    pyramid: CorrelationPyramid
    hidden: torch.Tensor
    context: torch.Tensor
    cell_xyz: torch.Tensor
    cell_mask: torch.Tensor


class GenFlow(nn.Module):
    """The recurrent refiner network (GenFlow 3.2-3.3), with a mixture of Laplace as flow error."""

    def __init__(self, config: GenFlowConfig = GenFlowConfig(), *, bfloat16: bool = True) -> None:
        super().__init__()
        self.config = c = config
        self.bfloat16 = bfloat16
        self.features = Encoder(channels=3, widths=c.widths, fine=c.fine, coarse=c.coarse, norm="instance")
        self.context = Encoder(channels=10, widths=c.context_widths, fine=2 * c.hidden_fine,
                               coarse=2 * c.hidden_coarse, norm="group")
        window = (2 * c.radius + 1) ** 2
        self.update_8 = UpdateBlock(hidden=c.hidden_coarse, context=c.hidden_coarse,
                                    correlations=window * c.levels_coarse, stride=8)
        self.update_4 = UpdateBlock(hidden=c.hidden_fine, context=c.hidden_fine,
                                    correlations=window * c.levels_fine, stride=4)

    def encode(self, rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (1/4, 1/8) of crops or renders [B,3,S,S] in [0,1]."""
        with convolutions(rgb, self.bfloat16):
            return self.features((rgb - 0.5) * 4)

    def forward(self, query: tuple[torch.Tensor, torch.Tensor], view: RenderView,
                source: tuple[torch.Tensor, torch.Tensor] | None = None,
                probability_radius: float = 2.0, counts: tuple[int, int] | None = None) -> list[Update]:
        """Updates from coarse to fine; the last holds the refined pose.

        query, source: features from `encode` of the query crop and of the render (made here if None);
        counts: updates at 1/8 and at 1/4, of which one may be 0; those of the configuration if None.
        """
        source_4, source_8 = self.encode(view.rgb) if source is None else source
        geometry = torch.cat([(view.rgb - 0.5) * 4, view.normal,
                              (view.xyz - view.center[:, :, None, None]) / view.radius[:, None, None, None],
                              view.mask[:, None].to(view.rgb)], 1)
        with convolutions(geometry, self.bfloat16):
            context_4, context_8 = self.context(geometry * view.mask[:, None])
        c = self.config
        R, t = from_transform(view.T_crop_obj, view.center, view.radius)
        updates: list[Update] = []
        count_8, count_4 = (c.updates_coarse, c.updates_fine) if counts is None else counts
        for stride, source, target, context, levels, count, block in (
                (8, source_8, query[1], context_8, c.levels_coarse, count_8, self.update_8),
                (4, source_4, query[0], context_4, c.levels_fine, count_4, self.update_4)):
            if not count:
                continue
            level = self._level(view, stride, source, target, context, levels)
            hidden, free = level.hidden, None
            if updates and not c.constrained:
                free = updates[-1].field.flow  # has this level's resolution
            for _ in range(count):
                pose_flow = induced_flow(view, level.cell_xyz, R, t) * level.cell_mask
                free = pose_flow if free is None else free
                begin = pose_flow if c.constrained else free.detach()
                cells = pixel_grid(*level.cell_mask.shape[-2:], device=hidden.device).permute(2, 0, 1)
                correlations = level.pyramid.lookup(cells + begin / stride)
                with convolutions(hidden, self.bfloat16):
                    hidden, free, field = block(hidden, level.context, correlations, begin, free.detach())
                confidence = confidence_of(field, c.confidence, probability_radius)
                update = self._fit(view, field, stride // UPSAMPLING, R, t, confidence)
                updates.append(update)
                R, t = from_transform(update.T_crop_obj.detach(), view.center, view.radius)
        return updates

    def _level(self, view: RenderView, stride: int, source: torch.Tensor, target: torch.Tensor,
               context: torch.Tensor, levels: int) -> _Level:
        cell_xyz, share = cell_points(view.xyz, view.mask, stride)
        hidden, rest = context.chunk(2, 1)
        return _Level(stride, CorrelationPyramid(source, target, levels, self.config.radius),
                      torch.tanh(hidden), F.relu(rest), cell_xyz, (share > 0).float())

    @staticmethod
    def _fit(view: RenderView, field: FlowField, stride: int, R: torch.Tensor, t: torch.Tensor,
             confidence: torch.Tensor) -> Update:
        """Weighted PnP on the field, by its confidence [B,2,h,w], from pose (R, t): GenFlow eq. 2-3."""
        B, size = view.mask.shape[0], view.mask.shape[-1]
        offset = stride // 2
        xyz = view.xyz[..., offset::stride, offset::stride]
        valid = view.mask[:, None, offset::stride, offset::stride]
        pixel = (pixel_grid(*valid.shape[-2:], device=xyz.device) * stride + offset).permute(2, 0, 1)
        weight = confidence * valid
        points = (xyz - view.center[:, :, None, None]) / view.radius[:, None, None, None]
        # More points than these make the pose slower, not better: neighbours err alike.
        every = max(1, valid.shape[-1] // PNP_CELLS)
        points, target, chosen = (x[..., ::every, ::every].flatten(2).transpose(1, 2)
                                  for x in (points, field.flow + pixel, weight))
        problem = PnpProblem(points, target, normalise_weights(chosen), view.K, float(size))
        R, t = solve_pnp(problem, R, t)
        T = to_transform(R, t, view.center, view.radius)
        return Update(field, T, pixel.expand(B, -1, -1, -1), xyz, valid, weight)


def confidence_of(field: FlowField, kind: str, probability_radius: float) -> torch.Tensor:
    """How much [B,2,h,w] each flow vector counts for the pose: certainty times sensitivity ("factored", GenFlow 3.3),
    times the probability of an error under `probability_radius` pixels ("probable", Co-op); "single": the sensitivity,
    which the pose alone teaches; "none": all alike."""
    if kind == "none":
        return torch.ones_like(field.sensitivity)
    if kind == "single":
        return field.sensitivity
    # Certainty is taught by its own loss alone (GenFlow 3.3); so is the error's scale.
    certainty = torch.sigmoid(field.certainty.detach())
    if kind == "probable":
        certainty = certainty * replace(field, mixture=field.mixture.detach(), log_scale=field.log_scale.detach()
                                        ).probability_within(probability_radius)
    return certainty * field.sensitivity


def cell_points(xyz: torch.Tensor, mask: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean surface point [B,3,h,w] of each cell of a render, and the share [B,1,h,w] of it that the object
    covers: so cells cut by the silhouette move rightly too.

    xyz [B,3,S,S], or other values of the surface; mask [B,S,S] bool, or the share of each pixel that the object
    covers; cells of stride x stride pixels.
    """
    on_object = mask[:, None].float()
    share = F.avg_pool2d(on_object, stride)
    return F.avg_pool2d(xyz * on_object, stride) / share.clamp_min(1e-6), share


def induced_flow(view: RenderView, xyz: torch.Tensor, R: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Flow [B,2,h,w] in pixels of object points xyz [B,3,h,w] from the render's pose to (R, t)."""
    R_0, t_0 = from_transform(view.T_crop_obj, view.center, view.radius)
    points = (xyz - view.center[:, :, None, None]) / view.radius[:, None, None, None]
    flat = points.flatten(2).transpose(1, 2)
    focal = torch.stack([view.K[:, 0, 0], view.K[:, 1, 1]], -1)[:, None]

    def image(R: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        p = flat @ R.transpose(1, 2) + t[:, None]
        return p[..., :2] / p[..., 2:].clamp_min(0.1) * focal

    flow = image(R, t) - image(R_0, t_0)
    return flow.transpose(1, 2).reshape(-1, 2, *xyz.shape[-2:])
