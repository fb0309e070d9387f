"""Following poses from one image to the next: one pass of the flow network over all objects of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from flowpose_ros.estimation.batches import in_parts, join, take
from flowpose_ros.estimation.depth import DepthOptions, depth_shares, fit_depth
from flowpose_ros.estimation.icp import refine_icp
from flowpose_ros.estimation.look import Target
from flowpose_ros.estimation.networks import Networks
from flowpose_ros.estimation.select import rigid, symmetric
from flowpose_ros.estimation.support import covariance, supporting
from flowpose_ros.estimation.views import Views, sane
from flowpose_ros.networks.flow import RenderView, Update
from flowpose_ros.networks.scorer import cell_cover
from flowpose_ros.options import option


MIN_CONTRAST = 0.02
"""Deviation of the liveliest channel below which a crop shows nothing (a covered lens): the network sees no motion
in it and is sure of that."""

UNSEEN_LOGIT = -3.0
"""The scorer's logit at which a crop is as likely not to show the object at all: where it does, even after a large
motion, the logit is above -2.2, and in noise or beside the object mostly below -3.3. Flow alone is too easily sure of
objects with little texture."""


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


@torch.no_grad()
def follow(targets: Sequence[Target], T_cam_obj: Sequence[np.ndarray], options: FollowOptions,
           depth_options: DepthOptions, generator: torch.Generator) -> list[Followed]:
    """Where the objects of one frame are, from poses T_cam_obj [4,4] near them; one result for each target."""
    if not targets:
        return []
    networks = targets[0].networks
    # A start near the end needs less than a first pose does.
    depth_options = replace(depth_options, hypotheses=options.fit_hypotheses, icp_iterations=options.icp_iterations,
                            icp_points=options.icp_points)
    views = [target.render(torch.from_numpy(T).float()[None].to(networks.device))
             for target, T in zip(targets, T_cam_obj)]
    pictures = torch.cat([target.frame.crop(v.camera) for target, v in zip(targets, views)])
    network_view = join([v.network_view(target.shape) for target, v in zip(targets, views)])
    update, seen = in_parts(lambda part: updated(networks, *part, options), (pictures, network_view), len(targets))
    each = torch.arange(len(targets), device=networks.device)[:, None]
    found = [settle(target, v, take(update, index), seen[index], options, depth_options, generator)
             for target, v, index in zip(targets, views, each)]
    blank = (pictures.std((2, 3)).amax(1) < MIN_CONTRAST).tolist()
    return [replace(f, quality=0.0) if nothing else f for f, nothing in zip(found, blank)]


def updated(networks: Networks, pictures: torch.Tensor, view: RenderView, options: FollowOptions
            ) -> tuple[Update, torch.Tensor]:
    """The network's update of B views by pictures [B,3,S,S] in the same crops, and how likely [B] these show the
    object."""
    both = networks.flow.encode(torch.cat([pictures, view.rgb]))
    query, source = (tuple(f.chunk(2)[i] for f in both) for i in (0, 1))
    update = networks.flow(query, view, source, counts=(options.coarse_updates, options.fine_updates))[-1]
    logit = networks.scorer(source[1].float(), cell_cover(view.mask), query[1].float())
    return update, torch.sigmoid(logit - UNSEEN_LOGIT)


def settle(target: Target, views: Views, update: Update, seen: torch.Tensor, options: FollowOptions,
           depth_options: DepthOptions, generator: torch.Generator) -> Followed:
    """One object's pose from the network's update of its view, fitted to the depth where there is any; seen [1]: how
    likely the picture shows it."""
    shape, K = target.shape, views.camera.K
    certainty = torch.sigmoid(update.field.certainty) * update.valid
    flowed = update.pixel + update.field.flow
    T = sane(update.T_crop_obj, views, shape)
    quality = (certainty * supporting(update, T, K, options.inlier_px)).sum() / update.valid.sum().clamp_min(1)
    observed = target.frame.depth_crop(views.camera)
    if observed is None:
        quality = torch.minimum(quality, seen)
    else:
        fitted, _, _ = fit_depth(update.xyz, flowed, certainty, update.valid, observed, K, T, shape.diameter,
                                 depth_options, generator)
        T = sane(fitted, views, shape)
        r = target.renderer.render(shape.model.mesh, T, K, tuple(views.rendering.mask.shape[1:]))
        T = sane(refine_icp(r.xyz, r.normal, r.mask, T, observed, K, T, shape.diameter, depth_options), views, shape)
        shares = depth_shares(r.depth, r.mask, observed, depth_options.agreement_distance(shape.diameter))
        quality = torch.minimum(quality, torch.where(shares.measured > 0.2, shares.agree, seen))
    pose = rigid(views.camera.to_camera(T)[0].double().cpu().numpy())
    return Followed(pose, float(quality), symmetric(covariance(target, update, views)[0].double().cpu().numpy()))
