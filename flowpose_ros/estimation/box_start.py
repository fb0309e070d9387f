"""Starts from a detection: the crop in which rotations are sought, and where the box puts the best of them."""

from __future__ import annotations

import numpy as np
import torch

from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.depth_rank import rank_by_depth
from flowpose_ros.estimation.hypotheses import Hypotheses
from flowpose_ros.estimation.look import Target
from flowpose_ros.estimation.networks import CROP_SIZE
from flowpose_ros.estimation.select import best_of
from flowpose_ros.estimation.template_features import spread_best
from flowpose_ros.estimation.views import Shape
from flowpose_ros.geometry.box import translation_from_box
from flowpose_ros.geometry.camera import CropCamera, back_project, box_around, crop_around, look_at, project
from flowpose_ros.geometry.crops import PADDING
from flowpose_ros.geometry.transforms import make_transform
from flowpose_ros.records import Detection


def box_crop(box: np.ndarray, K: torch.Tensor) -> CropCamera:
    """The crop of a detection: along the ray of the box's middle, PADDING times its longer half as seen from there."""
    rays = box_rays(box, K)
    axis = rays.mean(0, keepdim=True)
    turned = box_around(project(rays @ look_at(axis)[0].T, torch.eye(3).to(rays))[None])[0]
    return crop_around(axis, PADDING * (turned[2:] - turned[:2]).max()[None] / 2, CROP_SIZE)


def best_starts(target: Target, detection: Detection, camera: CropCamera, rotations: np.ndarray, logits: np.ndarray,
                count: int, candidates: int, apart_deg: float, depth_options: DepthOptions
                ) -> Hypotheses:
    """The `count` best of scored rotations [N,3,3] in the detection's crop, at least `apart_deg` from each other.

    Where there is depth, `candidates` of them are fitted to it and ranked by it first.
    """
    frame = target.frame
    wanted = count if frame.depth is None else max(count, candidates)
    chosen = spread_best(rotations, logits, wanted, np.radians(apart_deg))
    T = place(detection, frame.K, target.shape, rotations[chosen], camera)
    match = torch.from_numpy(logits[chosen]).sigmoid().float().to(T.device)
    if frame.depth is not None:
        mask = None if detection.mask is None else torch.from_numpy(detection.mask).to(T.device)
        T, match = rank_by_depth(target, T, match, depth_options, mask)
    best = best_of(match, count)
    return Hypotheses(T[best], match[best])


def place(detection: Detection, K: torch.Tensor, shape: Shape, R_crop_obj: np.ndarray,
          camera: CropCamera) -> torch.Tensor:
    """T_cam_obj [n,4,4] of rotations in the detection's crop that fill its box; K [3,3] of the image."""
    K_crop = camera.K[0]
    box = box_around(project(box_rays(detection.box, K) @ camera.R_crop_cam[0].T, K_crop)[None])
    R = torch.from_numpy(R_crop_obj).float().to(K.device)
    return camera.to_camera(make_transform(R, translation_from_box(shape.points, R, box, K_crop)))


def box_rays(box: np.ndarray, K: torch.Tensor) -> torch.Tensor:
    """Rays [4,3], z = 1, through the middles of the sides of a box [4] under K [3,3]: what a camera turned to it sees of
    the box, whose corners the object hardly ever fills."""
    left, top, right, bottom = box.tolist()
    across, down = (left + right) / 2, (top + bottom) / 2
    sides = K.new_tensor([[left, down], [right, down], [across, top], [across, bottom]])
    return back_project(sides, torch.ones_like(sides[:, 0]), K)
