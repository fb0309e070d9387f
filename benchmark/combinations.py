"""Coarse stages and refinements combined, and what auto makes of them: scores and seconds per object, measured in one
run, and how many times the fastest each takes.

    python benchmark/combinations.py path/to/bop/dataset
    python benchmark/combinations.py path/to/bop/dataset --combinations auto+genflow --seeds 5
    python benchmark/combinations.py --synthetic 40 --depth off

With several seeds the scores are their mean, and the lowest and highest of the first score are told: where one object
in forty is 0.025, they tell what chance does. A dataset's annotated boxes are its detections. Synthetic scenes are of
objects that nothing is trained on; their score is the average recall by MSSD.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tqdm import tqdm  # noqa: E402

from flowpose_ros.errors import FlowposeError  # noqa: E402
from flowpose_ros.estimation.estimator import Estimator  # noqa: E402
from flowpose_ros.estimation.estimator_options import COARSE, REFINERS, EstimatorOptions  # noqa: E402
from flowpose_ros.evaluation.bop_dataset import BopDataset, detections_of  # noqa: E402
from flowpose_ros.evaluation.results import ResultRow  # noqa: E402
from flowpose_ros.evaluation.scores import evaluate, mean_recall  # noqa: E402
from flowpose_ros.evaluation.table import format_table  # noqa: E402
from flowpose_ros.evaluation.targets import targets_from_ground_truth  # noqa: E402
from flowpose_ros.objects.catalogue import Catalogue  # noqa: E402
from flowpose_ros.records import Detection  # noqa: E402


COMBINATIONS = [f"{coarse}+{refiner}" for coarse in COARSE for refiner in REFINERS]
SINGLE = [name for name in COMBINATIONS if "auto" not in name]


@dataclass(frozen=True)
class Outcome:
    """Scores by name, and the median seconds of an object."""

    scores: dict[str, float]
    seconds: float

    @staticmethod
    def of_seeds(each: list[Outcome]) -> Outcome:
        """The mean of several, with the lowest and highest of the first score."""
        first = next(iter(each[0].scores))
        values = [outcome.scores[first] for outcome in each]
        scores = {name: float(np.mean([outcome.scores[name] for outcome in each])) for name in each[0].scores}
        return Outcome(scores | {"lowest": min(values), "highest": max(values)},
                       float(np.median([outcome.seconds for outcome in each])))


def on_dataset(dataset: BopDataset, options: EstimatorOptions, title: str) -> Outcome:
    """Scores of the annotated images of a dataset."""
    estimator = Estimator(dataset.catalogue, options)
    estimator.warm_up()
    rows, seconds = [], []
    for image_id in tqdm(dataset.images, desc=title, unit="image", disable=None):
        frame, detections = dataset.frame(image_id), detections_of(dataset.ground_truth(image_id))
        for detection in detections:
            begin = time.perf_counter()
            found = estimator.estimate(frame, [detection]).estimates
            seconds.append(time.perf_counter() - begin)
            rows += [ResultRow(image_id, dataset.catalogue[e.label].obj_id, e.score, e.T_cam_obj, seconds[-1])
                     for e in found]
    total = evaluate(dataset, rows, targets_from_ground_truth(dataset)).total
    scores = {"AR": total.ar, "MSSD": total.ar_mssd, "MSPD": total.ar_mspd, "VSD": total.ar_vsd}
    return Outcome(scores, float(np.median(seconds)))


def on_synthetic(cases: list, options: EstimatorOptions, title: str) -> Outcome:
    """Average recall by MSSD on synthetic scenes of held-out objects, each box jittered as a detector's."""
    from training.calibrate import box_of
    from training.validation.cases import farthest

    estimator = Estimator(Catalogue([case.model for case in cases]), options)
    estimator.warm_up()
    errors, seconds = [], []
    for i, case in enumerate(tqdm(cases, desc=title, unit="scene", disable=None)):
        if options.depth == "on" and case.frame.depth is None:
            continue
        detection = Detection(case.model.label, box_of(case, np.random.default_rng(i)))
        begin = time.perf_counter()
        found = estimator.estimate(case.frame, [detection]).estimates
        seconds.append(time.perf_counter() - begin)
        errors.append(min([farthest(case.model, e.T_cam_obj, case.T_cam_obj) for e in found], default=np.inf))
    errors = np.array(errors)
    return Outcome({"AR MSSD": float(mean_recall(errors)), "< 0.1 d": float(np.mean(errors < 0.1))},
                   float(np.median(seconds)))


def scenes_of(dataset: Path, synthetic: int | None) -> BopDataset | list:
    """The dataset, or so many synthetic scenes in its place."""
    if not synthetic:
        return BopDataset(dataset)
    from training.validation.cases import synthetic_cases

    return list(synthetic_cases("held_out", synthetic, seed=9001))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, default=ROOT / "demo", help="BOP dataset (default: the demo)")
    parser.add_argument("--synthetic", metavar="N", type=int, help="N synthetic scenes in place of a dataset")
    parser.add_argument("--depth", nargs="+", choices=("off", "on"), default=["off", "on"])
    parser.add_argument("--combinations", nargs="+", choices=COMBINATIONS, default=SINGLE + ["auto+genflow", "auto+auto"],
                        metavar="COARSE+REFINER", help=f"of {', '.join(COMBINATIONS)}")
    parser.add_argument("--seeds", metavar="N", type=int, default=1, help="runs with so many seeds (default: %(default)s)")
    parser.add_argument("--weights", default="", help="folder of weights (default: the shipped ones)")
    args = parser.parse_args()
    try:
        scenes = scenes_of(args.dataset, args.synthetic)
        for depth in args.depth:
            found = {}
            for title in args.combinations:
                coarse, refiner = title.split("+")
                each = []
                for seed in range(args.seeds):
                    options = EstimatorOptions(coarse=coarse, refiner=refiner, depth=depth, seed=seed, weights=args.weights)
                    each.append((on_synthetic if args.synthetic else on_dataset)(scenes, options, title))
                found[title] = outcome = each[0] if len(each) == 1 else Outcome.of_seeds(each)
                print(f"{title}: {outcome}", file=sys.stderr, flush=True)  # the table comes at the end
            fastest = min(outcome.seconds for outcome in found.values())
            names = list(next(iter(found.values())).scores)
            print(f"{'RGB-D' if depth == 'on' else 'RGB'}:")
            print(format_table(("coarse + refiner", *names, "s per object", "times the fastest"),
                               [(title, *outcome.scores.values(), outcome.seconds, outcome.seconds / fastest)
                                for title, outcome in found.items()]))
    except FlowposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
