"""How near one look at an image brings poses that are off: what following makes of motion that it did not expect.

    python benchmark/starts.py                                  # the demo clip, with depth and without
    python benchmark/starts.py path/to/bop/dataset --every 3 --looks 2 --depth off

Each object is followed from poses that are turned and moved off its truth, by wide crops alone (`follow.finer: off`),
as by default (auto), and by finer crops of everything (on). The reference, measured in the same run, is the start.
Scores are mean recall by MSSD, over thresholds of 0.05 to 0.5 diameters.
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flowpose_ros.errors import FlowposeError  # noqa: E402
from flowpose_ros.estimation.estimator import Estimator  # noqa: E402
from flowpose_ros.estimation.estimator_options import EstimatorOptions  # noqa: E402
from flowpose_ros.estimation.follow import Follower  # noqa: E402
from flowpose_ros.estimation.moved import FINER, FollowOptions  # noqa: E402
from flowpose_ros.evaluation.bop_dataset import BopDataset, GroundTruth, Sample  # noqa: E402
from flowpose_ros.evaluation.scores import mean_recall  # noqa: E402
from flowpose_ros.evaluation.table import format_table  # noqa: E402
from flowpose_ros.objects.catalogue import ObjectModel  # noqa: E402
from training.perturb import turn_by  # noqa: E402
from training.validation.cases import farthest  # noqa: E402

OFF = ((3, 0.03), (6, 0.1), (10, 0.2), (15, 0.3))
"""Degrees, and shares of the diameter, that starts are off."""
LEAST_VISIBLE = 0.3
"""Share of an object that must be visible."""


def moved_off(truth: GroundTruth, model: ObjectModel, degrees: float, share: float,
              rng: np.random.Generator) -> np.ndarray:
    """The true pose [4,4] turned so far about any axis through the object's centre, and moved so many diameters."""
    turn, shift = turn_by(np.radians(degrees), rng), rng.normal(size=3)
    T = truth.T_cam_obj.copy()
    T[:3, :3] = turn.as_matrix() @ T[:3, :3]
    T[:3, 3] += (truth.T_cam_obj - T)[:3, :3] @ model.mesh.center
    T[:3, 3] += share * model.mesh.diameter * shift / np.linalg.norm(shift)
    return T


class Trial:
    """Starts of a dataset's objects, and what following makes of them."""

    def __init__(self, dataset: BopDataset, depth: str, looks: int, starts: int) -> None:
        self.looks, self.starts = looks, starts
        self.estimator = Estimator(dataset.catalogue, EstimatorOptions(depth=depth))
        self.follower, self.renderer = Follower(self.estimator.networks), self.estimator.renderer()

    def distances(self, sample: Sample, off: tuple[float, float]) -> list[list[float]]:
        """For each start of an image: its distance, and those that FINER lead to."""
        found = []
        for k, truth in enumerate(sample.ground_truth):
            if truth.visib_fract < LEAST_VISIBLE:
                continue
            model = self.estimator.catalogue[truth.label]
            rng = np.random.default_rng([sample.image_id.scene_id, sample.image_id.im_id, k])
            for _ in range(self.starts):
                T = moved_off(truth, model, *off, rng)
                ends = [T, *(self.followed(sample, truth.label, T, finer) for finer in FINER)]
                found.append([farthest(model, end, truth.T_cam_obj) for end in ends])
        return found

    def followed(self, sample: Sample, label: str, T: np.ndarray, finer: str) -> np.ndarray:
        """The pose after so many looks at the image."""
        targets = self.estimator.targets(sample.frame, [label], self.renderer)
        for _ in range(self.looks):
            found, = self.follower.follow(targets, [T], FollowOptions(finer=finer), self.estimator.options.fit)
            T = found.T_cam_obj
        return T


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, default=ROOT / "demo", help="BOP dataset (default: the demo)")
    parser.add_argument("--every", type=int, default=6, metavar="N", help="of the images every Nth (default: 6)")
    parser.add_argument("--starts", type=int, default=2, metavar="N", help="for each object (default: 2)")
    parser.add_argument("--looks", type=int, default=1, metavar="N", help="one after the other (default: 1)")
    parser.add_argument("--depth", choices=("on", "off", "both"), default="both")
    args = parser.parse_args()
    table = []
    try:
        dataset = BopDataset(args.dataset)
        samples = list(islice(dataset.samples(), 0, None, args.every))
        for depth in ("on", "off") if args.depth == "both" else (args.depth,):
            trial = Trial(dataset, depth, args.looks, args.starts)
            for off in OFF:
                title = f"{off[0]} degrees, {off[1]} d"
                found = [d for sample in tqdm(samples, desc=title, unit="image", disable=None)
                         for d in trial.distances(sample, off)]
                if found:
                    table.append(("RGB-D" if depth == "on" else "RGB", title, len(found), *mean_recall(np.array(found))))
    except FlowposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_table(("input", "off", "starts", "start", *(f"finer: {name}" for name in FINER)), table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
