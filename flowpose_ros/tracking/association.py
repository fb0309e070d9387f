"""Names for instances, and poses of symmetric ones, that stay the same from frame to frame."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar
from dataclasses import dataclass, replace

import numpy as np

from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.records import PoseEstimate
from flowpose_ros.tracking.motion import place_of

A = TypeVar("A")
B = TypeVar("B")

MAX_STEP_M = 0.3
"""An object whose middle is farther than this from where it was last seen is another instance."""

MEMORY_S = 3.0
"""How long the place of an instance that is not seen is remembered."""


@dataclass(frozen=True)
class _Seen:
    T_cam_obj: np.ndarray
    stamp_ns: int


class InstanceNames:
    """Gives every estimate of a frame an instance number that is unique within its label.

    A number given by the detector is kept. The others go to the nearest remembered instance of the
    same label, closest pairs first, or get the lowest free number. Of the equal poses of a symmetric object
    the one nearest to the instance's last pose is given, so that it neither flips nor spins.
    """

    def __init__(self, symmetries: Mapping[str, SymmetryGroup] = MappingProxyType({}),
                 centers: Mapping[str, np.ndarray] = MappingProxyType({})) -> None:
        """By label: symmetries, none of an object that is not there; centers, the middle [3] of each mesh, metres, its
        origin where it is not there."""
        self._symmetries, self._centers = symmetries, centers
        self._seen: dict[tuple[str, int], _Seen] = {}

    def reset(self) -> None:
        """Forget all instances."""
        self._seen.clear()

    def name(self, estimates: Sequence[PoseEstimate], stamp_ns: int) -> tuple[PoseEstimate, ...]:
        """The estimates with their instance numbers, in the same order; stamp in nanoseconds."""
        self._seen = {key: seen for key, seen in self._seen.items()
                      if stamp_ns - seen.stamp_ns <= MEMORY_S * 1e9}
        numbers = self._given(estimates)
        self._match(estimates, numbers)
        for index, estimate in enumerate(estimates):
            if index not in numbers:
                numbers[index] = self._free(estimate.label, estimates, numbers)
        named = tuple(self._steady(replace(estimate, instance=numbers[i])) for i, estimate in enumerate(estimates))
        for estimate in named:
            self._seen[estimate.label, estimate.instance] = _Seen(estimate.T_cam_obj, stamp_ns)
        return named

    def _steady(self, estimate: PoseEstimate) -> PoseEstimate:
        """The estimate in that of its symmetric poses which is nearest to the instance's last one."""
        group = self._symmetries.get(estimate.label)
        seen = self._seen.get((estimate.label, estimate.instance))
        if group is None or group.is_trivial or seen is None:
            return estimate
        T_cam_obj, covariance = group.nearest_with_covariance(estimate.T_cam_obj, estimate.covariance, seen.T_cam_obj)
        return replace(estimate, T_cam_obj=T_cam_obj, covariance=covariance)

    def _given(self, estimates: Sequence[PoseEstimate]) -> dict[int, int]:
        """Numbers by the detector; of two equal ones the first estimate keeps it."""
        numbers: dict[int, int] = {}
        taken: set[tuple[str, int]] = set()
        for index, estimate in enumerate(estimates):
            number = estimate.detection.instance
            if number is not None and (estimate.label, number) not in taken:
                taken.add((estimate.label, number))
                numbers[index] = number
        return numbers

    def _match(self, estimates: Sequence[PoseEstimate], numbers: dict[int, int]) -> None:
        taken = {(estimates[i].label, number) for i, number in numbers.items()}
        distances = (
            (self._step(estimate.label, seen.T_cam_obj, estimate.T_cam_obj), index, key)
            for index, estimate in enumerate(estimates) if index not in numbers
            for key, seen in self._seen.items() if key[0] == estimate.label and key not in taken)
        near = pair_closest(pair for pair in distances if pair[0] <= MAX_STEP_M)
        numbers.update({index: number for index, (_, number) in near.items()})

    def _step(self, label: str, before: np.ndarray, after: np.ndarray) -> float:
        """How far the middle of an object is between two poses T_cam_obj [4,4], metres."""
        middle = self._centers.get(label, np.zeros(3))
        return float(np.linalg.norm(place_of(after, middle) - place_of(before, middle)))

    def _free(self, label: str, estimates: Sequence[PoseEstimate], numbers: dict[int, int]) -> int:
        used = {number for i, number in numbers.items() if estimates[i].label == label}
        used |= {number for seen_label, number in self._seen if seen_label == label}
        return lowest_free(used)


def lowest_free(used: Collection[int]) -> int:
    """The lowest number that is not used."""
    return next(n for n in range(len(used) + 1) if n not in used)


def pair_closest(distances: Iterable[tuple[float, A, B]]) -> dict[A, B]:
    """Pairs of what is closest, none twice: from (distance, one, other) the other of each one, closest first."""
    found: dict[A, B] = {}
    taken: set[B] = set()
    for _, one, other in sorted(distances):
        if one not in found and other not in taken:
            found[one] = other
            taken.add(other)
    return found
