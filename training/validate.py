"""How far refinement gets from perturbed truths: python -m training.validate --weights FOLDER

On synthetic scenes of held-out objects, or with --dataset on the annotated images of a BOP dataset; with one refiner or
both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from tqdm import tqdm

from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.judge import judge
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.match import MatchOptions, match_poses
from flowpose_ros.estimation.networks import Networks, load_networks
from flowpose_ros.estimation.refine_genflow import GenFlowOptions, refine_genflow
from flowpose_ros.estimation.refine_refpose import RefPoseOptions, refine_refpose
from flowpose_ros.estimation.select import select
from flowpose_ros.estimation.views import FrameTensors, Shape
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.evaluation.metrics import add_s
from flowpose_ros.evaluation.table import format_table
from flowpose_ros.geometry.camera import CropCamera
from flowpose_ros.geometry.crops import crop_for_poses
from flowpose_ros.objects.catalogue import ObjectModel
from flowpose_ros.records import Frame
from flowpose_ros.rendering.raycast import RaycastRenderer
from training.pairs import PairMaker
from training.perturb import moved_pose, nominal_pose, turn_by

ANGLES = (5, 10, 20, 30, 45, 60)
RECALLS = (0.02, 0.05, 0.1)
IMAGE_SIZE = 256
ROOM = 2.5
"""Half side of a synthetic image over half the longer side of the object's projection."""

Start = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]
Refiner = Callable[[Target, Look, DepthOptions, torch.Generator], list[Look]]
REFINERS: dict[str, Refiner] = {
    "genflow": lambda target, first, *rest: refine_genflow(target, first, GenFlowOptions(), *rest),
    "refpose": lambda target, first, *rest: refine_refpose(target, first, RefPoseOptions(), *rest)}


@dataclass(frozen=True)
class Case:
    """An object that is seen in a frame: its true pose T_cam_obj [4,4]."""

    frame: Frame
    model: ObjectModel
    T_cam_obj: np.ndarray


@dataclass(frozen=True)
class Row:
    """What came of N starts of one kind. Errors are ADD-S, shares of the diameter.

    recall_before: within 0.1 before refinement; recalls: within RECALLS after it; median: after it;
    better: share of starts that ended nearer to the truth; worse: share that ended farther by over 0.01.
    """

    refiner: str
    start: str
    depth: bool
    count: int
    recall_before: float
    recalls: tuple[float, ...]
    median: float
    better: float
    worse: float


class ImageMaker(PairMaker):
    """Pairs whose query is a small camera image around the truth, with room for any start."""

    def _crop(self, points: torch.Tensor, T_gt: torch.Tensor, T_init: torch.Tensor) -> CropCamera:
        return crop_for_poses(points, T_gt[None], self.size, ROOM)


def synthetic_cases(family: str, count: int, seed: int) -> Iterator[Case]:
    """Synthetic scenes of objects of a family: "train", or "held_out" for those that are never trained on."""
    maker = ImageMaker(seed, IMAGE_SIZE, family)
    yield from (synthetic_case(maker, index) for index in range(count))


def synthetic_case(maker: ImageMaker, index: int) -> Case:
    """Synthetic scene `index` of a maker, always the same."""
    pair, thing = maker.sample_with_object(index)
    image = (pair.query_rgb[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    depth = pair.query_depth[0].numpy()
    frame = Frame(image, pair.K[0].double().numpy(), depth if depth.any() else None)
    model = ObjectModel(f"object_{index}", None, thing.mesh, thing.symmetries, Path())
    return Case(frame, model, pair.T_gt[0].double().numpy())


def dataset_cases(dataset: BopDataset) -> Iterator[Case]:
    """The annotated instances of a dataset."""
    for sample in dataset.samples():
        for truth in sample.ground_truth:
            yield Case(sample.frame, dataset.catalogue[truth.label], truth.T_cam_obj)


def starts() -> dict[str, Start]:
    """The kinds of starts: the papers' noise, and fixed angles about any axis with its translation."""
    def turned(degrees: int) -> Start:
        return lambda T, center, diameter, rng: moved_pose(
            T, center, diameter, turn_by(np.radians(degrees), rng), 1.0, rng)

    return {"nominal": nominal_pose, **{f"{degrees} deg": turned(degrees) for degrees in ANGLES}}


def refine_errors(case: Case, refiner: Refiner, start: Start, depth: bool, networks: Networks, renderer: RaycastRenderer,
                  rng: np.random.Generator) -> tuple[float, float]:
    """ADD-S before and after refinement, shares of the diameter.

    As in estimation the answer is the pose that is judged best of all looked at, the start included.
    """
    mesh = case.model.mesh
    T_init = start(case.T_cam_obj, mesh.center, mesh.diameter, rng)
    tensors = FrameTensors.of(case.frame, depth, networks.device)
    target = Target(tensors, Shape.of(case.model, networks.device), networks, renderer)
    generator, first = torch.Generator().manual_seed(0), target.look(torch.from_numpy(T_init)[None].float())
    looks = match_poses(target, first, MatchOptions(), DepthOptions(), generator)
    looks += refiner(target, looks[-1], DepthOptions(), generator)
    stage, _ = select([judge(target, look, DepthOptions()) for look in looks])
    moved = looks[stage].T_cam_obj
    points = mesh.surface_points(500)
    before, after = (add_s(T, case.T_cam_obj, points) / mesh.diameter for T in (T_init, moved[0].double().numpy()))
    return before, after


def validate(cases: list[Case], networks: Networks, depths: tuple[bool, ...], seed: int,
             refiners: dict[str, Refiner], chosen: dict[str, Start]) -> list[Row]:
    """One row per refiner and kind of start, without and with depth; cases without depth are left out of the latter."""
    renderer, rows = RaycastRenderer(), []
    jobs = [(refiner, depth, name) for refiner in refiners for depth in depths for name in chosen]
    bar = tqdm(total=len(cases) * len(jobs), unit="start", desc="refining", disable=None)
    for refiner, depth, name in jobs:
        rng = np.random.default_rng(seed)
        errors = []
        for case in cases:
            if not depth or case.frame.depth is not None:
                errors.append(refine_errors(case, refiners[refiner], chosen[name], depth, networks, renderer,
                                            rng))
            bar.update()
        if errors:
            rows.append(row_of(refiner, name, depth, np.array(errors)))
    bar.close()
    return rows


def row_of(refiner: str, name: str, depth: bool, errors: np.ndarray) -> Row:
    """Summary of errors [N,2] before and after."""
    before, after = errors.T
    return Row(refiner, name, depth, len(errors), float((before < 0.1).mean()),
               tuple(float((after < limit).mean()) for limit in RECALLS), float(np.median(after)),
               float((after < before).mean()), float((after > before + 0.01).mean()))


def table_of(rows: list[Row]) -> str:
    """The rows as a printed table."""
    header = ("refiner", "start", "input", "n", "<0.1 d before", *(f"<{limit} d" for limit in RECALLS), "median/d",
              "better", "worse")
    return format_table(header, [(r.refiner, r.start, "RGB-D" if r.depth else "RGB", r.count, r.recall_before,
                                  *r.recalls, r.median, r.better, r.worse) for r in rows])


def draw_curves(rows: list[Row], path: Path) -> None:
    """Recall against the angle of the start, a panel for each refiner."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    refiners = list(dict.fromkeys(r.refiner for r in rows))
    figure, panels = plt.subplots(1, len(refiners), figsize=(6 * len(refiners), 4), squeeze=False)
    for refiner, axes in zip(refiners, panels[0]):
        for depth in (False, True):
            chosen = [r for r in rows if (r.refiner, r.depth) == (refiner, depth) and r.start.endswith("deg")]
            for k, limit in enumerate(RECALLS):
                axes.plot([int(r.start.split()[0]) for r in chosen], [r.recalls[k] for r in chosen],
                          "-" if depth else "--", color=f"C{k}", marker=".",
                          label=f"{'RGB-D' if depth else 'RGB'} < {limit} d" if chosen else None)
        axes.set(title=refiner, xlabel="start, degrees from the truth", ylabel="share that ends within", ylim=(0, 1.02))
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Command line: print the table; write rows and curves where --output says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="", help="folder of weights (default: the shipped ones)")
    parser.add_argument("--dataset", type=Path, help="BOP dataset in place of synthetic scenes")
    parser.add_argument("--count", type=int, default=200, help="synthetic scenes")
    parser.add_argument("--seed", type=int, default=9001)
    parser.add_argument("--refiner", choices=(*REFINERS, "both"), default="genflow")
    parser.add_argument("--depth", choices=("off", "on", "both"), default="both")
    parser.add_argument("--starts", nargs="+", choices=tuple(starts()), default=list(starts()), metavar="START",
                        help=f"kinds of starts: {', '.join(starts())} (default: all)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="folder for validation.json and validation.png")
    args = parser.parse_args()
    networks = load_networks(args.weights, args.device)
    source = (dataset_cases(BopDataset(args.dataset)) if args.dataset
              else synthetic_cases("held_out", args.count, args.seed))
    cases = list(tqdm(source, unit="case", desc="making scenes", disable=None))
    depths = {"off": (False,), "on": (True,), "both": (False, True)}[args.depth]
    refiners = {name: refiner for name, refiner in REFINERS.items() if args.refiner in (name, "both")}
    if "refpose" in refiners:
        networks.need_geometry()
    rows = validate(cases, networks, depths, args.seed, refiners,
                    {name: start for name, start in starts().items() if name in args.starts})
    print(table_of(rows))
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "validation.json").write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
        if any(row.start.endswith("deg") for row in rows):
            draw_curves(rows, args.output / "validation.png")


if __name__ == "__main__":
    main()
