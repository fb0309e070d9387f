"""Train the flow refiner on synthetic pairs: python -m training.train_refiner --help.

Several processes share each batch: torchrun --nproc-per-node 2 -m training.train_refiner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from flowpose_ros.networks.flow import SIZES, GenFlow
from flowpose_ros.networks.matching import joint_features
from flowpose_ros.networks.weights import features_hash
from training.command import command
from training.learner import Figures, Loss
from training.losses import LossWeights, matching_loss, refiner_loss, view_of
from training.pairs import PairBatch
from training.pictures import refiner_rows
from training.trainer import Lesson, PairTraining, run_arguments, run_parser, train_on_pairs

FILES = {"search": "genflow", "settle": "settle"}
"""What the weights of a refiner for each task are called."""


@dataclass(frozen=True)
class RefinerTraining(PairTraining):
    """One run of the refiner's training (see `PairTraining`).

    flow_l1, pose: weights of these losses (see `LossWeights`). fixed_features: the features stay those of the weights
    that it begins with, so that what has learnt on them still goes with the refiner.
    """

    size: str = field(default="T", metadata={"choices": tuple(SIZES)})
    flow_l1: float = LossWeights.flow_l1
    pose: float = LossWeights.pose
    fixed_features: bool = False
    features_until: float = 0.2
    alternate_from: float = 0.57
    updates_every: int = 4

    @property
    def losses(self) -> LossWeights:
        """The weights of the losses; features that stay as they are have none of their own."""
        matching = 0.0 if self.fixed_features else LossWeights.matching
        return LossWeights(flow_l1=self.flow_l1, pose=self.pose, matching=matching)

    def features_alone(self, at: int, step: int) -> bool:
        """Whether only the features learn at a step of a run that stands `at` a step of its schedule (see `Pace`),
        which takes a third of the time.

        At first, because correlation that means nothing teaches no flow; later in most steps, because
        matching and all updates live on them. Which steps these are goes by the run's own: the clock's leave some out.
        Fixed ones never do.
        """
        if self.fixed_features:
            return False
        alternating = at >= self.alternate_from * self.steps and step % self.updates_every != 0
        return at < self.features_until * self.steps or alternating


@dataclass(frozen=True)
class RefinerLoss:
    """The losses of a refiner on a batch, and their figures."""

    network: GenFlow
    weights: LossWeights = LossWeights()

    def features(self, batch: PairBatch, pose_share: torch.Tensor) -> tuple[torch.Tensor, Figures]:
        """That of the features alone."""
        return self._matching(batch)[:2]

    def everything(self, batch: PairBatch, pose_share: torch.Tensor) -> tuple[torch.Tensor, Figures]:
        """That of the features and of all updates."""
        total, figures, query, source = self._matching(batch)
        losses = refiner_loss(self.network(query, view_of(batch), source), batch, self.weights, pose_share)
        return total + losses.total, figures | {
            "loss": losses.total.detach(), "epe": losses.flow_error, "cert": losses.certainty_error,
            "pose": losses.pose_error, "start": losses.start_error}

    def picture(self, batch: PairBatch) -> np.ndarray:
        """Rows of a batch with the last update's flow and certainty (see `refiner_rows`)."""
        return refiner_rows(self.network(self.network.encode(batch.query_rgb), view_of(batch))[-1], batch)

    def _matching(self, batch: PairBatch):
        query, source = self.network.encode(batch.query_rgb), self.network.encode(batch.render_rgb)
        if not self.weights.matching:
            return 0.0, {}, query, source
        match = sum(matching_loss(s, q, batch) for s, q in zip((*source, joint_features(source)),
                                                               (*query, joint_features(query))))
        return self.weights.matching * match, {"match": match.detach()}, query, source


def train(config: RefinerTraining, folder: Path, *, start: Path | None = None, **run) -> Path:
    """Train a refiner and return the path of its weights.

    start, run: as `train_on_pairs` has them, and what it raises; ValueError too for features that are to stay those of
    no weights.
    """
    if config.fixed_features and start is None:
        raise ValueError("fixed_features: expected weights to begin with (--init-from), got none")

    def lesson_on(device: str) -> Lesson:
        network = GenFlow(SIZES[config.size]).to(device)
        network.features.requires_grad_(not config.fixed_features)
        loss = RefinerLoss(network, config.losses)

        def loss_at(at: int, step: int) -> Loss:
            return loss.features if config.features_alone(at, step) else loss.everything

        return Lesson(network, loss_at, f"refiner of size {config.size}", "genflow",
                      f"{FILES[config.task]}_{config.size.lower()}.safetensors",
                      features_hash(start) if config.fixed_features else None, loss.picture)

    return train_on_pairs(config, lesson_on, folder, start=start, **run)


@command
def main() -> None:
    """Command line of the refiner's training."""
    config, run = run_arguments(run_parser(__doc__, RefinerTraining, Path("runs/refiner")), RefinerTraining)
    print(f"weights: {train(config, **run)}")


if __name__ == "__main__":
    main()
