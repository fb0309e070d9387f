"""Hypothesis noise: how far the pose to be refined is from the truth, in shares of the object's size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from flowpose_ros.geometry.crops import PADDING

NOMINAL_ANGLE = np.radians(15)
NOMINAL_LATERAL = 0.1
NOMINAL_DEPTH = 0.08
WIDEST_ANGLE = np.radians(60)


@dataclass(frozen=True)
class StartMixture:
    """Shares of nominal, wide and near starts; the latter's reach is drawn from near_reach."""

    nominal: float
    wide: float
    near: float
    near_reach: tuple[float, float]


EARLY = StartMixture(0.6, 0.25, 0.15, (0.2, 0.2))
LATE = StartMixture(0.45, 0.15, 0.4, (0.1, 0.5))
"""Most renders of the outer loop start near; a network that finds the way at all learns to end there."""
NEAR = StartMixture(0.15, 0.0, 0.85, (0.03, 0.6))
"""Where poses are before the last step to an answer."""


@dataclass(frozen=True)
class Task:
    """What a refiner is for. early, late: starts of a run's first samples and of the others; padding: room in crops
    (see `crop_for_poses`), drawn for each sample from between the two."""

    early: StartMixture
    late: StartMixture
    padding: tuple[float, float]

    def draw_padding(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """The room in crops of `count` samples [count]."""
        low, high = self.padding
        return np.full(count, low) if low == high else rng.uniform(low, high, count)


TASKS = {"search": Task(EARLY, LATE, (PADDING, PADDING)), "settle": Task(NEAR, NEAR, (1.05, PADDING))}
SEARCH = TASKS["search"]


def perturb_pose(T_cam_obj: np.ndarray, center: np.ndarray, diameter: float, rng: np.random.Generator,
                 mixture: StartMixture = EARLY) -> np.ndarray:
    """A pose [4,4] near T_cam_obj [4,4], turned about `center` [3] of the object.

    Nominal is the papers' noise; wide turns about any axis by up to 60 deg, with 1.5 times its
    translation; near is a part of nominal.
    """
    mode = rng.choice(3, p=(mixture.nominal, mixture.wide, mixture.near))
    if mode == 1:
        return moved_pose(T_cam_obj, center, diameter, turn_by(rng.uniform(0, WIDEST_ANGLE), rng), 1.5, rng)
    reach = 1.0 if mode == 0 else rng.uniform(*mixture.near_reach)
    return nominal_pose(T_cam_obj, center, diameter, rng, reach)


def nominal_pose(T_cam_obj: np.ndarray, center: np.ndarray, diameter: float, rng: np.random.Generator,
                 reach: float = 1.0) -> np.ndarray:
    """The papers' noise, times `reach`: Euler angles N(0, 15 deg) and the translation of `moved_pose`."""
    turn = Rotation.from_euler("xyz", rng.normal(0, NOMINAL_ANGLE * reach, 3))
    return moved_pose(T_cam_obj, center, diameter, turn, reach, rng)


def turn_by(angle: float, rng: np.random.Generator) -> Rotation:
    """A rotation by `angle` radians about a random axis."""
    axis = rng.normal(size=3)
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle)


def moved_pose(T_cam_obj: np.ndarray, center: np.ndarray, diameter: float, turn: Rotation, reach: float,
               rng: np.random.Generator) -> np.ndarray:
    """T_cam_obj [4,4] turned about `center` [3] and moved: N(0, 0.1 d) sideways and N(0, 0.08 z) in
    depth, each times `reach`."""
    middle = T_cam_obj[:3, :3] @ center + T_cam_obj[:3, 3]
    sideways = rng.normal(0, NOMINAL_LATERAL * reach * diameter, 2)
    ratio = np.clip(1 + rng.normal(0, NOMINAL_DEPTH * reach), 0.6, 1.6)
    moved = np.append(middle[:2] + sideways, middle[2]) * ratio
    T = np.eye(4)
    T[:3, :3] = turn.as_matrix() @ T_cam_obj[:3, :3]
    T[:3, 3] = moved - T[:3, :3] @ center
    return T
