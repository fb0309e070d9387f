"""How long it takes to follow several objects from one image to the next, together and one by one.

    python benchmark/following.py                           # one to five objects of the demo clip, RGB-D
    python benchmark/following.py --device cuda --depth off
    python benchmark/following.py path/to/bop/dataset --objects 1 8

Each image is followed from the true poses of the one before it, from the frame in memory to poses on the CPU: upload,
crops, renders, network, fits. Where an image has fewer objects than are asked for, they take part several times. The
reference, measured in the same run, is following them one after the other.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice, pairwise
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flowpose_ros.errors import FlowposeError  # noqa: E402
from flowpose_ros.estimation.estimator import Estimator  # noqa: E402
from flowpose_ros.estimation.estimator_options import EstimatorOptions  # noqa: E402
from flowpose_ros.estimation.follow import Followed, Follower  # noqa: E402
from flowpose_ros.estimation.look import Target  # noqa: E402
from flowpose_ros.estimation.moved import FINER, FollowOptions  # noqa: E402
from flowpose_ros.evaluation.bop_dataset import BopDataset, Sample  # noqa: E402
from flowpose_ros.evaluation.table import format_table  # noqa: E402

WARM_UPS = 3
"""Images at the beginning that are not timed."""


class Course:
    """A clip's images, each followed from the truth of the one before."""

    def __init__(self, estimator: Estimator, samples: Sequence[Sample], options: FollowOptions) -> None:
        self.estimator, self.samples, self.options = estimator, samples, options
        self.follower, self.renderer = Follower(estimator.networks), estimator.renderer()

    def together(self, before: Sample, sample: Sample, count: int) -> list[Followed]:
        """`count` objects at once."""
        return self._follow(*self._begun(before, sample, count))

    def one_by_one(self, before: Sample, sample: Sample, count: int) -> list[Followed]:
        """The same, each for itself."""
        return [self._follow([target], [T])[0] for target, T in zip(*self._begun(before, sample, count))]

    def _begun(self, before: Sample, sample: Sample, count: int) -> tuple[list[Target], list[np.ndarray]]:
        truths = list(islice(cycle(before.ground_truth), count))
        targets = self.estimator.targets(sample.frame, [truth.label for truth in truths], self.renderer)
        return targets, [truth.T_cam_obj for truth in truths]

    def _follow(self, targets: list[Target], T_cam_obj: list[np.ndarray]) -> list[Followed]:
        return self.follower.follow(targets, T_cam_obj, self.options, self.estimator.options.fit)

    def seconds(self, follow: Callable, count: int) -> tuple[np.ndarray, list[float]]:
        """How long each image takes, and the qualities of all that is followed."""
        taken, qualities = [], []
        for before, sample in tqdm(list(pairwise(self.samples)), unit="image", desc=f"{count}", leave=False):
            begin = time.perf_counter()
            found = follow(before, sample, count)
            taken.append(time.perf_counter() - begin)
            qualities += [each.quality for each in found]
        return np.array(taken[WARM_UPS:]), qualities


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, default=ROOT / "demo", help="BOP dataset (default: the demo)")
    parser.add_argument("--scene", type=int, default=0)
    parser.add_argument("--depth", choices=("auto", "off"), default="auto")
    parser.add_argument("--finer", choices=FINER, default=FollowOptions.finer, help="finer crops (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 5], help="how many at once")
    args = parser.parse_args()
    try:
        dataset = BopDataset(args.dataset)
        estimator = Estimator(dataset.catalogue, EstimatorOptions(depth=args.depth, device=args.device))
        samples = list(dataset.samples([i for i in dataset.images if i.scene_id == args.scene]))
        course = Course(estimator, samples, FollowOptions(finer=args.finer))
    except FlowposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = []
    for count in args.objects:
        taken, qualities = course.seconds(course.together, count)
        alone, _ = course.seconds(course.one_by_one, count)
        median = np.median(taken)
        rows.append((count, f"{1000 * median:.1f}", f"{1000 * np.percentile(taken, 95):.1f}", f"{1 / median:.1f}",
                     f"{np.median(alone) / median:.2f}", f"{np.median(qualities):.2f}"))
    print(format_table(("objects", "ms median", "ms p95", "Hz", "times as fast as one by one", "quality"), rows))
    print(f"on {estimator.networks.device}, {torch.get_num_threads()} threads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
