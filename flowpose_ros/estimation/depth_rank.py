"""Coarse poses ranked again by depth, which sees shape where a template is too small to show it."""

from __future__ import annotations

import torch

from flowpose_ros.estimation.agreement import colour_agreement
from flowpose_ros.estimation.depth import DepthOptions, believable, depth_agreement, depth_shares, shift_to_depth
from flowpose_ros.estimation.icp import refine_icp
from flowpose_ros.estimation.look import Target
from flowpose_ros.geometry.camera import sample_crop

RANK_SIZE = 64
"""Side in pixels of the crops in which depth ranks poses: shape needs fewer than texture."""


def rank_by_depth(target: Target, T_cam_obj: torch.Tensor, match: torch.Tensor, options: DepthOptions,
                  mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses [B,4,4] shifted and fitted to the depth, and their scores [B] with its agreement.

    mask [H,W] bool over the whole image, or None: where alone the depth says how far the object is. A template net
    sees little of the shape at 128 pixels; depth sees it well once the pose is fitted.
    """
    frame, diameter = target.frame, target.shape.diameter
    views = target.render(T_cam_obj, RANK_SIZE)
    r, observed = views.rendering, frame.depth_crop(views.camera)
    region = None if mask is None else sample_crop(mask[None].float(), views.camera, frame.K)[:, 0] > 0.5
    T = shift_to_depth(r.depth, r.mask, observed, views.camera.K, views.T_crop_obj, diameter, region)
    # Moved along its ray an object shows nearly the same surface: no new render for the fit.
    fitted = refine_icp(r.xyz, r.normal, r.mask, views.T_crop_obj, observed, views.camera.K, T, diameter, options)
    views = target.render(views.camera.to_camera(fitted), RANK_SIZE)
    r = views.rendering
    shares = depth_shares(r.depth, r.mask, frame.depth_crop(views.camera), 2 * options.inlier_distance(diameter))
    agreement = depth_agreement(believable(shares))
    colour = colour_agreement(r.rgb, r.mask, frame.crop(views.camera), cell=2)
    return views.camera.to_camera(views.T_crop_obj), match.sqrt() * colour * agreement.square()
