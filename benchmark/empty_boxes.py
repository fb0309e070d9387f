"""How well the published score tells boxes that show an object from boxes that show nothing of it.

    python benchmark/empty_boxes.py                                   # the demo clip, with depth and without
    python benchmark/empty_boxes.py path/to/bop/dataset --images 6

Empty are, for each object of an image, the boxes of the other objects, and one of its own size where no object is. The
ratio printed is the share of pairs of a true and an empty box in which the true one scores higher.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tqdm import tqdm  # noqa: E402

from flowpose_ros.errors import FlowposeError  # noqa: E402
from flowpose_ros.estimation.estimator import Estimator  # noqa: E402
from flowpose_ros.estimation.estimator_options import EstimatorOptions  # noqa: E402
from flowpose_ros.evaluation.bop_dataset import BopDataset, Sample  # noqa: E402
from flowpose_ros.evaluation.table import format_table  # noqa: E402
from flowpose_ros.records import Detection  # noqa: E402
from flowpose_ros.tracking.track import overlap  # noqa: E402

TOUCHING = 0.02
"""Overlap up to which a box shows nothing of another's object."""
TRIES = 200


def empty_boxes(sample: Sample, detection: Detection, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Boxes [4] of an image in which nothing of a detection's object is."""
    same = [d.box for d in sample.detections if d.label == detection.label]
    yield from (d.box for d in sample.detections if all(overlap(d.box, box) <= TOUCHING for box in same))
    height, width = sample.frame.image.shape[:2]
    size = detection.box[2:] - detection.box[:2]
    for _ in range(TRIES):
        corner = rng.uniform(0, 1, 2) * np.maximum(np.array([width, height]) - size, 0)
        box = np.concatenate([corner, corner + size])
        if all(overlap(box, d.box) <= TOUCHING for d in sample.detections):
            yield box
            return


def scores(estimator: Estimator, samples: Sequence[Sample], title: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores of true boxes, and of empty ones; a box that gives no pose scores 0."""
    rng, true, empty = np.random.default_rng(0), [], []
    for sample in tqdm(samples, desc=title, unit="image", disable=None):
        def score(label: str, box: np.ndarray, sample: Sample = sample) -> float:
            found = estimator.estimate(sample.frame, [Detection(label, box)]).estimates
            return max((e.score for e in found), default=0.0)

        for detection in sample.detections:
            true.append(score(detection.label, detection.box))
            empty += [score(detection.label, box) for box in empty_boxes(sample, detection, rng)]
    return np.array(true), np.array(empty)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, default=ROOT / "demo", help="BOP dataset (default: the demo)")
    parser.add_argument("--images", type=int, default=3, help="images, the first of the dataset")
    parser.add_argument("--depth", choices=("on", "off", "both"), default="both")
    args = parser.parse_args()
    rows = []
    try:
        dataset = BopDataset(args.dataset)
        samples = list(islice(dataset.samples(), args.images))
        for depth in ("on", "off") if args.depth == "both" else (args.depth,):
            estimator = Estimator(dataset.catalogue, EstimatorOptions(depth=depth))
            estimator.warm_up()
            true, empty = scores(estimator, samples, f"depth {depth}")
            rows.append((f"depth {depth}", len(true), float(true.min()), float(np.median(true)), len(empty),
                         float(np.median(empty)), float(empty.max()), float((true[:, None] > empty).mean())))
    except FlowposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_table(("input", "true", "least", "median", "empty", "median", "most", "true above empty"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
