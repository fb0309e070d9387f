"""Train the scorer on frozen features of a refiner: python -m training.train_scorer --help."""

from __future__ import annotations

import argparse
import dataclasses
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation

from flowpose_ros.geometry.rotations import angles_between, perturb_rotations, random_rotations
from flowpose_ros.networks.flow import GenFlow, GenFlowConfig
from flowpose_ros.networks.scorer import Scorer, ScorerConfig, cell_cover
from flowpose_ros.networks.weights import features_hash, file_hash, load_network, save_weights
from flowpose_ros.rendering.templates import render_views
from training.command import command
from training.flags import add_fields, at_least_one, check, taken_fields
from training.journal import Journal
from training.loop import Average, Pace, Running, descend, load_checkpoint, one_cycle, save_checkpoint
from training.pairs import PairMaker, PairStream, batches_of
from training.perturb import turn_by
from training.pictures import scorer_rows
from training.pools import tell_data
from training.signals import signals_kept
from training.speed import FirstLook, Watched

NEAR = np.radians(25)
FAR = np.radians(45)
"""A view within NEAR of the truth is a positive, beyond FAR a negative, between not asked about."""


@dataclass(frozen=True)
class ScorerTraining:
    """One training run; two runs with equal fields give equal weights."""

    crop: int = 128
    steps: int = 2500
    queries: int = 4
    near: int = 5
    between: int = 2
    flipped: int = 2
    anywhere: int = 4
    learning_rate: float = 1e-3
    seed: int = 1

    def __post_init__(self) -> None:
        check("crop", self.crop, self.crop > 0 and self.crop % 16 == 0, "a multiple of 16 pixels")
        check("queries", self.queries, self.queries >= 1, "at least 1")


@dataclass(frozen=True)
class ScorerSample:
    """One query [1,3,S,S] and N views: rgb [N,3,S,S] uint8, mask [N,S,S]; angle [N] radians to the truth."""

    query: torch.Tensor
    rgb: torch.Tensor
    mask: torch.Tensor
    angle: torch.Tensor


class ScorerStream(PairStream):
    """Queries of the pair stream with views of the same object around the truth and far from it."""

    config: ScorerTraining = ScorerTraining()

    def make(self, maker: PairMaker, index: int) -> ScorerSample:
        """Sample `index`, always the same."""
        pair, thing = maker.sample_with_object(index)
        rng = np.random.default_rng([self.seed, index, 77])
        T_gt = pair.T_gt[0].double().numpy()
        views = render_views(thing.mesh, maker.renderer, view_rotations(T_gt[:3, :3], self.config, rng), self.size)
        angles = []
        for R in views.rotations.double().numpy():
            T = np.eye(4)
            T[:3, :3] = R
            angles.append(angles_between(thing.symmetries.nearest(T_gt, T)[None, :3, :3], R[None])[0, 0])
        return ScorerSample(pair.query_rgb, views.rgb, views.mask, torch.tensor(angles).float())


def view_rotations(R_gt: np.ndarray, config: ScorerTraining, rng: np.random.Generator) -> np.ndarray:
    """Rotations [N,3,3]: near the truth; between near and far; turned about an axis of the object with some
    noise, half of them by half a turn, as boxes are mistaken, half by any angle, as cans and mugs are; anywhere."""
    near = [perturb_rotations(R_gt[None], rng.uniform(0, np.radians(20)), rng) for _ in range(config.near)]
    between = [(turn_by(rng.uniform(NEAR, np.pi / 2), rng).as_matrix() @ R_gt)[None] for _ in range(config.between)]
    axes = rng.integers(0, 3, config.flipped)
    angles = np.where(rng.random(config.flipped) < 0.5, np.pi, rng.uniform(np.pi / 3, np.pi, config.flipped))
    flips = R_gt @ Rotation.from_rotvec(angles[:, None] * np.eye(3)[axes]).as_matrix()
    return np.concatenate([*near, *between, perturb_rotations(flips, np.radians(8), rng),
                           random_rotations(config.anywhere, rng)])


def stack(samples: list[ScorerSample]) -> ScorerSample:
    """B queries and their B*N views, in order."""
    return ScorerSample(*(torch.cat([getattr(s, f.name) for s in samples]) for f in fields(ScorerSample)))


def scorer_loss(logits: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Near or far per view, and which of a query's views is nearest; logits, angle [B,N]."""
    near, far = angle < NEAR, angle > FAR
    asked = (near | far).float()
    binary = F.binary_cross_entropy_with_logits(logits, near.float(), reduction="none")
    wanted = (-(angle / np.radians(12)).square()).softmax(1)
    ranking = -(wanted * logits.log_softmax(1)).sum(1) * near.any(1)
    return (binary * asked).sum() / asked.sum().clamp_min(1) + ranking.mean()


def logits_of(network: GenFlow, scorer: Scorer, batch: ScorerSample) -> torch.Tensor:
    """What the scorer gives each view of each query [B,N]."""
    with torch.no_grad():
        _, queries = network.encode(batch.query)
        _, views = network.encode(batch.rgb.float() / 255)
    count = len(views) // len(queries)
    queries = queries.repeat_interleave(count, 0)
    return scorer(views.float(), cell_cover(batch.mask), queries.float()).reshape(-1, count)


def train(config: ScorerTraining, refiner: Path, folder: Path, *, workers: int, threads: int,
          max_minutes: float | None = None, start: Path | None = None, device: str = "cpu",
          minutes: float | None = None, save_every: int = 250, log_every: int = 50) -> Path:
    """Train on the features of the weights file `refiner`; returns the path of the exported head.

    start: a head that a new run begins with, of older features perhaps, instead of random numbers. minutes: the
    schedule follows the clock (see `Pace`). save_every, log_every: steps between checkpoints, each with a picture, and
    between lines of the journal, each with the means of its steps.
    """
    torch.manual_seed(config.seed)
    torch.set_num_threads(threads)
    network = load_network(refiner, "genflow", GenFlowConfig, GenFlow).to(device)
    checkpoint = folder / "checkpoint.pt"
    fresh = start is None or checkpoint.exists()
    scorer = Scorer() if fresh else load_network(start, "scorer", ScorerConfig, Scorer)
    scorer.to(device)
    optimiser = torch.optim.AdamW(scorer.parameters(), lr=config.learning_rate)
    average = Average(scorer)
    # A head belongs to the features that it learnt from.
    record = {**dataclasses.asdict(config), "refiner": features_hash(refiner), "init_from": start and file_hash(start)}
    step = 0
    if checkpoint.exists():
        same = {k: v for k, v in record.items() if k != "steps"}
        step = load_checkpoint(checkpoint, config=same, module=scorer, average=average, optimiser=optimiser)
    stream = ScorerStream(config.seed, config.crop, step * config.queries, batch=config.queries)
    stream.config = config
    samples = Watched(batches_of(stream, workers, stack), config.queries)
    running, pace, look, begin = (Running(log_every), Pace(config.steps, minutes), FirstLook(samples, samples),
                                  time.monotonic())
    journal = Journal(folder, "scorer", step, config.steps if minutes is None else None)
    with signals_kept() as came:
        for batch in samples:
            at = pace.at(step)
            if came or at >= config.steps or (max_minutes and time.monotonic() - begin > 60 * max_minutes):
                break
            batch = ScorerSample(*(getattr(batch, f.name).to(device) for f in fields(ScorerSample)))
            angle = batch.angle.reshape(config.queries, -1)
            logits = logits_of(network, scorer, batch)
            loss = scorer_loss(logits, angle)
            descend(scorer, optimiser, average, loss, config.learning_rate * one_cycle(at, config.steps))
            step += 1
            best = angle.gather(1, logits.argmax(1, keepdim=True))
            running.add(loss=loss.detach(), best_within_25=(best < NEAR).float().mean())
            journal.advance()
            if step % log_every == 0:
                journal.line(step, running.means())
            if step % save_every == 0:
                save_checkpoint(checkpoint, step=step, config=record, module=scorer,
                                average=average, optimiser=optimiser)
                views = batch.rgb.reshape(*angle.shape, *batch.rgb.shape[1:]).float() / 255
                journal.picture(step, lambda: scorer_rows(batch.query, views, logits, angle < NEAR, angle > FAR))
            if speed := look.after_step():
                left = None if minutes is not None else config.steps - step
                journal.say(speed.line(config.queries, left, remedy="more --workers make more"))
        journal.close()
        save_checkpoint(checkpoint, step=step, config=record, module=scorer,
                        average=average, optimiser=optimiser)
        path = folder / "scorer.safetensors"
        save_weights(path, average.state, kind="scorer", config=scorer.config, features=record["refiner"])
        return path


@command
def main() -> None:
    """Command line of the scorer's training."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_fields(parser, ScorerTraining)
    parser.add_argument("--refiner", type=Path, required=True, help="weights whose features are scored")
    parser.add_argument("--init-from", dest="start", type=Path,
                        help="scorer weights to begin with instead of random numbers")
    parser.add_argument("--folder", type=Path, default=Path("runs/scorer"), help="checkpoints and log")
    parser.add_argument("--workers", type=int, default=1, help="processes that make samples")
    parser.add_argument("--threads", type=at_least_one, default=1, help="threads of the network")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--minutes", type=float, help="the schedule's length on the clock, in place of --steps")
    parser.add_argument("--max-minutes", type=float, help="stop (resumably) after this long")
    given = vars(parser.parse_args())
    config = taken_fields(given, ScorerTraining)
    tell_data()
    print(f"weights: {train(config, **given)}")


if __name__ == "__main__":
    main()
