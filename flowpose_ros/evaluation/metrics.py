"""Errors of one estimated pose against one true pose: VSD, MSSD, MSPD, ADD, ADD-S, rotation, translation.

Definitions: BOP (Hodan et al., "BOP Challenge 2020 on 6D Object Localization", section 2.2).
Poses are [4,4] float64 T_cam_obj in metres, vertices [N,3] metres in the object's frame, symmetries
[S,4,4] with the identity among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.geometry.transforms import rotation_angle

VSD_TAUS = tuple(k / 20 for k in range(1, 11))
"""Tolerances of VSD, shares of the diameter; k / 20 is the number nearest to 0.15, 3 * 0.05 is not."""
VSD_DELTA = 0.015
VSD_DELTAS = {"itodd": 0.005}
"""Metres by which a surface may lie behind the measured one and still count as visible; where BOP has another for a
dataset, by its folder's name."""

_VERTEX_NUMBERS_AT_ONCE = 4_000_000


def vsd(dist_est: np.ndarray, dist_gt: np.ndarray, dist_scene: np.ndarray, diameter: float,
        taus: tuple[float, ...] = VSD_TAUS, delta: float = VSD_DELTA) -> np.ndarray:
    """Visible surface discrepancy in [0,1] for each tau.

    dist_* [H,W] metres from the camera's centre (not along z), 0 where nothing is seen or measured:
    the object at the estimate, the object at the truth, the scene.
    """
    seen_gt = _visible(dist_gt, dist_scene, delta)
    seen_est = _visible(dist_est, dist_scene, delta) | (seen_gt & (dist_est > 0))
    both, any_ = seen_gt & seen_est, seen_gt | seen_est
    if not any_.any():
        return np.ones(len(taus))
    off = np.abs(dist_gt[both] - dist_est[both]) / diameter
    missed = np.count_nonzero(any_) - np.count_nonzero(both)
    wrong = np.array([np.count_nonzero(off >= tau) for tau in taus])
    return (wrong + missed) / np.count_nonzero(any_)


def distance_image(depth: np.ndarray, K: np.ndarray, left: int = 0, top: int = 0) -> np.ndarray:
    """Distances [H,W] from the camera's centre of a depth image [H,W] along z, both metres.

    left, top: the pixel of the full image that is the depth image's first.
    """
    height, width = depth.shape
    x = (np.arange(left, left + width) - K[0, 2]) / K[0, 0]
    y = (np.arange(top, top + height) - K[1, 2]) / K[1, 1]
    return depth * np.sqrt(1 + x[None, :] ** 2 + y[:, None] ** 2)


def mssd(T_est: np.ndarray, T_gt: np.ndarray, vertices: np.ndarray, symmetries: np.ndarray) -> float:
    """Maximum symmetry-aware surface distance, metres."""
    est = vertices @ T_est[:3, :3].T + T_est[:3, 3]
    return min(float(np.linalg.norm(moved - est, axis=-1).max(-1).min())
               for moved in _placed(T_gt @ symmetries, vertices))


def mspd(T_est: np.ndarray, T_gt: np.ndarray, vertices: np.ndarray, symmetries: np.ndarray,
         K: np.ndarray) -> float:
    """Maximum symmetry-aware projection distance, pixels under K [3,3]; infinite when the estimate
    puts a vertex in or behind the camera's plane."""
    est = vertices @ T_est[:3, :3].T + T_est[:3, 3]
    if (est[:, 2] <= 0).any():
        return float("inf")
    est = _project(est, K)
    return min(float(np.linalg.norm(_project(moved, K) - est, axis=-1).max(-1).min())
               for moved in _placed(T_gt @ symmetries, vertices))


def add(T_est: np.ndarray, T_gt: np.ndarray, vertices: np.ndarray) -> float:
    """Mean distance of corresponding vertices, metres (Hinterstoisser et al. 2012)."""
    offset = vertices @ (T_est - T_gt)[:3, :3].T + (T_est - T_gt)[:3, 3]
    return float(np.linalg.norm(offset, axis=1).mean())


def add_s(T_est: np.ndarray, T_gt: np.ndarray, vertices: np.ndarray) -> float:
    """Mean distance from each true vertex to the nearest estimated one, metres (Hinterstoisser et al. 2012)."""
    est = vertices @ T_est[:3, :3].T + T_est[:3, 3]
    truth = vertices @ T_gt[:3, :3].T + T_gt[:3, 3]
    return float(cKDTree(est).query(truth)[0].mean())


@dataclass(frozen=True)
class PoseDifference:
    """Difference of two poses after the best symmetry: rotation radians, translation metres."""

    rotation: float
    translation: float


def pose_difference(T_est: np.ndarray, T_gt: np.ndarray, symmetries: SymmetryGroup) -> PoseDifference:
    """Rotation angle and translation between an estimate and the nearest equivalent of the truth."""
    T_near = symmetries.nearest(T_gt, T_est)
    angle = rotation_angle(torch.from_numpy(T_near[:3, :3]), torch.from_numpy(T_est[:3, :3]))
    return PoseDifference(float(angle), float(np.linalg.norm(T_near[:3, 3] - T_est[:3, 3])))


def _visible(dist_object: np.ndarray, dist_scene: np.ndarray, delta: float) -> np.ndarray:
    return (dist_object > 0) & ((dist_object - dist_scene <= delta) | (dist_scene == 0))


def _placed(transforms: np.ndarray, vertices: np.ndarray):
    """Vertices under transforms [S,4,4], [s,N,3] float64 at a time so that memory stays bounded."""
    step = max(1, _VERTEX_NUMBERS_AT_ONCE // max(vertices.size, 1))
    for start in range(0, len(transforms), step):
        T = transforms[start:start + step]
        yield vertices @ T[:, :3, :3].transpose(0, 2, 1) + T[:, None, :3, 3]


def _project(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    pixels = points @ K.T
    return pixels[..., :2] / pixels[..., 2:]
