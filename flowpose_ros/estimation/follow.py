"""Following poses from one image to the next: all objects of a frame at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from flowpose_ros.estimation.batches import in_parts, mapped, take
from flowpose_ros.estimation.depth import DepthOptions, DepthShares, depth_at, depth_shares
from flowpose_ros.estimation.icp import refine_icp
from flowpose_ros.estimation.look import Target
from flowpose_ros.estimation.networks import CROP_SIZE, Networks
from flowpose_ros.estimation.recorded import Recorded
from flowpose_ros.estimation.select import rigid, symmetric
from flowpose_ros.estimation.support import residual_covariance, supporting
from flowpose_ros.estimation.views import FrameTensors, Shapes, Views, sane
from flowpose_ros.geometry.camera import CropCamera, project, samples_per_side
from flowpose_ros.geometry.crops import crop_for_poses
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.networks.scorer import cell_cover
from flowpose_ros.options import option
from flowpose_ros.rendering.renderer import render_each

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
    icp_iterations: int = option(4, "steps of the final fit to the depth surface", low=0, high=50)
    icp_points: int = option(1000, "rendered pixels that take part in the final fit", low=100, high=100000)
    inlier_px: float = option(2.0, "residual under which a flow vector supports the pose, crop pixels", low=0.1,
                              high=20.0)


@dataclass(frozen=True)
class Moved:
    """Poses T_cam_obj [B,4,4] in the next frame, their quality [B] (see `Followed`), and the covariance [B,6,6] of the
    flow's residuals (see `residual_covariance`)."""

    T_cam_obj: torch.Tensor
    quality: torch.Tensor
    residual: torch.Tensor


@dataclass(frozen=True)
class Followed:
    """A pose in the next frame.

    T_cam_obj [4,4] float64 metres; quality in [0,1]: the share of the object that the frame confirms;
    covariance [6,6] of (translation, rotation vector), camera axes.
    """

    T_cam_obj: np.ndarray
    quality: float
    covariance: np.ndarray


class Follower:
    """Carries poses from frame to frame. Several threads may share one."""

    def __init__(self, networks: Networks) -> None:
        self._stretch = networks.pose_score.stretch.tolist()
        # No method of its own: what refers to itself is freed late.
        self._cropped, self._moved = Recorded(crops_of), Recorded(partial(moved, networks))

    @torch.no_grad()
    def follow(self, targets: Sequence[Target], T_cam_obj: Sequence[np.ndarray], options: FollowOptions,
               depth_options: DepthOptions) -> list[Followed]:
        """Where the objects of one frame are, from poses T_cam_obj [4,4] near them; one result for each target."""
        if not targets:
            return []
        # A start near the end needs less than a first pose does.
        depth_options = replace(depth_options, icp_iterations=options.icp_iterations, icp_points=options.icp_points)
        shapes, start = Shapes.of([target.shape for target in targets]), torch.from_numpy(np.stack(T_cam_obj))
        frame, renderer = targets[0].frame, targets[0].renderer

        def carried(part: torch.Tensor) -> Moved:
            meshes, those = [targets[i].shape.model.mesh for i in part.tolist()], take(shapes, part)
            camera, T_crop_obj = self._cropped((those.points, start[part].to(those.points)))
            rendering = render_each(renderer, meshes, T_crop_obj, camera.K, (CROP_SIZE, CROP_SIZE))
            return self._moved((frame, Views(camera, T_crop_obj, rendering), those), options, depth_options,
                               samples_per_side(camera, frame.K))

        there = mapped(lambda x: x.double().cpu(), in_parts(carried, torch.arange(len(targets)), len(targets)))
        stretch = self._stretch[int(frame.depth is not None)]
        free = [target.shape.model.symmetries.free_covariance(T) for target, T in zip(targets, start.double()[:, None])]
        covariance = stretch * there.residual + torch.cat(free)
        return [Followed(rigid(T), quality, symmetric(C))
                for T, quality, C in zip(there.T_cam_obj.numpy(), there.quality.tolist(), covariance.numpy())]


def moved(networks: Networks, given: tuple[FrameTensors, Views, Shapes], options: FollowOptions,
          depth_options: DepthOptions, per_side: int) -> Moved:
    """Where a frame shows the objects of B views; per_side: samples of a crop's pixel (see `sample_crop`)."""
    frame, views, shapes = given
    rendering, K = views.rendering, views.camera.K
    picture, depth = frame.crop(views.camera, per_side), frame.depth_crop(views.camera)
    both = networks.flow.encode(torch.cat([picture, rendering.rgb]))
    query, source = (tuple(f.chunk(2)[i] for f in both) for i in (0, 1))
    update = networks.flow(query, views.network_view(shapes), source,
                           counts=(options.coarse_updates, options.fine_updates))[-1]
    logit = networks.scorer(source[1].float(), cell_cover(rendering.mask), query[1].float())
    seen, T = torch.sigmoid(logit - UNSEEN_LOGIT), sane(update.T_crop_obj, views, shapes)
    supported = torch.sigmoid(update.field.certainty) * update.valid * supporting(update, T, K, options.inlier_px)
    confirmed = supported.sum((1, 2, 3)) / update.valid.sum((1, 2, 3)).clamp_min(1)
    if depth is not None:
        T, shares = fitted_to_surface(views, shapes, T, depth, depth_options)
        seen = torch.where(shares.measured > LEAST_MEASURED, shares.agree, seen)
    blank = picture.std((2, 3)).amax(1) < MIN_CONTRAST
    quality = torch.where(blank, 0.0, torch.minimum(confirmed, seen))
    return Moved(views.camera.to_camera(T), quality, residual_covariance(shapes, update, views))


def crops_of(given: tuple[torch.Tensor, torch.Tensor]) -> tuple[CropCamera, torch.Tensor]:
    """The crops around objects of points [B,N,3] in poses T_cam_obj [B,4,4], and the poses in these, T_crop_obj
    [B,4,4]."""
    points, T_cam_obj = given
    camera = crop_for_poses(points, T_cam_obj, CROP_SIZE)
    return camera, camera.to_crop(T_cam_obj)


def fitted_to_surface(views: Views, shapes: Shapes, T_crop_obj: torch.Tensor, depth: torch.Tensor,
                      options: DepthOptions) -> tuple[torch.Tensor, DepthShares]:
    """Poses T_crop_obj [B,4,4] fitted to the depth [B,S,S] of their crops, and what of each this confirms.

    The surface is that of the views: from one frame to the next a little of it appears and disappears. No samples are
    drawn, as for a first pose: the network's pose is near enough for the fit to the surface.
    """
    r, K = views.rendering, views.camera.K
    T = refine_icp(r.xyz, r.normal, r.mask, views.T_crop_obj, depth, K, T_crop_obj, shapes.diameter, options)
    T = sane(T, views, shapes)
    surface = transform_points(T, r.xyz.flatten(2).transpose(1, 2))
    measured = depth_at(depth, project(surface, K)).view_as(r.depth)
    return T, depth_shares(surface[..., 2].view_as(r.depth), r.mask, measured,
                           options.agreement_distance(shapes.diameter))
