"""All poses of an object that were looked at on the way to an answer, and how right each seems."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from flowpose_ros.estimation.batches import join
from flowpose_ros.estimation.look import Look
from flowpose_ros.estimation.select import SAME, distinct_best
from flowpose_ros.geometry.symmetry import SymmetryGroup


class Trail:
    """Looks in the order in which they were made, and their scores."""

    def __init__(self, judge: Callable[[Look], torch.Tensor]) -> None:
        """judge: the scores [B] of a look."""
        self.judge = judge
        self.looks: list[Look] = []
        self.scores: list[torch.Tensor] = []

    def add(self, looks: Sequence[Look], known: torch.Tensor | None = None) -> tuple[Look, torch.Tensor]:
        """Keep some looks and return the last with its scores [B]; known: scores of the first, where judged before."""
        scores = [self.judge(looks[0]) if known is None else known, *map(self.judge, looks[1:])]
        self.looks += looks
        self.scores += scores
        return looks[-1], scores[-1]

    def distinct(self, symmetries: SymmetryGroup, count: int) -> tuple[Look, torch.Tensor]:
        """A look at the `count` poses that seem most right, best first, no two of them the same (see `distinct_best`),
        and their scores. Of equally right ones the last, the more refined."""
        places = [(look, i) for look in self.looks for i in range(len(look.T_cam_obj))][::-1]
        T_cam_obj = torch.cat([look.T_cam_obj for look in self.looks]).flip(0)
        scores = torch.cat(self.scores).flip(0)
        index = distinct_best(T_cam_obj.double().cpu().numpy(), scores, symmetries, count, SAME)
        return join([look.take(torch.tensor([i])) for look, i in (places[k] for k in index)]), scores[index]
