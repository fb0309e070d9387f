"""All poses of an object that were looked at on the way to an answer, and how right each seems."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from flowpose_ros.estimation.look import Look
from flowpose_ros.estimation.select import select


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

    def best(self) -> tuple[Look, float]:
        """A look at the one pose that seems most right, and its score."""
        stage, which = select(self.scores)
        return self.looks[stage].take(torch.tensor([which])), float(self.scores[stage][which])
