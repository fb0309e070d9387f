"""What the parts of RefPose's coarse stage and the updates of both refiners are worth: one choice changed at a time.

    python benchmark/ablation.py path/to/bop/dataset
    python benchmark/ablation.py --synthetic 40 --parts coarse

Coarse stage: share of objects with a pose within 30 degrees and 0.3 d of the truth, by the voted pose and among the five
that estimation goes on with, and how many times as long as the default it takes. Refiners: from the papers' noise, share
within 0.1 d (ADD-S) and median, after so many renders. Without depth unless --depth on. What only training can change
is compared by training.ablate.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tqdm import tqdm  # noqa: E402

from flowpose_ros.cache import cache_folder  # noqa: E402
from flowpose_ros.errors import FlowposeError  # noqa: E402
from flowpose_ros.estimation.coarse_flow_vote import FlowVoteOptions, coarse_flow_vote  # noqa: E402
from flowpose_ros.estimation.depth import DepthOptions  # noqa: E402
from flowpose_ros.estimation.estimator_options import EstimatorOptions  # noqa: E402
from flowpose_ros.estimation.select import SAME  # noqa: E402
from flowpose_ros.estimation.judge import judge  # noqa: E402
from flowpose_ros.estimation.look import Target  # noqa: E402
from flowpose_ros.estimation.networks import Networks, load_networks  # noqa: E402
from flowpose_ros.estimation.refine import LoopOptions  # noqa: E402
from flowpose_ros.estimation.refine_genflow import refine_genflow  # noqa: E402
from flowpose_ros.estimation.refine_refpose import RefPoseOptions, refine_refpose  # noqa: E402
from flowpose_ros.estimation.select import distinct_best  # noqa: E402
from flowpose_ros.estimation.template_features import load_template_features  # noqa: E402
from flowpose_ros.estimation.views import FrameTensors, Shape  # noqa: E402
from flowpose_ros.evaluation.bop_dataset import BopDataset  # noqa: E402
from flowpose_ros.evaluation.metrics import pose_difference  # noqa: E402
from flowpose_ros.evaluation.table import format_table  # noqa: E402
from flowpose_ros.records import Detection  # noqa: E402
from flowpose_ros.rendering.raycast import RaycastRenderer  # noqa: E402
from training.calibrate import box_of  # noqa: E402
from training.validate import validate  # noqa: E402
from training.validation.cases import Case, dataset_cases, synthetic_cases  # noqa: E402
from training.validation.report import table_of  # noqa: E402
from training.validation.trials import NOMINAL, starts  # noqa: E402

DEGREES, SHARE = 30.0, 0.3


@dataclass(frozen=True)
class Variant:
    """One choice of the coarse stage that differs from the default."""

    name: str
    templates: int = EstimatorOptions.templates
    vote: FlowVoteOptions = FlowVoteOptions()


DEFAULT = Variant("default")
VARIANTS = (DEFAULT, *(Variant(f"{n} templates", templates=n) for n in (64, 256)),
            *(Variant(f"{k} voters", vote=FlowVoteOptions(voters=k)) for k in (1, 2, 8)),
            Variant("mean of the votes", vote=FlowVoteOptions(combine="mean")),
            *(Variant(f"{n} templates flowed", vote=FlowVoteOptions(flowed=n)) for n in (4, 24)))


REFINERS = {"genflow": (refine_genflow, LoopOptions), "refpose": (refine_refpose, RefPoseOptions)}
RENDERS = (1, 3, 5)


class CoarseTrial:
    """Tries the coarse stage on cases."""

    def __init__(self, networks: Networks, depth: bool) -> None:
        self.networks, self.depth, self.renderer = networks, depth, RaycastRenderer()

    @torch.no_grad()
    def near(self, case: Case, variant: Variant, seed: int) -> tuple[bool, bool, float]:
        """Whether the first pose is near, whether any of the best five is, and the seconds it took."""
        model = case.model
        templates = load_template_features(model.mesh, self.renderer, self.networks, variant.templates, cache_folder())
        box = box_of(case, np.random.default_rng(seed))
        begin = time.perf_counter()
        tensors = FrameTensors.of(case.frame, self.depth, self.networks.device)
        target = Target(tensors, Shape.of(model, self.networks.device), self.networks, self.renderer)
        found = coarse_flow_vote(target, Detection(model.label, box), templates, variant.vote, DepthOptions(),
                                 torch.Generator().manual_seed(0))
        poses = found.T_cam_obj.double().cpu().numpy()
        best = distinct_best(poses, judge(target, target.look(found.T_cam_obj), DepthOptions()), model.symmetries,
                             EstimatorOptions.hypotheses, SAME)
        seconds = time.perf_counter() - begin
        return self._is_near(poses[0], case), any(self._is_near(poses[i], case) for i in best.tolist()), seconds

    @staticmethod
    def _is_near(T: np.ndarray, case: Case) -> bool:
        off = pose_difference(T, case.T_cam_obj, case.model.symmetries)
        return bool(np.degrees(off.rotation) < DEGREES and off.translation < SHARE * case.model.mesh.diameter)


def coarse_table(cases: list[Case], networks: Networks, depth: bool) -> str:
    """The variants of the coarse stage, measured case by case, so that a busy machine slows all alike."""
    trial, found = CoarseTrial(networks, depth), {variant: [] for variant in VARIANTS}
    for k, case in enumerate(tqdm(cases, desc="coarse", unit="object", disable=None)):
        for variant in VARIANTS:
            found[variant].append(trial.near(case, variant, k))
    base = np.median([seconds for *_, seconds in found[DEFAULT]])
    return format_table(("coarse stage", "first", "any of five", "times the default's time"),
                        [(variant.name, np.mean([f[0] for f in rows]), np.mean([f[1] for f in rows]),
                          np.median([f[2] for f in rows]) / base) for variant, rows in found.items()])


def refiner_table(cases: list[Case], networks: Networks, depth: bool) -> str:
    """Both refiners with one render and more."""
    refiners = {f"{name}, {n}": lambda target, first, *rest, refine=refine, options=options(iterations=n): refine(
        target, first, options, *rest) for name, (refine, options) in REFINERS.items() for n in RENDERS}
    return table_of(validate(cases, networks, (depth,), 9001, refiners, {NOMINAL: starts()[NOMINAL]}))


TABLES = {"coarse": coarse_table, "refiners": refiner_table}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, default=ROOT / "demo", help="BOP dataset (default: the demo)")
    parser.add_argument("--synthetic", metavar="N", type=int, help="N scenes of held-out objects in place of a dataset")
    parser.add_argument("--depth", choices=("off", "on"), default="off")
    parser.add_argument("--parts", nargs="+", choices=tuple(TABLES), default=list(TABLES))
    parser.add_argument("--weights", default="", help="folder of weights (default: the shipped ones)")
    args = parser.parse_args()
    try:
        networks, depth = load_networks(args.weights, "auto"), args.depth == "on"
        cases = list(synthetic_cases("held_out", args.synthetic, seed=9001) if args.synthetic
                     else dataset_cases(BopDataset(args.dataset)))
        for part in args.parts:
            print(TABLES[part]([case for case in cases if not depth or case.frame.depth is not None], networks, depth),
                  flush=True)
    except FlowposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
