"""Symmetries of an object: the motions that leave it looking the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from flowpose_ros.errors import GeometryError
from flowpose_ros.geometry.transforms import check_transform, covariance_at, exp_so3, skew

BOP_STEP_RAD = 0.01
"""Step of the BOP metrics along a circle of half a turn: ceil(pi / 0.01) = 315 rotations."""


@dataclass(frozen=True, eq=False)
class SymmetryAxis:
    """A line about which any rotation is a symmetry: direction [3] unit, through offset [3] metres."""

    direction: np.ndarray
    offset: np.ndarray

    def rotations(self, angles: np.ndarray) -> np.ndarray:
        """S_obj_obj [n,4,4] float64 that turn by angles [n] radians about the line."""
        S = np.tile(np.eye(4), (len(angles), 1, 1))
        S[:, :3, :3] = exp_so3(torch.from_numpy(np.outer(angles, self.direction))).numpy()
        S[:, :3, 3] = self.offset - S[:, :3, :3] @ self.offset
        return S


@dataclass(frozen=True, eq=False)
class SymmetryGroup:
    """Discrete symmetries [n,4,4] float64 without the identity, metres, and axes of revolution."""

    discrete: np.ndarray
    axes: tuple[SymmetryAxis, ...] = ()

    @staticmethod
    def none() -> SymmetryGroup:
        """The group of an object without symmetry."""
        return SymmetryGroup(np.zeros((0, 4, 4)))

    @staticmethod
    def from_models_info(entry: Mapping, scale: float) -> SymmetryGroup:
        """The group in one entry of BOP's models_info.json, whose lengths are `scale` metres each.

        Reads symmetries_discrete (16 numbers each, row by row) and symmetries_continuous (axis,
        offset); both may be absent. Raises GeometryError when one is not a rigid transform or axis.
        """
        discrete = [_discrete(i, numbers, scale) for i, numbers in enumerate(entry.get("symmetries_discrete") or ())]
        axes = [_axis(i, axis, scale) for i, axis in enumerate(entry.get("symmetries_continuous") or ())]
        return SymmetryGroup(np.array(discrete).reshape(-1, 4, 4), tuple(axes))

    def models_info(self, scale: float) -> dict[str, list]:
        """The group as an entry of BOP's models_info.json has it, whose lengths are `scale` metres each; empty without
        symmetry. The opposite of `from_models_info`."""
        entry = {}
        if self.axes:
            entry["symmetries_continuous"] = [{"axis": _digits(axis.direction), "offset": _digits(axis.offset / scale)}
                                              for axis in self.axes]
        if len(self.discrete):
            in_unit = self.discrete.copy()
            in_unit[:, :3, 3] /= scale
            entry["symmetries_discrete"] = [_digits(S.reshape(-1)) for S in in_unit]
        return entry

    def free_covariance(self, T_cam_obj: torch.Tensor) -> torch.Tensor:
        """Covariance [B,6,6] of (translation m, rotation vector rad) about the mesh's origin, camera axes, of poses
        T_cam_obj [B,4,4] that may be turned about each axis of revolution by any angle, all equally likely."""
        R = T_cam_obj[:, :3, :3]
        total = R.new_zeros(len(R), 6, 6)
        for axis in self.axes:
            turn = R @ R.new_tensor(axis.direction)
            # The origin goes round the axis.
            motion = torch.cat([torch.linalg.cross(R @ R.new_tensor(axis.offset), turn), turn], -1)
            total += math.pi ** 2 / 3 * motion[:, :, None] * motion[:, None, :]
        return total

    @property
    def is_trivial(self) -> bool:
        """Whether the object has no symmetry."""
        return not len(self.discrete) and not self.axes

    def transforms(self, step_rad: float = BOP_STEP_RAD) -> np.ndarray:
        """All symmetries [S,4,4] float64, the identity first, axes cut into equal rotations.

        Each axis gives ceil(pi / step_rad) of them; every one is combined with every discrete
        symmetry as R_cont R_disc. Source: BOP toolkit, `get_symmetry_transformations`.
        """
        steps = math.ceil(math.pi / step_rad)
        turns = np.arange(1, steps) * 2 * math.pi / steps
        along = np.concatenate([np.eye(4)[None], *(axis.rotations(turns) for axis in self.axes)])
        apart = np.concatenate([np.eye(4)[None], self.discrete])
        return (along[:, None] @ apart).reshape(-1, 4, 4)

    def nearest(self, T_cam_obj: np.ndarray, T_reference: np.ndarray) -> np.ndarray:
        """The equivalent T_cam_obj @ S [4,4] whose rotation is nearest to that of T_reference [4,4].

        Exact along an axis, not on the grid of `transforms`.
        """
        candidates = [self._turn_to(T_cam_obj @ S, T_reference[:3, :3])
                      for S in np.concatenate([np.eye(4)[None], self.discrete])]
        return max(candidates, key=lambda T: np.sum(T[:3, :3] * T_reference[:3, :3]))

    def nearest_with_covariance(self, T_cam_obj: np.ndarray, covariance: np.ndarray, T_reference: np.ndarray
                                ) -> tuple[np.ndarray, np.ndarray]:
        """`nearest`, with the covariance [6,6] of (translation, rotation vector), camera axes, expressed about the origin
        of the pose returned in place of T_cam_obj's: a symmetric turn may move the mesh's origin."""
        T = self.nearest(T_cam_obj, T_reference)
        by = torch.from_numpy(T[:3, 3] - T_cam_obj[:3, 3])
        return T, covariance_at(torch.from_numpy(covariance), by).numpy()

    def _turn_to(self, T: np.ndarray, R_reference: np.ndarray) -> np.ndarray:
        """T turned about the axes until its rotation is nearest to R_reference [3,3]."""
        if not self.axes:
            return T
        directions = np.array([axis.direction for axis in self.axes])
        M = R_reference.T @ T[:3, :3]
        if np.linalg.matrix_rank(directions, tol=1e-3) > 1:  # two axes make a sphere: any rotation will do
            S, center = np.eye(4), self._center()
            S[:3, :3], S[:3, 3] = M.T, center - M.T @ center
        else:
            # trace(M R(angle)) = a' M a + cos(angle) (trace M - a' M a) + sin(angle) trace(M [a]x)
            a = directions[0]
            sin, cos = np.trace(M @ skew(torch.from_numpy(a)).numpy()), np.trace(M) - a @ M @ a
            S = self.axes[0].rotations(np.array([math.atan2(sin, cos)]))[0]
        return T @ S

    def _center(self) -> np.ndarray:
        """The point [3] nearest to all axes, metres."""
        across = [np.eye(3) - np.outer(axis.direction, axis.direction) for axis in self.axes]
        return np.linalg.solve(sum(across), sum(P @ axis.offset for P, axis in zip(across, self.axes)))


def _digits(numbers: np.ndarray) -> list[float]:
    return [float(f"{number:.9f}") + 0.0 for number in numbers]  # + 0.0 makes -0.0 plain


def _discrete(index: int, numbers, scale: float) -> np.ndarray:
    name = f"symmetries_discrete[{index}]"
    if np.size(numbers) != 16:
        raise GeometryError(f"{name}: expected 16 numbers, got {np.size(numbers)}")
    S = check_transform(np.reshape(numbers, (4, 4)), name).copy()
    S[:3, 3] *= scale
    return S


def _axis(index: int, entry: Mapping, scale: float) -> SymmetryAxis:
    name = f"symmetries_continuous[{index}]"
    try:
        direction = np.asarray(entry["axis"], dtype=np.float64)
        offset = np.asarray(entry.get("offset", (0, 0, 0)), dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise GeometryError(f"{name}: expected axis and offset of 3 numbers each, got {entry!r}") from error
    length = np.linalg.norm(direction)
    if direction.shape != (3,) or offset.shape != (3,) or not np.isfinite(offset).all() or not 0 < length < np.inf:
        raise GeometryError(f"{name}: expected a non-zero axis and an offset of 3 numbers each, got {entry!r}")
    return SymmetryAxis(direction / length, offset * scale)
