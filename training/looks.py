"""Poses that estimation looks at on its way, kept with their evidence: python -m training.looks --folder runs/looks

Synthetic scenes are estimated as on a robot, by boxes as a detector's, half of them without depth. In some the box
belongs to another object than the one that is looked for, so that no pose is right. A killed command goes on with the
next scene, and one that asks for more makes those that are missing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flowpose_ros.errors import FlowposeError
from flowpose_ros.estimation.batches import join
from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.estimation.estimator_options import EstimatorOptions
from flowpose_ros.estimation.evidence import evidence
from flowpose_ros.estimation.networks import load_networks
from flowpose_ros.objects.catalogue import Catalogue, ObjectModel
from flowpose_ros.records import Detection
from training.calibrate import box_of
from training.command import command
from training.crew import settings_of, work_through
from training.flags import at_least_one
from training.pools import tell_data
from training.validation.cases import IMAGE_SIZE, ImageMaker, farthest, synthetic_case

NOTHING_SHARE = 0.1
"""Share of scenes in which something else is looked for."""
NOWHERE = 9.0
"""Error of every pose of what is not there."""


@dataclass(frozen=True)
class Looks:
    """N poses looked at: evidence [N,C,h,w] int8, 127 for 1; error [N], MSSD as a share of the diameter; scene [N], the
    scene's index, equal for the poses of one scene, which follow each other."""

    evidence: torch.Tensor
    error: torch.Tensor
    scene: torch.Tensor


class LookMaker:
    """Estimates synthetic scenes of one family of objects; one in each process."""

    def __init__(self, weights: str, family: str, seed: int) -> None:
        self.weights, self.maker = weights, ImageMaker(seed, IMAGE_SIZE, family)

    def __call__(self, index: int) -> dict[str, torch.Tensor] | None:
        """The looks of a scene as a file holds them."""
        found = self.looks(index)
        return found and vars(found)

    def looks(self, index: int) -> Looks | None:
        """The looks of scene `index`, always the same; None where estimation finds none at all."""
        case, rng = synthetic_case(self.maker, index), np.random.default_rng([self.maker.seed, index, 5])
        model, T = case.model, case.T_cam_obj
        if rng.random() < NOTHING_SHARE:
            other = self.maker.pool.draw(rng, int(rng.integers(2 ** 40)))
            model, T = ObjectModel("other", None, other.mesh, other.symmetries, Path()), None
        with_depth = case.frame.depth is not None and index % 2 == 1
        options = EstimatorOptions(depth="on" if with_depth else "off", weights=self.weights, device="cpu")
        estimator = Estimator(Catalogue([model]), options)
        try:
            target, trail = estimator.trail(case.frame, Detection(model.label, box_of(case, rng)))
        except FlowposeError:
            return None
        found = []
        for look in trail.looks:
            poses = look.T_cam_obj.double().numpy()
            error = [NOWHERE if T is None else farthest(model, pose, T) for pose in poses]
            maps = (127 * evidence(target, look, options.fit)).round().to(torch.int8)
            found.append(Looks(maps, torch.tensor(error).float(), torch.full((len(error),), index)))
        return join(found)


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="", help="folder of weights (default: the shipped ones)")
    parser.add_argument("--folder", type=Path, default=Path("runs/looks"))
    parser.add_argument("--family", choices=("train", "held_out"), default="train")
    parser.add_argument("--count", type=at_least_one, default=2000, help="scenes")
    parser.add_argument("--seed", type=int, default=7101)
    parser.add_argument("--processes", type=at_least_one, default=2)
    args = parser.parse_args()
    tell_data()
    settings = settings_of(load_networks(args.weights, "cpu"), args.family, args.seed)
    work_through(args.folder, settings, args.count, args.processes, LookMaker, args.weights, args.family, args.seed)


if __name__ == "__main__":
    main()
