"""Fit the pose score on what estimation ends with: python -m training.calibrate --weights FOLDER --folder runs/score

For synthetic scenes of training objects every pose that estimation looks at is kept with its witnesses and its
distance from the truth; here all hypotheses are updated, not the best alone. How the witnesses weigh against each
other is chosen, not fitted: a ranking learnt from few synthetic scenes nearly ignored depth and chose worse on real
images. What is fitted is the scale and offset that make the winner's score the probability that it is right.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from flowpose_ros.estimation.coarse_gmm import GmmOptions, coarse_gmm
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.estimator import EstimatorOptions
from flowpose_ros.estimation.judge import witnesses
from flowpose_ros.estimation.look import Target, join
from flowpose_ros.estimation.match import MatchOptions, match_poses
from flowpose_ros.estimation.networks import CROP_SIZE, Networks, load_networks
from flowpose_ros.estimation.refine_genflow import GenFlowOptions, refine_genflow
from flowpose_ros.estimation.template_features import TemplateFeatures, template_features
from flowpose_ros.estimation.turns import shape_turns
from flowpose_ros.estimation.views import FrameTensors, Shape
from flowpose_ros.evaluation.metrics import mssd
from flowpose_ros.evaluation.table import format_table
from flowpose_ros.geometry.rotations import super_fibonacci
from flowpose_ros.networks.pose_score import PoseScore
from flowpose_ros.networks.weights import save_weights
from flowpose_ros.records import Detection
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.templates import render_views
from training.perturb import nominal_pose
from training.validate import IMAGE_SIZE, Case, ImageMaker, synthetic_case

RIGHT = 0.1
"""A pose is right when no surface point is farther than this share of the diameter from its place (MSSD)."""
RANKING = {False: (0.25, 1.0, 0.9, 1.3), True: (0.3, 1.0, 0.4, 3.0, -0.7, -1.0)}
"""How witnesses weigh against each other, without and with depth (see `witnesses`)."""
BOX_JITTER = 0.05
"""Deviation of a box's sides from the object's, shares of its size."""
BINS = 10
TURNED = 2
"""Turns of the pose nearest to the truth that are looked at."""


@dataclass(frozen=True)
class Judgement:
    """All poses looked at for one detection: witnesses [N,K] and errors [N], MSSD as a share of the diameter."""

    witnesses: torch.Tensor
    errors: torch.Tensor


def box_of(case: Case, rng: np.random.Generator) -> np.ndarray:
    """The box [4] of a case's object, jittered as a detector's."""
    points = case.model.mesh.surface_points(500) @ case.T_cam_obj[:3, :3].T + case.T_cam_obj[:3, 3]
    pixels = points @ case.frame.K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    low, high = pixels.min(0), pixels.max(0)
    return np.concatenate([low, high]) + rng.normal(0, BOX_JITTER, 4) * np.tile(high - low, 2)


def judgement_of(case: Case, depth: bool, first: TemplateFeatures, shape: Shape, networks: Networks,
                 renderer: RaycastRenderer, hypotheses: int, rng: np.random.Generator) -> Judgement:
    """Estimate a case's object, with one start near the truth among the others, and keep all poses looked at.

    The turns that are looked at are those of the pose found from that start, so that a right one has its rivals.
    """
    target = Target(FrameTensors.of(case.frame, depth, networks.device), shape, networks, renderer)
    found = coarse_gmm(target, Detection(case.model.label, box_of(case, rng)), first, hypotheses - 1, GmmOptions(),
                       DepthOptions(), rng)
    near = nominal_pose(case.T_cam_obj, case.model.mesh.center, case.model.mesh.diameter, rng, 0.5)
    start = torch.cat([found.T_cam_obj, torch.from_numpy(near)[None].to(found.T_cam_obj)])
    generator = torch.Generator().manual_seed(0)
    looks = match_poses(target, target.look(start), MatchOptions(), DepthOptions(), generator)
    last, turns = looks[-1], shape_turns(case.model, renderer)
    if len(turns):
        picked = torch.from_numpy(rng.permutation(len(turns))[:TURNED])
        turned = target.look(last.T_cam_obj[-1] @ turns[picked].to(networks.device))
        looks += match_poses(target, turned, MatchOptions(iterations=1), DepthOptions(), generator)
        last = join([last, looks[-1]])
    looks += refine_genflow(target, last, GenFlowOptions(), DepthOptions(), generator)
    points, symmetries = case.model.mesh.surface_points(500), case.model.symmetries.transforms(0.1)
    poses = torch.cat([look.T_cam_obj for look in looks]).double().cpu().numpy()
    errors = [mssd(T, case.T_cam_obj, points, symmetries) / shape.diameter for T in poses]
    return Judgement(torch.cat([witnesses(target, look, DepthOptions()) for look in looks]).cpu(),
                     torch.tensor(errors).float())


def fit(judgements: list[Judgement], line: torch.nn.Linear, ranking: tuple[float, ...], steps: int = 300) -> None:
    """Make a line that ranks as given, with the scale and offset that fit the winners of the judgements."""
    with torch.no_grad():
        line.weight.copy_(torch.tensor([ranking]))
        line.bias.zero_()
        logits, right = winners(judgements, line)
    scale, offset = torch.ones(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    platt = torch.optim.LBFGS([scale, offset], max_iter=steps, line_search_fn="strong_wolfe")

    def calibration() -> torch.Tensor:
        platt.zero_grad()
        loss = F.binary_cross_entropy_with_logits(scale * logits + offset, right) + 1e-3 * scale.square().sum()
        loss.backward()
        return loss

    platt.step(calibration)
    with torch.no_grad():
        line.bias.mul_(scale).add_(offset)
        line.weight.mul_(scale)


@torch.no_grad()
def winners(judgements: list[Judgement], line: torch.nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [M] of each judgement's best pose, and whether it is right [M] in {0, 1}."""
    logits = [line(j.witnesses)[:, 0] for j in judgements]
    best = [int(x.argmax()) for x in logits]
    return (torch.stack([x[i] for x, i in zip(logits, best)]),
            torch.stack([(j.errors[i] < RIGHT).float() for j, i in zip(judgements, best)]))


def calibration_error(probability: torch.Tensor, right: torch.Tensor, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over equal bins of confidence."""
    index = (probability * bins).long().clamp_max(bins - 1)
    gaps = [(index == b).float().mean() * (probability[index == b].mean() - right[index == b].mean()).abs()
            for b in range(bins) if (index == b).any()]
    return float(sum(gaps))


def summary(judgements: list[Judgement], line: torch.nn.Linear) -> tuple[float, float, float, float]:
    """Share of winners that are right, of detections with any right pose, ECE, and false acceptances at 0.5."""
    logits, right = winners(judgements, line)
    probability = torch.sigmoid(logits)
    possible = np.mean([float((j.errors < RIGHT).any()) for j in judgements])
    accepted = probability > 0.5
    false = float((accepted & (right == 0)).float().mean())
    return float(right.mean()), float(possible), calibration_error(probability, right), false


class Gatherer:
    """Estimates synthetic scenes of one family of objects; one in each process."""

    def __init__(self, weights: str, family: str, seed: int, hypotheses: int) -> None:
        self.networks = load_networks(weights, "cpu")
        self.maker, self.hypotheses = ImageMaker(seed, IMAGE_SIZE, family), hypotheses

    def judgements(self, index: int) -> dict[bool, Judgement]:
        """Scene `index` judged without depth and, if it has any, with it."""
        case, rng = synthetic_case(self.maker, index), np.random.default_rng([self.maker.seed, index])
        views = render_views(case.model.mesh, self.maker.renderer, super_fibonacci(EstimatorOptions().templates), CROP_SIZE)
        shape, first = Shape.of(case.model, self.networks.device), template_features(views, self.networks)
        return {depth: judgement_of(case, depth, first, shape, self.networks, self.maker.renderer, self.hypotheses, rng)
                for depth in ((False, True) if case.frame.depth is not None else (False,))}


_gatherer: Gatherer


def _begin(*args) -> None:
    global _gatherer
    torch.set_num_threads(1)
    _gatherer = Gatherer(*args)


def _judgements(index: int) -> dict[bool, tuple[np.ndarray, np.ndarray]]:
    # As arrays: tensors would travel through a file descriptor each.
    return {depth: (j.witnesses.numpy(), j.errors.numpy()) for depth, j in _gatherer.judgements(index).items()}


def gather(weights: str, family: str, count: int, seed: int, hypotheses: int, processes: int
           ) -> dict[bool, list[Judgement]]:
    """Judgements without and with depth of `count` synthetic scenes."""
    with get_context("spawn").Pool(processes, _begin, (weights, family, seed, hypotheses)) as pool:
        found = list(tqdm(pool.imap(_judgements, range(count)), total=count, unit="scene", desc=family, disable=None))
    return {depth: [Judgement(*map(torch.from_numpy, f[depth])) for f in found if depth in f]
            for depth in (False, True)}


def main() -> None:
    """Command line: fit on training objects, report on them and on held-out ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="", help="folder of weights (default: the shipped ones)")
    parser.add_argument("--folder", type=Path, default=Path("runs/score"), help="where pose_score.safetensors goes")
    parser.add_argument("--count", type=int, default=120, help="scenes of training objects")
    parser.add_argument("--held-out", type=int, default=40, help="scenes of held-out objects to report on")
    parser.add_argument("--hypotheses", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7001)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    score, rows = PoseScore(), []
    sets = {family: gather(args.weights, family, count, args.seed, args.hypotheses, args.processes)
            for family, count in (("train", args.count), ("held_out", args.held_out)) if count}
    for depth, line in ((False, score.rgb), (True, score.rgbd)):
        fit(sets["train"][depth], line, RANKING[depth])
        rows += [(family, "RGB-D" if depth else "RGB", len(found[depth]), *summary(found[depth], line))
                 for family, found in sets.items() if found[depth]]
        print("RGB-D" if depth else "RGB", [round(w, 3) for w in (*line.weight[0].tolist(), *line.bias.tolist())])
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.save(sets, args.folder / "judgements.pt")
    save_weights(args.folder / "pose_score.safetensors", score.state_dict(), kind="pose_score", config=score.config)
    print(format_table(("objects", "input", "n", "right", "any right", "ECE", "false > 0.5"), rows))


if __name__ == "__main__":
    main()
