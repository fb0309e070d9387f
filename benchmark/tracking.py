"""How well and how fast a clip is tracked, and what a frame of it costs beside estimating each anew.

    python benchmark/tracking.py                                    # the demo clip, RGB-D
    python benchmark/tracking.py path/to/bop/dataset --scene 0 --depth off
    python benchmark/tracking.py --hide 5 3                         # images 5, 6, 7 show nothing
    python benchmark/tracking.py photoreal --detect-every 5         # a clip of training.photoreal --views

The first image's detections begin the tracks, and later ones are absorbed where asked for; between them frames alone are
followed, in order, none left out. The reference, measured in the same run, is the estimation of the first image.
Recall is the share of images in which the pose is right by MSSD, the mean over thresholds of 0.05 to 0.5 diameters.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flowpose_ros.errors import FlowposeError  # noqa: E402
from flowpose_ros.estimation.estimator import Estimator  # noqa: E402
from flowpose_ros.estimation.estimator_options import EstimatorOptions  # noqa: E402
from flowpose_ros.evaluation.bop_dataset import BopDataset, Sample  # noqa: E402
from flowpose_ros.evaluation.metrics import mssd, pose_difference  # noqa: E402
from flowpose_ros.evaluation.scores import mean_recall  # noqa: E402
from flowpose_ros.evaluation.table import format_table  # noqa: E402
from flowpose_ros.records import Frame  # noqa: E402
from flowpose_ros.tracking.tracker import Tracker, TrackerOptions  # noqa: E402

POINTS, SYMMETRY_STEP_RAD = 500, 0.1
"""Vertices and turns of an axis of revolution that MSSD is taken over here."""


def hidden(frame: Frame, seed: int) -> Frame:
    """The frame behind something near that shows nothing of what was there."""
    noise = np.random.default_rng(seed).integers(60, 120, frame.image.shape, dtype=np.uint8)
    depth = None if frame.depth is None else np.full_like(frame.depth, 0.2)
    return replace(frame, image=noise, depth=depth)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, default=ROOT / "demo", help="BOP dataset (default: the demo)")
    parser.add_argument("--scene", type=int, default=0)
    parser.add_argument("--depth", choices=("auto", "off"), default="auto")
    parser.add_argument("--labels", nargs="*", help="follow these objects only")
    parser.add_argument("--rate", type=float, default=10.0, help="images per second of the clip")
    parser.add_argument("--detect-every", type=int, default=0, metavar="N",
                        help="every Nth image comes with detections (default: the first alone)")
    parser.add_argument("--hide", nargs=2, type=int, metavar=("FIRST", "COUNT"), help="images that show nothing")
    args = parser.parse_args()
    try:
        dataset = BopDataset(args.dataset)
        images = [i for i in dataset.images if i.scene_id == args.scene]
        run(dataset, list(dataset.samples(images)), args)
    except FlowposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(dataset: BopDataset, samples: list[Sample], args: argparse.Namespace) -> None:
    """Track the samples of one scene and print errors, times and the ratio to estimating."""
    estimator = Estimator(dataset.catalogue, EstimatorOptions(depth=args.depth))
    estimator.warm_up()
    tracker, errors, seconds, reference = Tracker(estimator, TrackerOptions()), defaultdict(list), [], 0.0
    names: dict[str, set[int]] = defaultdict(set)
    shown: Counter[str] = Counter()
    for k, sample in enumerate(tqdm(samples, unit="image", disable=None)):
        frame = replace(sample.frame, stamp_ns=round((k + 1) / args.rate * 1e9))
        if args.hide and args.hide[0] <= k < sum(args.hide):
            frame = hidden(frame, k)
        wanted = [d for d in sample.detections if not args.labels or d.label in args.labels]
        if k == 0:
            begin = time.perf_counter()
            for dropped in tracker.absorb(frame, wanted):
                print(f"no track: {dropped.detail}")
            reference = (time.perf_counter() - begin) / max(1, len(wanted))
            continue
        shown.update(truth.label for truth in sample.ground_truth if not args.labels or truth.label in args.labels)
        begin = time.perf_counter()
        result = tracker.follow(frame)
        seconds.append(time.perf_counter() - begin)
        for estimate in result.estimates:
            names[estimate.label].add(estimate.instance)
            errors[estimate.label].append((k, *error_of(dataset, sample, estimate)))
        if args.detect_every and k % args.detect_every == 0:
            tracker.absorb(frame, wanted)
    rows = []
    for label, count in sorted(shown.items()):
        _, turn, shift, distance = np.array(errors[label]).reshape(-1, 4).T
        recall = mean_recall(distance) * len(distance) / count if len(distance) else 0.0
        rows.append((label, len(turn), count, len(names[label]), recall, *(
            f(values) if len(values) else np.nan for values in (turn, shift) for f in (np.median, np.max))))
    print(format_table(("object", "poses", "images", "ids", "recall", "deg median", "deg most", "mm median", "mm most"), rows))
    print(f"recall of all: {np.average([row[4] for row in rows], weights=[row[2] for row in rows]):.3f}")
    median, most = np.median(seconds), np.percentile(seconds, 95)
    count = len(tracker.tracks)
    print(f"{count} objects: a frame takes {median:.3f} s (p95 {most:.3f} s), {1 / median:.1f} Hz; an object costs "
          f"{median / max(1, count) / reference:.3f} of its first estimate ({reference:.2f} s); "
          f"{torch.get_num_threads()} threads")
    if args.hide:
        again = [min((k for k, *_ in found if k >= sum(args.hide)), default=None) for found in errors.values()]
        print(f"after the hidden images, first poses at images {again} (they end before {sum(args.hide)})")


def error_of(dataset: BopDataset, sample: Sample, estimate) -> tuple[float, float, float]:
    """Degrees, millimetres, and MSSD in diameters between an estimate and the nearest true pose of its label, symmetries
    allowed."""
    model = dataset.catalogue[estimate.label]
    truths = [truth.T_cam_obj for truth in sample.ground_truth if truth.label == estimate.label]
    differences = [pose_difference(estimate.T_cam_obj, T, model.symmetries) for T in truths]
    nearest = min(differences, key=lambda difference: difference.translation)
    vertices, equal = model.mesh.vertices, model.symmetries.transforms(SYMMETRY_STEP_RAD)
    points = vertices[::max(1, len(vertices) // POINTS)]
    distance = min(mssd(estimate.T_cam_obj, T, points, equal) for T in truths)
    return float(np.degrees(nearest.rotation)), 1000 * nearest.translation, distance / model.mesh.diameter


if __name__ == "__main__":
    sys.exit(main())
