"""Seconds to the first pose of one object, stage by stage, and how many network passes they are worth.

    python benchmark/first_pose.py
    python benchmark/first_pose.py path/to/bop/dataset --depth off --rounds 20

The objects are loaded and their templates made, as in a node that is active. The reference, measured in the same
run, is one pass of the flow network over all hypotheses, encoding included: what remains of the ratio when a machine
is slower is the method's own.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flowpose_ros.errors import FlowposeError  # noqa: E402
from flowpose_ros.estimation.estimator import Estimator  # noqa: E402
from flowpose_ros.estimation.estimator_options import COARSE, EstimatorOptions  # noqa: E402
from flowpose_ros.estimation.look import Target  # noqa: E402
from flowpose_ros.estimation.networks import load_networks  # noqa: E402
from flowpose_ros.estimation.refine_genflow import last_update  # noqa: E402
from flowpose_ros.estimation.views import FrameTensors, Shape  # noqa: E402
from flowpose_ros.evaluation.bop_dataset import BopDataset  # noqa: E402
from flowpose_ros.evaluation.table import format_table  # noqa: E402
from flowpose_ros.rendering.renderers import renderer_for  # noqa: E402


def one_pass(dataset: BopDataset, options: EstimatorOptions) -> float:
    """Least seconds of a network pass over as many poses as there are hypotheses, encoding included."""
    sample, networks = next(iter(dataset.samples())), load_networks(options.weights, options.device)
    truth = sample.ground_truth[0]
    target = Target(FrameTensors.of(sample.frame, False, networks.device),
                    Shape.of(dataset.catalogue[truth.label], networks.device), networks, renderer_for(networks.device))
    look = target.look(torch.from_numpy(truth.T_cam_obj).float().to(networks.device).repeat(options.hypotheses, 1, 1))
    least = float("inf")
    for _ in range(10):
        begin = time.perf_counter()
        with torch.no_grad():
            networks.flow.encode(look.picture), networks.flow.encode(look.views.rendering.rgb)
            last_update(target, look).T_crop_obj.cpu()  # which waits for a GPU
        least = min(least, time.perf_counter() - begin)
    return least


def timings(dataset: BopDataset, options: EstimatorOptions, rounds: int) -> list[dict[str, float]]:
    """Seconds of each stage, for `rounds` single detections of the dataset in turn."""
    estimator = Estimator(dataset.catalogue, options)
    estimator.warm_up()
    jobs = [(sample.frame, detection) for sample in itertools.islice(dataset.samples(), rounds)
            for detection in sample.detections]
    found = []
    for frame, detection in itertools.islice(itertools.cycle(jobs), rounds + 1):
        begin = time.perf_counter()
        stages = estimator.estimate(frame, [detection]).timings
        found.append({**stages, "whole": time.perf_counter() - begin})
    return found[1:]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, default=ROOT / "demo", help="BOP dataset (default: the demo)")
    parser.add_argument("--coarse", choices=tuple(COARSE), default=EstimatorOptions.coarse)
    parser.add_argument("--depth", choices=("auto", "off"), default="auto")
    parser.add_argument("--device", default=EstimatorOptions.device, help="cpu, cuda, or auto")
    parser.add_argument("--hypotheses", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=12, help="single detections that are timed")
    args = parser.parse_args()
    options = EstimatorOptions(coarse=args.coarse, depth=args.depth, device=args.device, hypotheses=args.hypotheses)
    try:
        dataset = BopDataset(args.dataset)
        reference, found = one_pass(dataset, options), timings(dataset, options, args.rounds)
    except FlowposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stages = {name: np.array([f[name] for f in found if name in f]) for name in found[0]}
    print(format_table(("stage", "median s", "least s", "most s", "network passes"),
                       [(name, *(float(f(x)) for f in (np.median, np.min, np.max)), float(np.median(x)) / reference)
                        for name, x in stages.items()]))
    print(f"one network pass over {args.hypotheses} poses: {reference:.3f} s; {torch.get_num_threads()} threads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
