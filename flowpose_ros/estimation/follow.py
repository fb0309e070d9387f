"""Following poses from one image to the next: all objects of a frame at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from flowpose_ros.estimation.batches import in_parts, take
from flowpose_ros.estimation.depth import DepthOptions, depth_shares, fit_depth
from flowpose_ros.estimation.icp import refine_icp
from flowpose_ros.estimation.look import Target
from flowpose_ros.estimation.networks import CROP_SIZE, Networks
from flowpose_ros.estimation.recorded import Recorded
from flowpose_ros.estimation.select import rigid, symmetric
from flowpose_ros.estimation.support import residual_covariance, supporting, widened
from flowpose_ros.estimation.views import FrameTensors, Shapes, Views, sane
from flowpose_ros.networks.scorer import cell_cover
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.options import option
from flowpose_ros.rendering.renderer import Renderer, Rendering, render_each

MIN_CONTRAST = 0.02
"""Deviation of the liveliest channel below which a crop shows nothing (a covered lens): the network sees no motion
in it and is sure of that."""

UNSEEN_LOGIT = -3.0
"""The scorer's logit at which a crop is as likely not to show the object at all: where it does, even after a large
motion, the logit is above -2.2, and in noise or beside the object mostly below -3.3. Flow alone is too easily sure of
objects with little texture."""

LEAST_MEASURED = 0.2
"""Share of an object's pixels that must have depth for this to say how much of it is confirmed."""


@dataclass(frozen=True)
class FollowOptions:
    """How a pose is carried from frame to frame."""

    coarse_updates: int = option(1, "updates at 1/8 of the crop", low=1, high=10)
    fine_updates: int = option(1, "updates at 1/4 of the crop", low=1, high=10)
    fit_hypotheses: int = option(64, "three-point samples of the fit to depth", low=1, high=4096)
    icp_iterations: int = option(4, "steps of the final fit to the depth surface", low=0, high=50)
    icp_points: int = option(1000, "rendered pixels that take part in the final fit", low=100, high=100000)
    inlier_px: float = option(2.0, "residual under which a flow vector supports the pose, crop pixels", low=0.1,
                              high=20.0)


@dataclass(frozen=True)
class Followed:
    """A pose in the next frame.

    T_cam_obj [4,4] float64 metres; quality in [0,1]: the share of the object that the frame confirms;
    covariance [6,6] of (translation, rotation vector), camera axes.
    """

    T_cam_obj: np.ndarray
    quality: float
    covariance: np.ndarray


@dataclass(frozen=True)
class Flowed:
    """What the flow of B objects says: T_crop_obj [B,4,4]; xyz [B,3,h,w] object points in metres, pixel [B,2,h,w] where
    they are seen, certainty [B,1,h,w] and valid [B,1,h,w] bool; confirmed [B], the share of each that supports the pose;
    seen [B], how likely the picture shows it; residual [B,6,6], the covariance of its residuals (see
    `residual_covariance`)."""

    T_crop_obj: torch.Tensor
    xyz: torch.Tensor
    pixel: torch.Tensor
    certainty: torch.Tensor
    valid: torch.Tensor
    confirmed: torch.Tensor
    seen: torch.Tensor
    residual: torch.Tensor


class Follower:
    """Carries poses from frame to frame. Several threads may share one."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._stretch = networks.pose_score.stretch.tolist()
        self._flowed = Recorded(self._flow)
        self._fitted = Recorded(fit_to_surface)

    @torch.no_grad()
    def follow(self, targets: Sequence[Target], T_cam_obj: Sequence[np.ndarray], options: FollowOptions,
               depth_options: DepthOptions, generator: torch.Generator) -> list[Followed]:
        """Where the objects of one frame are, from poses T_cam_obj [4,4] near them; one result for each target."""
        if not targets:
            return []
        # A start near the end needs less than a first pose does.
        depth_options = replace(depth_options, hypotheses=options.fit_hypotheses, icp_iterations=options.icp_iterations,
                                icp_points=options.icp_points)
        shapes, start = Shapes.of([target.shape for target in targets]), torch.from_numpy(np.stack(T_cam_obj))
        frame, renderer = targets[0].frame, targets[0].renderer

        def carried(part: torch.Tensor) -> tuple[torch.Tensor, ...]:
            meshes = [targets[i].shape.model.mesh for i in part.tolist()]
            return self._carried(frame, renderer, meshes, take(shapes, part), start[part].to(shapes.center), options,
                                 depth_options, generator)

        T, quality, residual = (x.double().cpu() for x in in_parts(carried, torch.arange(len(targets)), len(targets)))
        each = zip(targets, start.double()[:, None], T.numpy(), quality.tolist(), residual[:, None])
        return [Followed(rigid(pose), share, self._covariance(target, begin, spread))
                for target, begin, pose, share, spread in each]

    def _carried(self, frame: FrameTensors, renderer: Renderer, meshes: list[Mesh], shapes: Shapes,
                 T_cam_obj: torch.Tensor, options: FollowOptions, depth_options: DepthOptions,
                 generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Poses T_cam_obj [B,4,4] after a frame, their quality [B], and the flow's residual covariance [B,6,6]."""
        views = Views.render_each(meshes, shapes, T_cam_obj, renderer, CROP_SIZE)
        picture, depth = frame.crop(views.camera), frame.depth_crop(views.camera)
        flowed = self._flowed((picture, views, shapes), options)
        if depth is None:
            T, quality = flowed.T_crop_obj, torch.minimum(flowed.confirmed, flowed.seen)
        else:
            K, size = views.camera.K, depth.shape[1:]
            T, _, _ = fit_depth(flowed.xyz, flowed.pixel, flowed.certainty, flowed.valid, depth, K, flowed.T_crop_obj,
                                shapes.diameter, depth_options, generator)
            T = sane(T, views, shapes)
            rendering = render_each(renderer, meshes, T, K, (size[0], size[1]))
            T, quality = self._fitted((views, shapes, rendering, T, depth, flowed.confirmed, flowed.seen), depth_options)
        blank = picture.std((2, 3)).amax(1) < MIN_CONTRAST
        return views.camera.to_camera(T), torch.where(blank, 0.0, quality), flowed.residual

    def _flow(self, given: tuple[torch.Tensor, Views, Shapes], options: FollowOptions) -> Flowed:
        """What the network says of B views and of pictures [B,3,S,S] in the same crops."""
        picture, views, shapes = given
        networks, rendering = self._networks, views.rendering
        both = networks.flow.encode(torch.cat([picture, rendering.rgb]))
        query, source = (tuple(f.chunk(2)[i] for f in both) for i in (0, 1))
        update = networks.flow(query, views.network_view(shapes), source,
                               counts=(options.coarse_updates, options.fine_updates))[-1]
        logit = networks.scorer(source[1].float(), cell_cover(rendering.mask), query[1].float())
        certainty, T = torch.sigmoid(update.field.certainty) * update.valid, sane(update.T_crop_obj, views, shapes)
        supported = certainty * supporting(update, T, views.camera.K, options.inlier_px)
        confirmed = supported.sum((1, 2, 3)) / update.valid.sum((1, 2, 3)).clamp_min(1)
        return Flowed(T, update.xyz, update.pixel + update.field.flow, certainty, update.valid, confirmed,
                      torch.sigmoid(logit - UNSEEN_LOGIT), residual_covariance(shapes, update, views))

    def _covariance(self, target: Target, T_cam_obj: torch.Tensor, residual: torch.Tensor) -> np.ndarray:
        """Covariance [6,6] of a pose T_cam_obj [1,4,4] by that of its residuals [1,6,6]."""
        stretch = self._stretch[int(target.frame.depth is not None)]
        return symmetric(widened(residual, stretch, target.shape.model.symmetries, T_cam_obj)[0].numpy())


def fit_to_surface(given: tuple[Views, Shapes, Rendering, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
                   options: DepthOptions) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses T_crop_obj [B,4,4] of a rendering fitted to the depth [B,S,S] of their crops, and their quality [B]: what
    of each the depth confirms, or where it says too little the picture, and what the flow does (see `Flowed`)."""
    views, shapes, r, T, depth, confirmed, seen = given
    T = sane(refine_icp(r.xyz, r.normal, r.mask, T, depth, views.camera.K, T, shapes.diameter, options), views, shapes)
    shares = depth_shares(r.depth, r.mask, depth, options.agreement_distance(shapes.diameter))
    return T, torch.minimum(confirmed, torch.where(shares.measured > LEAST_MEASURED, shares.agree, seen))
