"""Fit the pose score to what estimation answers: python -m training.calibrate --weights FOLDER --folder runs/score

Synthetic scenes of training objects are estimated as on a robot, by a box as a detector's, and the answers kept with
their witnesses and their distance from the truth. How the witnesses weigh against each other is chosen, not fitted: a
ranking learnt from few synthetic scenes nearly ignored depth and chose worse on real images. What is fitted is the
scale and offset that make it a probability, how it, the verifier and the spread of the flow together make the
probability that an answer is right, and how much wider than the flow says the covariance of a right answer is. FOLDER
has a pose score already, by which estimation chooses: any that ranks alike, the shipped one to begin with. Answers are
kept scene by scene, so that a killed command goes on. Table and curves (calibration.png) tell how well it holds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from flowpose_ros.estimation.batches import join
from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.estimation.estimator_options import EstimatorOptions
from flowpose_ros.estimation.judge import verified, witnesses
from flowpose_ros.estimation.networks import Networks, load_networks
from flowpose_ros.estimation.support import flow_support
from flowpose_ros.evaluation.table import format_table
from flowpose_ros.networks.pose_score import PoseScore
from flowpose_ros.networks.weights import save_weights
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.records import Detection, PoseEstimate
from training.command import command
from training.crew import kept_scenes, settings_of, work_through
from training.flags import at_least_one
from training.pools import tell_data
from training.validation.cases import IMAGE_SIZE, Case, ImageMaker, farthest, synthetic_case
from training.validation.measures import area_under_roc

RIGHT = 0.1
"""A pose is right when no surface point is farther than this share of the diameter from its place (MSSD)."""
RANKING = {False: (0.25, 1.0, 0.9, 1.3), True: (0.3, 1.0, 0.4, 3.0, -0.7, -1.0)}
"""How witnesses weigh against each other, without and with depth (see `witnesses`)."""
GROUNDS = (1.0, 1.0, -1.0)
"""How an answer's rank, the verifier's logit, and the spread of the flow speak for it (see `PoseScore.grounds`)."""
BOX_JITTER = 0.05
"""Deviation of a box's sides from the object's, shares of its size."""
BINS = 10
INPUTS = {False: "RGB", True: "RGB-D"}


@dataclass(frozen=True)
class Answers:
    """N poses that estimation answered: witnesses [N,K]; verified [N], the verifier's logits; spread [N], how far off
    the flow holds them possible, and errors [N], MSSD, shares of the diameter; surprise [N], the squared error of the
    pose in units of its covariance (6 on average where that is true)."""

    witnesses: torch.Tensor
    verified: torch.Tensor
    spread: torch.Tensor
    errors: torch.Tensor
    surprise: torch.Tensor

    @property
    def right(self) -> torch.Tensor:
        """Which of them are right [N], in {0, 1}."""
        return (self.errors < RIGHT).float()


def box_of(case: Case, rng: np.random.Generator) -> np.ndarray:
    """The box [4] of a case's object, jittered as a detector's."""
    points = case.model.mesh.surface_points(500) @ case.T_cam_obj[:3, :3].T + case.T_cam_obj[:3, 3]
    pixels = points @ case.frame.K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    low, high = pixels.min(0), pixels.max(0)
    return np.concatenate([low, high]) + rng.normal(0, BOX_JITTER, 4) * np.tile(high - low, 2)


def fit_score(learnt: dict[bool, Answers]) -> PoseScore:
    """The score that fits answers without depth (False) and with it (True).

    Raises ValueError when there are none of a kind, or none that are right.
    """
    for depth, name in INPUTS.items():
        right = learnt[depth].right if depth in learnt else torch.zeros(0)
        if not right.any():
            raise ValueError(f"{name} answers: expected some that are right, got none among {len(right)}; "
                             "--count asks for more scenes")
    score = PoseScore()
    for depth, line, trust in ((False, score.rgb, score.trust_rgb), (True, score.rgbd, score.trust_rgbd)):
        answers = learnt[depth]
        fit(answers, line, RANKING[depth])
        with torch.no_grad():
            inputs = score.grounds(answers.witnesses, answers.verified, answers.spread)
        regress(trust, inputs, answers.right, GROUNDS)
        score.stretch[int(depth)] = stretch_of(answers)
    return score


def fit(answers: Answers, line: torch.nn.Linear, ranking: tuple[float, ...]) -> None:
    """Make a line that ranks as given, with the scale and offset that fit the answers."""
    rank = torch.nn.Linear(1, 1)
    regress(rank, (answers.witnesses @ torch.tensor(ranking))[:, None], answers.right, (1.0,))
    with torch.no_grad():
        line.weight.copy_(rank.weight * torch.tensor([ranking]))
        line.bias.copy_(rank.bias)


def regress(line: torch.nn.Linear, inputs: torch.Tensor, right: torch.Tensor, signs: tuple[float, ...],
            steps: int = 300) -> None:
    """Logistic regression of right [N] in {0, 1} on inputs [N,K] whose weights have these signs: few wrong answers must
    not make of what speaks for a pose something that speaks against it."""
    size, offset = torch.zeros(len(signs), requires_grad=True), torch.zeros(1, requires_grad=True)
    descent = torch.optim.LBFGS([size, offset], max_iter=steps, line_search_fn="strong_wolfe")

    def weight() -> torch.Tensor:
        return F.softplus(size) * torch.tensor(signs)

    def loss() -> torch.Tensor:
        descent.zero_grad()
        total = (F.binary_cross_entropy_with_logits(inputs @ weight() + offset, right)
                 + 1e-3 * weight().square().sum())
        total.backward()
        return total

    descent.step(loss)
    with torch.no_grad():
        line.weight.copy_(weight()[None])
        line.bias.copy_(offset)


def stretch_of(answers: Answers) -> float:
    """What covariances must be multiplied with for half of the right answers to lie within their ellipsoid of one
    half. The median, for a few right answers at the limit are farther off than any Gaussian has it."""
    return float(answers.surprise[answers.right > 0].median() / chi2.ppf(0.5, 6))


def calibration_error(probability: torch.Tensor, right: torch.Tensor, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over equal bins of confidence."""
    index = (probability * bins).long().clamp_max(bins - 1)
    gaps = [(index == b).float().mean() * (probability[index == b].mean() - right[index == b].mean()).abs()
            for b in range(bins) if (index == b).any()]
    return float(sum(gaps))


def error_of_truth(probability: torch.Tensor, draws: int = 100) -> float:
    """The mean calibration error of as many answers if their probabilities were true: few answers scatter in bins."""
    rng = torch.Generator().manual_seed(0)
    return float(np.mean([calibration_error(probability, torch.bernoulli(probability, generator=rng))
                          for _ in range(draws)]))


@torch.no_grad()
def summary(answers: Answers, score: PoseScore) -> tuple[float | None, ...]:
    """Share of answers that are right, area under the ROC curve of their score, ECE, what that would be if the score
    were true, the share that is wrong with a score over 0.5, and which share of those over 0.5 that is."""
    probability, right = trusted(answers, score), answers.right
    accepted = probability > 0.5
    false = accepted & (right == 0)
    return (float(right.mean()), area_under_roc(probability, right > 0), calibration_error(probability, right),
            error_of_truth(probability), float(false.float().mean()), float(false.sum() / accepted.sum().clamp_min(1)))


@torch.no_grad()
def trusted(answers: Answers, score: PoseScore) -> torch.Tensor:
    """The scores [N] of answers."""
    return torch.sigmoid(score.trust(answers.witnesses, answers.verified, answers.spread))


class Gatherer:
    """Estimates synthetic scenes of one family of objects; one in each process."""

    def __init__(self, weights: str, family: str, seed: int) -> None:
        self.weights, self.maker = weights, ImageMaker(seed, IMAGE_SIZE, family)

    def __call__(self, index: int) -> dict[bool, dict[str, torch.Tensor]]:
        """The answers to a scene as a file holds them."""
        return {depth: vars(answers) for depth, answers in self.answer(index).items()}

    def answer(self, index: int) -> dict[bool, Answers]:
        """The answer to scene `index`, without depth and, if it has any, with it."""
        case = synthetic_case(self.maker, index)
        box = box_of(case, np.random.default_rng([self.maker.seed, index]))
        inputs = (False, True) if case.frame.depth is not None else (False,)
        return {depth: found for depth in inputs if (found := self._answer(case, box, depth)) is not None}

    def _answer(self, case: Case, box: np.ndarray, depth: bool) -> Answers | None:
        options = EstimatorOptions(depth="on" if depth else "off", weights=self.weights, device="cpu")
        estimator, label = Estimator(Catalogue([case.model]), options), case.model.label
        for found in estimator.estimate(case.frame, [Detection(label, box)]).estimates:
            (target,) = estimator.targets(case.frame, [label], self.maker.renderer)
            look = target.look(torch.from_numpy(found.T_cam_obj)[None].float())
            error = farthest(case.model, found.T_cam_obj, case.T_cam_obj)
            return Answers(witnesses(target, look, options.fit), verified(target, look, options.fit),
                           flow_support(target, look).spread,
                           torch.tensor([error]).float(), torch.tensor([surprise(found, case)]).float())
        return None


def surprise(found: PoseEstimate, case: Case) -> float:
    """How far an estimate is from the truth that looks the same and is nearest: squared, in units of its covariance."""
    T = case.model.symmetries.nearest(case.T_cam_obj, found.T_cam_obj)
    turn = Rotation.from_matrix(found.T_cam_obj[:3, :3] @ T[:3, :3].T).as_rotvec()
    error = np.concatenate([found.T_cam_obj[:3, 3] - T[:3, 3], turn])
    return float(error @ np.linalg.solve(found.covariance, error))


def gather(networks: Networks, folder: Path, family: str, count: int, seed: int, processes: int) -> dict[bool, Answers]:
    """The answers without and with depth to `count` synthetic scenes, which are kept in a folder (see `work_through`,
    which says what it raises)."""
    work_through(folder, settings_of(networks, family, seed), count, processes, Gatherer, str(networks.folder), family,
                 seed)
    found = kept_scenes(folder)[:count]
    return {depth: join([Answers(**f[depth]) for f in found if depth in f])
            for depth in INPUTS if any(depth in f for f in found)}


def draw(sets: dict[str, dict[bool, Answers]], score: PoseScore, path: Path) -> None:
    """Reliability of the score, and how many right answers lie within the ellipsoids of their covariance."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (reliability, coverage) = plt.subplots(1, 2, figsize=(12, 4.5))
    share = np.linspace(0, 1, 101)
    for family, found in sets.items():
        for depth, answers in found.items():
            style = {"color": f"C{int(depth)}", "linestyle": "-" if family == "train" else "--",
                     "label": f"{family.replace('_', ' ')}, {INPUTS[depth]} ({len(answers.errors)})"}
            probability = trusted(answers, score)
            index = (probability * BINS).long().clamp_max(BINS - 1)
            bins = [b for b in range(BINS) if (index == b).sum() > 2]
            reliability.plot([float(probability[index == b].mean()) for b in bins],
                             [float(answers.right[index == b].mean()) for b in bins], marker=".", **style)
            within = chi2.cdf((answers.surprise / score.stretch[int(depth)])[answers.right > 0].numpy(), 6)
            coverage.plot(share, [(within <= p).mean() for p in share], **style)
    reliability.set(title="score (bins of three and more)", xlabel="score", ylabel=f"share within {RIGHT} d (MSSD)")
    coverage.set(title="covariance of right answers", xlabel="probability of the ellipsoid", ylabel="share within it")
    for axes in (reliability, coverage):
        axes.plot([0, 1], [0, 1], "k:", linewidth=1)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


@command
def main() -> None:
    """Command line: fit on training objects, report on them and on held-out ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="", help="folder of weights (default: the shipped ones)")
    parser.add_argument("--folder", type=Path, default=Path("runs/score"), help="where pose_score.safetensors goes")
    parser.add_argument("--count", type=at_least_one, default=120, help="scenes of training objects")
    parser.add_argument("--held-out", type=int, default=120, help="scenes of held-out objects to report on")
    parser.add_argument("--seed", type=int, default=7001)
    parser.add_argument("--processes", type=at_least_one, default=2)
    args = parser.parse_args()
    tell_data()
    networks = load_networks(args.weights, "cpu")
    if networks.verifier is None:
        parser.error(f"weights {networks.folder}: expected a verifier, found none; training.train_verifier makes it")
    sets = {family: gather(networks, args.folder / "answers" / family, family, count, args.seed, args.processes)
            for family, count in (("train", args.count), ("held_out", args.held_out)) if count}
    score = fit_score(sets["train"])
    print({name: [round(x, 3) for x in value.flatten().tolist()] for name, value in score.state_dict().items()})
    rows = [(family, INPUTS[depth], len(answers.errors), *summary(answers, score),
             stretch_of(answers) / float(score.stretch[int(depth)]))
            for depth in INPUTS for family, found in sets.items() for answers in [found.get(depth)] if answers]
    draw(sets, score, args.folder / "calibration.png")
    # The covariances that were measured had been stretched already.
    score.stretch *= networks.pose_score.stretch
    save_weights(args.folder / "pose_score.safetensors", score.state_dict(), kind="pose_score", config=score.config)
    print(format_table(("objects", "input", "n", "right", "AUC", "ECE", "ECE if true", "false > 0.5", "of those > 0.5",
                        "stretch left"), rows))


if __name__ == "__main__":
    main()
