"""Train RefPose's geometry network on frozen features of a refiner: python -m training.train_geometry --help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flowpose_ros.networks.flow import GenFlow, GenFlowConfig
from flowpose_ros.networks.geometry_net import Geometry, GeometryConfig, GeometryNet
from flowpose_ros.networks.weights import features_hash, load_network
from training.command import command
from training.geometry_loss import GeometryWeights, geometry_loss
from training.learner import Figures
from training.losses import view_of
from training.pairs import PairBatch
from training.pictures import geometry_rows
from training.trainer import Lesson, PairTraining, run_arguments, run_parser, train_on_pairs


@dataclass(frozen=True)
class GeometryTraining(PairTraining):
    """One run of the geometry network's training (see `PairTraining`); encoded, upsampling, attention, pose:
    see `GeometryConfig`."""

    steps: int = 6000
    batch: int = 8
    reuse: int = 4
    learning_rate: float = 1e-3
    pose_from: float = 0.1
    encoded: bool = True
    upsampling: str = "convex"
    attention: str = "correlation"
    pose: str = "solver"


@dataclass(frozen=True)
class GeometryLoss:
    """The loss of a geometry network on a batch, as it sees it through a refiner's features."""

    network: GeometryNet
    refiner: GenFlow
    weights: GeometryWeights = GeometryWeights()

    def __call__(self, batch: PairBatch, pose_share: torch.Tensor) -> tuple[torch.Tensor, Figures]:
        """The loss and its figures."""
        return geometry_loss(self._said(batch), self.network.encode, batch, self.weights, pose_share)

    def picture(self, batch: PairBatch) -> np.ndarray:
        """Rows of a batch with what the network says of it (see `geometry_rows`)."""
        return geometry_rows(self._said(batch), batch)

    def _said(self, batch: PairBatch) -> Geometry:
        with torch.no_grad():
            query, source = self.refiner.encode(batch.query_rgb), self.refiner.encode(batch.render_rgb)
        return self.network(query, source, view_of(batch))


def train(config: GeometryTraining, refiner: Path, folder: Path, **run) -> Path:
    """Train on the features of the weights file `refiner`; returns the path of the exported network.

    run: how, as in `train_on_pairs`, which says what it raises; WeightsError too when `refiner` is none.
    """
    def lesson_on(device: str) -> Lesson:
        features = load_network(refiner, "genflow", GenFlowConfig, GenFlow).to(device)
        shape = GeometryConfig(features.config.fine, features.config.coarse, encoded=config.encoded,
                               upsampling=config.upsampling, attention=config.attention, pose=config.pose)
        network = GeometryNet(shape).to(device)
        loss = GeometryLoss(network, features)
        # A network belongs to the features that it learnt from.
        return Lesson(network, lambda at, step: loss, "geometry network", "geometry", "geometry.safetensors",
                      features_hash(refiner), loss.picture)

    return train_on_pairs(config, lesson_on, folder, **run)


@command
def main() -> None:
    """Command line of the geometry network's training."""
    parser = run_parser(__doc__, GeometryTraining, Path("runs/geometry"))
    parser.add_argument("--refiner", type=Path, required=True, help="weights whose features it sees")
    config, run = run_arguments(parser, GeometryTraining)
    print(f"weights: {train(config, **run)}")


if __name__ == "__main__":
    main()
