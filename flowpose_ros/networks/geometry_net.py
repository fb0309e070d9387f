"""RefPose's geometry network: where on the object each cell of the query lies, and the pose that follows (RefPose 3.3).

It reads the frozen features of the flow network. Tensors: B pairs, crops S x S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import nn
import torch.nn.functional as F

from flowpose_ros.geometry.camera import pixel_grid
from flowpose_ros.geometry.pnp import PnpProblem, from_transform, normalise_weights, solve_pnp, to_transform
from flowpose_ros.networks.encoder import Features, ResidualBlock, convolutions
from flowpose_ros.networks.flow import PNP_CELLS, RenderView, cell_points
from flowpose_ros.networks.matching import joint_features
from flowpose_ros.networks.pose_head import PoseHead
from flowpose_ros.networks.update import UPSAMPLING, convex_upsample

BANDS = 5
"""Frequencies of the positional encoding (RefPose 3.3)."""
CONTEXT = 7
"""Channels of the render beside its coordinates: colour, normal, and the share that the object covers."""
OFF_OBJECT = -1e4
"""Added to the logit of a cell that gets no attention; not infinite, as a render may be empty."""
LOG_SCALES = -5.0, 1.0
"""Limits of the logarithm of the error's scale, in radii."""
MATCHES_LOG_SCALE = -2.0
"""What it is before anything is learnt: that of the matches."""
LM_STEPS = 8
"""True points lead back from 60 degrees in so many; GenFlow solves after each of its updates, three at a time."""
LEAST_VISIBLE = 0.1
"""Cells that show the object with less probability do not take part in the pose."""

CHOICES = {"upsampling": ("convex", "bilinear"), "attention": ("correlation", "learned"), "pose": ("solver", "head")}


@dataclass(frozen=True)
class GeometryConfig:
    """Shape of the network; part of a weights file.

    fine, coarse: channels of the features at 1/4 and 1/8; widths of the three levels; value: channels that attention
    brings; encoded: whether coordinates are encoded; pose: by weighted PnP, or by a learned head. `encoded`,
    `upsampling` and `attention` are what the paper's ablations vary. Raises ValueError where a choice is none of
    CHOICES.
    """

    fine: int = 32
    coarse: int = 96
    widths: tuple[int, int, int] = (48, 96, 96)
    value: int = 48
    encoded: bool = True
    upsampling: str = "convex"
    attention: str = "correlation"
    pose: str = "solver"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected {' or '.join(choices)}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Geometry:
    """What the query shows in cells of h x w, and the pose that follows from it.

    encoded [B,30,h,w] positional encoding of xyz (xyz itself in a network without); xyz [B,3,h,w] object points about
    the centre, radii; log_scale [B,1,h,w] of their Laplace error; visible [B,1,h,w] logits that the cell shows the
    object; pixel [B,2,h,w] where the cells lie in the crop; weight [B,1,h,w] that they have in the solver; T_crop_obj
    [B,4,4].
    """

    encoded: torch.Tensor
    xyz: torch.Tensor
    log_scale: torch.Tensor
    visible: torch.Tensor
    pixel: torch.Tensor
    weight: torch.Tensor
    T_crop_obj: torch.Tensor


@dataclass(frozen=True)
class Level:
    """What attention looks at in one resolution: features of both images, the render's values and its cover."""

    query: torch.Tensor
    source: torch.Tensor
    reference: torch.Tensor
    cover: torch.Tensor

    def halved(self) -> Level:
        """Half the resolution. Pooling the features equals pooling their correlation."""
        return Level(F.avg_pool2d(self.query, 2), F.avg_pool2d(self.source, 2),
                      *cell_points(self.reference, self.cover[:, 0], 2))


class GuidedAttention(nn.Module):
    """Tells the cells of the query what the render says about the cells that they match (RefPose 3.3)."""

    def __init__(self, width: int, features: int, reference: int, value: int, *, learned: bool) -> None:
        super().__init__()
        self.value = nn.Conv2d(reference, value, 1)
        self.merge = nn.Conv2d(width + value, width, 3, 1, 1)
        self.learned = learned
        if learned:
            self.query, self.key = nn.Conv2d(width, value, 1), nn.Conv2d(features + reference, value, 1)
        else:
            self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor, level: Level) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B,C,h,w] of the query cells, and the reference [B,R,h,w] that attention brought to them."""
        with torch.autocast(x.device.type, enabled=False):
            brought = self.attention(x, level) @ level.reference.flatten(2).transpose(1, 2)
        brought = brought.transpose(1, 2).reshape_as(level.reference)
        # The projection of a mean is the mean of projections.
        return x + F.relu(self.merge(torch.cat([x, self.value(brought)], 1))), brought

    def attention(self, x: torch.Tensor, level: Level) -> torch.Tensor:
        """How much [B,h*w,h*w] each query cell attends to each of the render's; nothing to those off the object."""
        query, source, temperature = level.query.float(), level.source.float(), 1.0
        if self.learned:
            query, source = self.query(x.float()), self.key(torch.cat([source, level.reference], 1))
        else:
            temperature = self.log_temperature.exp()
        query = query.flatten(2).transpose(1, 2) / (source.shape[1] ** 0.5 * temperature)
        off_object = OFF_OBJECT * (level.cover.flatten(2) == 0)
        return torch.baddbmm(off_object, query, source.flatten(2)).softmax(-1)


class GeometryNet(nn.Module):
    """A U-Net over the query that is told by attention what the render's matching cells are (RefPose 3.3).

    The paper's crops have 256 pixels and its levels are 1/8, 1/16 and 1/32; with crops of 128 the same grids of 32, 16
    and 8 cells are levels 1/4, 1/8 and 1/16.
    """

    def __init__(self, config: GeometryConfig = GeometryConfig(), *, bfloat16: bool = True) -> None:
        super().__init__()
        self.config = c = config
        self.bfloat16 = bfloat16
        self.coordinates = (6 * BANDS if c.encoded else 3) + 3
        reference = self.coordinates + CONTEXT
        w4, w8, w16 = c.widths
        self.enter_4 = nn.Sequential(nn.Conv2d(2 * c.fine + reference, w4, 3, 1, 1),
                                     ResidualBlock(w4, w4, norm="group"))
        self.down_8 = ResidualBlock(w4, w8, stride=2, norm="group")
        self.enter_8 = nn.Conv2d(w8 + 2 * c.coarse, w8, 1)
        self.down_16 = ResidualBlock(w8, w16, stride=2, norm="group")
        self.attend_4, self.attend_8, self.attend_16 = (
            GuidedAttention(width, features, reference, c.value, learned=c.attention == "learned")
            for width, features in ((w4, c.fine + c.coarse), (w8, c.coarse), (w16, c.coarse)))
        self.middle = ResidualBlock(w16, w16, norm="group")
        self.up_8 = ResidualBlock(w16 + w8, w8, norm="group")
        self.up_4 = ResidualBlock(w8 + w4, w4, norm="group")
        self.head = nn.Conv2d(w4, 2 * w4, 3, 1, 1)
        self.geometry = nn.Conv2d(2 * w4, self.coordinates + 2, 1)
        nn.init.zeros_(self.geometry.weight)
        nn.init.zeros_(self.geometry.bias)
        nn.init.constant_(self.geometry.bias[-2:-1], MATCHES_LOG_SCALE)
        if c.upsampling == "convex":
            self.mask = nn.Conv2d(2 * w4, 9 * UPSAMPLING ** 2, 1)
        if c.pose == "head":
            self.pose_head = PoseHead(self.coordinates + 1, bfloat16=bfloat16)

    def forward(self, query: Features, source: Features, view: RenderView) -> Geometry:
        """What the query shows, and the pose refined from the render's.

        query, source: features of the query crop and of the render, as `GenFlow.encode` gives them.
        """
        reference = self.reference(view)
        # At 1/4 the sum of both levels' correlations: the fine one alone is ambiguous.
        level_4 = Level(*(joint_features(f) for f in (query, source)), *cell_points(reference, view.mask, 4))
        level_8 = Level(query[1], source[1], *cell_points(level_4.reference, level_4.cover[:, 0], 2))
        with convolutions(reference, self.bfloat16):
            x_4 = self.enter_4(torch.cat([query[0], source[0], level_4.reference], 1))
            x_4, matched = self.attend_4(x_4, level_4)
            x_8 = F.relu(self.enter_8(torch.cat([self.down_8(x_4), query[1], source[1]], 1)))
            x_8, _ = self.attend_8(x_8, level_8)
            x_16, _ = self.attend_16(self.down_16(x_8), level_8.halved())
            x_8 = self.up_8(torch.cat([doubled(self.middle(x_16)), x_8], 1))
            x = F.relu(self.head(self.up_4(torch.cat([doubled(x_8), x_4], 1))))
            said = self.geometry(x).float()
            # RAFT scales the mask by 0.25 to balance its gradient.
            mask = 0.25 * self.mask(x).float() if self.config.upsampling == "convex" else None
        # What is learnt is a correction of the matches, as GenFlow's flow is one of the pose's.
        coordinates = matched[:, :self.coordinates] + said[:, :-2]
        coordinates = doubled(coordinates) if mask is None else convex_upsample(coordinates, mask)
        log_scale, visible = doubled(said[:, -2:]).split(1, 1)
        seen = read_off(view, coordinates[:, :-3], coordinates[:, -3:], log_scale.clamp(*LOG_SCALES), visible)
        T = solved_pose(seen, view) if self.config.pose == "solver" else self._learned_pose(seen, reference, view)
        return replace(seen, T_crop_obj=T)

    def encode(self, points: torch.Tensor) -> torch.Tensor:
        """What is learnt of points [B,3,...] in radii: their positional encoding, or they themselves."""
        return positional_encoding(points) if self.config.encoded else points

    def reference(self, view: RenderView) -> torch.Tensor:
        """What a render says about its pixels [B,R,S,S]: coordinates encoded and plain, colour, normal, mask."""
        on_object = view.mask[:, None].to(view.rgb)
        points = (view.xyz - view.center[:, :, None, None]) / view.radius[:, None, None, None]
        return torch.cat([self.encode(points), points, (view.rgb - 0.5) * 4, view.normal, torch.ones_like(on_object)],
                         1) * on_object

    def _learned_pose(self, seen: Geometry, reference: torch.Tensor, view: RenderView) -> torch.Tensor:
        """T_crop_obj [B,4,4] that the head makes of what the query shows and the render says [B,R,S,S]."""
        visible = torch.sigmoid(seen.visible.detach())
        shown, cover = cell_points(reference[:, :self.coordinates], view.mask, view.mask.shape[-1] // visible.shape[-1])
        query = torch.cat([seen.encoded, seen.xyz, torch.ones_like(visible)], 1) * visible
        return self.pose_head(query, torch.cat([shown, cover], 1), view)


def read_off(view: RenderView, encoded: torch.Tensor, xyz: torch.Tensor, log_scale: torch.Tensor,
             visible: torch.Tensor) -> Geometry:
    """The geometry that a network says the query shows, before it moves the render's pose; shapes as in `Geometry`."""
    B, stride = len(xyz), view.mask.shape[-1] // xyz.shape[-1]
    pixel = (pixel_grid(*xyz.shape[-2:], device=xyz.device) * stride + stride // 2).permute(2, 0, 1)
    # Visibility and scale are taught by their own losses alone, as in GenFlow 3.3.
    probability = torch.sigmoid(visible.detach())
    rendered = view.mask.flatten(1).any(1)[:, None, None, None]
    weight = probability * torch.exp(-log_scale.detach()) * ((probability > LEAST_VISIBLE) & rendered)
    return Geometry(encoded, xyz, log_scale, visible, pixel.expand(B, -1, -1, -1), weight, view.T_crop_obj)


def solved_pose(seen: Geometry, view: RenderView) -> torch.Tensor:
    """T_crop_obj [B,4,4] by weighted PnP on the cells that show the object, from the render's pose (RefPose 3.3)."""
    every = max(1, seen.xyz.shape[-1] // PNP_CELLS)
    points, target, weight = (x[..., ::every, ::every].flatten(2).transpose(1, 2)
                              for x in (seen.xyz, seen.pixel, seen.weight.expand(-1, 2, -1, -1)))
    problem = PnpProblem(points, target, normalise_weights(weight), view.K, float(view.mask.shape[-1]))
    R, t = solve_pnp(problem, *from_transform(view.T_crop_obj, view.center, view.radius), lm_steps=LM_STEPS)
    return to_transform(R, t, view.center, view.radius)


def positional_encoding(points: torch.Tensor) -> torch.Tensor:
    """Sines and cosines [B,6*BANDS,...] of points [B,3,...] in radii, at frequencies 2^l pi (RefPose 3.3)."""
    angles = [2 ** band * math.pi * points for band in range(BANDS)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)


def doubled(values: torch.Tensor) -> torch.Tensor:
    """Values [B,C,h,w] at twice their resolution."""
    return F.interpolate(values, scale_factor=2, mode="bilinear")
