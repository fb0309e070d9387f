"""One tracking update: pose, quality and covariance of objects in the next image, from views of them in the poses that are
expected. No step waits for a number of the GPU, so that it can be recorded as a CUDA graph (see `Recorded`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowpose_ros.estimation.depth import DepthOptions, DepthShares, depth_at, depth_shares
from flowpose_ros.estimation.icp import refine_icp, tied
from flowpose_ros.estimation.networks import Networks
from flowpose_ros.estimation.support import residual_covariance
from flowpose_ros.estimation.views import FrameTensors, Shapes, Views, sane
from flowpose_ros.geometry.camera import CropCamera, project
from flowpose_ros.geometry.crops import crop_for_poses
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.networks.encoder import Features
from flowpose_ros.networks.flow import GenFlow, Update
from flowpose_ros.networks.scorer import cell_cover
from flowpose_ros.options import Options, option

MIN_CONTRAST = 0.02
"""Deviation of the liveliest channel below which a crop shows nothing (a covered lens): the network sees no motion
in it and is sure of that."""

UNSEEN_LOGIT = -3.0
"""The scorer's logit at which a crop is as likely not to show the object at all: where it does, even after a large
motion, the logit is above -2.2, and in noise or beside the object mostly below -3.3. Flow alone is too easily sure of
objects with little texture."""

LEAST_MEASURED = 0.2
"""Share of an object's pixels that must have depth for this to say how much of it is confirmed."""

LEAST_OPEN = 0.5
"""What depth shows to be hidden by something nearer cannot be confirmed, and does not count; up to so much of the
object."""

FAR = 0.1
"""Where wide crops show points of an object, in the mean, farther off than this share of its extent in the image, finer
ones are taken there. Nearer, they know less than was known before: on real images, updates in finer crops end nearer
from a start 6 degrees and a tenth of the diameter off than from what wide ones make of it, and farther from one twice as
far off."""

HELD = 0.003
"""How firmly a pose from finer crops is held in the fit to depth: what this does not tell, as a turn of a plain mug whose
handle is hidden, it would let wander. Poses from wide crops lag behind such a turn and are not held; so objects whose
surface ties them less firmly need the finer crops."""


FINER = ("auto", "on", "off")
"""When poses come from finer crops."""


@dataclass(frozen=True)
class FollowOptions(Options):
    """How a pose is carried from frame to frame."""

    coarse_updates: int = option(1, "updates at 1/8 of the crop", low=1, high=10)
    fine_updates: int = option(1, "updates at 1/4 of the crop", low=1, high=10)
    icp_iterations: int = option(4, "steps of the final fit to the depth surface", low=0, high=50)
    icp_points: int = option(1000, "rendered pixels that take part in the final fit", low=100, high=100000)
    finer: str = option("auto", "a second pass in finer crops, nearer and twice as slow; auto: without depth, and for objects "
                        "whose shape leaves part of the pose open, as how a can is turned",
                        choices=FINER)
    inlier_px: float = option(2.0, "residual under which a flow vector supports the pose, crop pixels", low=0.1,
                              high=20.0)
    again_below: float = option(0.6, "a frame that confirms less of an object is looked at again, from where it was found",
                                low=0.0, high=1.0)


@dataclass(frozen=True)
class Moved:
    """Poses T_cam_obj [B,4,4] in the next frame, those [B,4,4] in which finer crops are taken, their quality [B] (see
    `Followed`), how surely [B] the scorer sees the objects there, and the covariance [B,6,6] of the flow's residuals
    (see `residual_covariance`)."""

    T_cam_obj: torch.Tensor
    for_finer: torch.Tensor
    quality: torch.Tensor
    seen: torch.Tensor
    residual: torch.Tensor


def moved(networks: Networks, given: tuple[FrameTensors, Views, Shapes, Moved | None], options: FollowOptions,
          depth_options: DepthOptions, per_side: int) -> Moved:
    """Where a frame shows the objects of B views: wide ones of CROP_SIZE, or finer ones after these.

    before: what the wide ones gave, None for these; per_side: samples of a pixel of the crops (see `sample_crop`).
    """
    frame, views, shapes, before = given
    network, held = (networks.flow, 0.0) if before is None else (networks.settler, HELD)
    picture, depth = frame.crop(views.camera, per_side), frame.depth_crop(views.camera)
    query, source = encoded(network, picture, views)
    # Where poses come from finer crops, wide ones tell where to look, and their coarse half does.
    glance = before is None and depth is None and options.finer != "off"
    counts = (options.coarse_updates, 0) if glance else (options.coarse_updates, options.fine_updates)
    update = network(query, views.network_view(shapes), source, counts=counts)[-1]
    T, confirmed = sane(update.T_crop_obj, views, shapes), confirmed_share(update, views, shapes, options)
    seen = seen_there(networks, query, source, views) if before is None else before.seen
    agreed = seen
    if depth is not None:
        T, shares = fitted_to_surface(views, shapes, T, depth, depth_options, held)
        measured = shares.measured > LEAST_MEASURED
        open_share = torch.where(measured, (1 - shares.hidden).clamp_min(LEAST_OPEN), 1.0)
        confirmed, agreed = confirmed / open_share, torch.where(measured, shares.agree / open_share, seen)
    blank = picture.std((2, 3)).amax(1) < MIN_CONTRAST
    quality = torch.where(blank, 0.0, torch.minimum(confirmed, agreed).clamp_max(1.0))
    for_finer = torch.where(moved_far(T, views, shapes)[:, None, None], T, views.T_crop_obj)
    return Moved(*map(views.camera.to_camera, (T, for_finer)), quality, seen, residual_covariance(shapes, update, views))


def moved_far(T_crop_obj: torch.Tensor, views: Views, shapes: Shapes) -> torch.Tensor:
    """Which [B] of poses T_crop_obj [B,4,4] are far from those of their views, see FAR."""
    now, before = (project(transform_points(T, shapes.points), views.camera.K) for T in (T_crop_obj, views.T_crop_obj))
    extent = (before.amax(1) - before.amin(1)).amax(1)
    return (now - before).norm(dim=-1).mean(1) > FAR * extent


def finer_wanted(wide: Views, shapes: Shapes, depth: bool, options: FollowOptions) -> torch.Tensor:
    """Which [M] of the objects of wide views need finer ones as well; depth: whether the frame has any."""
    if options.finer == "auto" and depth:
        r = wide.rendering
        loose = tied(r.xyz, r.normal, r.mask, wide.T_crop_obj, shapes.diameter, options.icp_points) < HELD
        return loose.nonzero()[:, 0]
    return torch.arange(0 if options.finer == "off" else len(wide.T_crop_obj))


def encoded(network: GenFlow, picture: torch.Tensor, views: Views) -> tuple[Features, Features]:
    """Features of crops [B,3,S,S] and of their renders, in one pass."""
    both = network.encode(torch.cat([picture, views.rendering.rgb]))
    return tuple(tuple(f.chunk(2)[i] for f in both) for i in (0, 1))


def seen_there(networks: Networks, query: Features, source: Features, views: Views) -> torch.Tensor:
    """How surely [B] the scorer sees the objects of wide views in their crops; query, source: features of both."""
    logit = networks.scorer(source[1].float(), cell_cover(views.rendering.mask), query[1].float())
    return torch.sigmoid(logit - UNSEEN_LOGIT)


def confirmed_share(update: Update, views: Views, shapes: Shapes, options: FollowOptions) -> torch.Tensor:
    """The share [B] of an update's cells whose flow is sure of its poses."""
    near = supporting(update, sane(update.T_crop_obj, views, shapes), views.camera.K, options.inlier_px)
    supported = torch.sigmoid(update.field.certainty) * update.valid * near
    return supported.sum((1, 2, 3)) / update.valid.sum((1, 2, 3)).clamp_min(1)


def crops_of(given: tuple[torch.Tensor, torch.Tensor], size: int, padding: float) -> tuple[CropCamera, torch.Tensor]:
    """The crops around objects of points [B,N,3] in poses T_cam_obj [B,4,4], and the poses in these, T_crop_obj
    [B,4,4]."""
    points, T_cam_obj = given
    camera = crop_for_poses(points, T_cam_obj, size, padding)
    return camera, camera.to_crop(T_cam_obj)


def fitted_to_surface(views: Views, shapes: Shapes, T_crop_obj: torch.Tensor, depth: torch.Tensor,
                      options: DepthOptions, held: float) -> tuple[torch.Tensor, DepthShares]:
    """Poses T_crop_obj [B,4,4] fitted to the depth [B,S,S] of their crops, and what of each this confirms; held as in
    `refine_icp`.

    The surface is that of the views: from one frame to the next a little of it appears and disappears. No samples are
    drawn, as for a first pose: the network's pose is near enough for the fit to the surface.
    """
    r, K = views.rendering, views.camera.K
    T = refine_icp(r.xyz, r.normal, r.mask, views.T_crop_obj, depth, K, T_crop_obj, shapes.diameter, options, held)
    T = sane(T, views, shapes)
    surface = transform_points(T, r.xyz.flatten(2).transpose(1, 2))
    measured = depth_at(depth, project(surface, K)).view_as(r.depth)
    return T, depth_shares(surface[..., 2].view_as(r.depth), r.mask, measured,
                           options.agreement_distance(shapes.diameter))


def supporting(update: Update, T_crop_obj: torch.Tensor, K: torch.Tensor, inlier_px: float) -> torch.Tensor:
    """Which cells [B,1,h,w] of an update have flow that ends within `inlier_px` of where poses [B,4,4] under K [B,3,3]
    put their object points."""
    points = transform_points(T_crop_obj, update.xyz.flatten(2).transpose(1, 2))
    reprojected = project(points, K).transpose(1, 2).reshape_as(update.pixel)
    return (update.pixel + update.field.flow - reprojected).norm(dim=1, keepdim=True) < inlier_px
