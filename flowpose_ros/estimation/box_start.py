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
from flowpose_ros.geometry.camera import CropCamera, crop_around
from flowpose_ros.geometry.crops import PADDING
from flowpose_ros.geometry.transforms import make_transform
from flowpose_ros.records import Detection


def box_crop(box: np.ndarray, K: torch.Tensor) -> CropCamera:
    """The crop of a detection: along the ray of the box's middle, PADDING times its longer half."""
    left, top, right, bottom = box.tolist()
    focal = torch.stack([K[0, 0], K[1, 1]])
    middle = (K.new_tensor([(left + right) / 2, (top + bottom) / 2]) - K[:2, 2]) / focal
    half = (K.new_tensor([right - left, bottom - top]) / 2 / focal).max()
    # Seen from off the axis a box looks smaller than its pixels say.
    half = half / (1 + middle.square().sum())
    rays = torch.cat([middle, torch.ones_like(middle[:1])])[None]
    return crop_around(rays, PADDING * half[None], CROP_SIZE)


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
    left, top, right, bottom = detection.box.tolist()
    K_crop = camera.K[0]
    pixels = K_crop[0, 0] * camera_scale(camera)
    half = torch.stack([(right - left) / 2 / K[0, 0] * pixels, (bottom - top) / 2 / K[1, 1] * pixels])
    middle = K_crop[:2, 2]
    R = torch.from_numpy(R_crop_obj).float().to(K.device)
    t = translation_from_box(shape.points, R, torch.cat([middle - half, middle + half]), K_crop)
    return camera.to_camera(make_transform(R, t))


def camera_scale(camera: CropCamera) -> torch.Tensor:
    """How much smaller a box looks along the crop's axis than along the camera's (see `box_crop`)."""
    return camera.R_crop_cam[0, 2, 2].square()
