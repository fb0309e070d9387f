"""Train the verifier on looks that were kept (`training.looks`): python -m training.train_verifier --help."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from flowpose_ros.estimation.batches import join
from flowpose_ros.networks.verifier import COLOURS, DEPTH, NEAR, Verifier
from flowpose_ros.networks.weights import features_hash, save_weights
from training.calibrate import RIGHT
from training.command import command
from training.crew import kept_scenes, made_with
from training.flags import add_fields, check, taken_fields
from training.journal import Journal
from training.looks import Looks
from training.loop import Average, Running, descend, differing, load_checkpoint, one_cycle, save_checkpoint
from training.signals import signals_kept

FINE = torch.cat([torch.tensor([0.02, 0.035]), torch.arange(0.05, 0.51, 0.05)])
"""A pose is the better, the more of these errors it stays under: those of the average recall, and two finer."""
LOGGED = 50
"""Steps between lines of the log."""


@dataclass(frozen=True)
class VerifierTraining:
    """One training run; two runs with equal fields on the same looks give equal weights."""

    steps: int = 2000
    scenes: int = 8
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-2
    sharpness: float = 8.0
    without_depth: float = 0.3
    seed: int = 12


def load_looks(folder: Path, features: str) -> Looks:
    """All looks kept in a folder, made with features of this hash; raises ValueError where it has none or others."""
    found = [Looks(**looks) for looks in kept_scenes(folder) if looks is not None]
    if not found:
        raise ValueError(f"looks {folder}: expected files *.pt that training.looks wrote, found none")
    others = differing(made_with(folder), {"features": features}, "there")
    if others:
        raise ValueError(f"looks {folder}: expected those that were made with this refiner, got others ({others})")
    return join(found)


def scenes_of(looks: Looks) -> list[torch.Tensor]:
    """Indices of each scene's looks."""
    _, counts = looks.scene.unique_consecutive(return_counts=True)
    return list(torch.arange(len(looks.scene)).split(counts.tolist()))


def verifier_loss(logit: torch.Tensor, error: torch.Tensor, scene: torch.Tensor, sharpness: float) -> torch.Tensor:
    """Which of a scene's poses is best, by how many errors of FINE it stays under, and whether each is right.

    logit, error, scene [N].
    """
    right = (error < RIGHT).float()
    gain = (error[:, None] < FINE).float().mean(1)
    ranking = [-((sharpness * gain[of]).softmax(0) * logit[of].log_softmax(0)).sum()
               for of in (scene == s for s in scene.unique()) if gain[of].max() > gain[of].min()]
    return F.binary_cross_entropy_with_logits(logit, right) + torch.stack(ranking or [logit.sum() * 0]).mean()


def varied(evidence: torch.Tensor, rng: torch.Generator, without_depth: float) -> torch.Tensor:
    """Maps [N,C,h,w] of one scene in another placement, its channels of colour in another order, in another light, and
    at times without depth."""
    draw = lambda: float(torch.rand((), generator=rng))  # noqa: E731
    turns, mirrored = int(4 * draw()), draw() < 0.5

    def placed(x: torch.Tensor) -> torch.Tensor:
        x = x.rot90(turns, (-2, -1))
        return x.flip(-1) if mirrored else x

    out = placed(evidence).clone()
    for near in NEAR:
        cells = placed(out[:, near].reshape(len(out), 3, 3, -1).permute(0, 3, 1, 2))
        out[:, near] = cells.flatten(2).transpose(1, 2).reshape(out[:, near].shape)
    order = torch.randperm(3, generator=rng)
    for colours in COLOURS:
        out[:, colours] = out[:, colours][:, order]
    gain, shift = (torch.randn(3, 1, 1, generator=rng) for _ in range(2))
    query = COLOURS[1]
    out[:, query] = out[:, query] * (0.2 * gain).exp() + 0.05 * shift
    if draw() < without_depth:
        out[:, -DEPTH:] = 0
    return out


def batches(looks: Looks, config: VerifierTraining, step: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Evidence, errors and scenes of each step from `step` on."""
    scenes = scenes_of(looks)
    check("scenes", config.scenes, 1 <= config.scenes <= len(scenes), f"1 to {len(scenes)}, as many as were kept")
    while True:
        rng = np.random.default_rng([config.seed, step])
        draws = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        chosen = [scenes[i] for i in rng.choice(len(scenes), config.scenes, replace=False)]
        maps = [varied(looks.evidence[of].float() / 127, draws, config.without_depth) for of in chosen]
        yield torch.cat(maps), looks.error[torch.cat(chosen)], looks.scene[torch.cat(chosen)]
        step += 1


def train(config: VerifierTraining, looks: Looks, features: str, folder: Path, save_every: int = 250) -> Path:
    """Train on looks made with the refiner whose weights' hash is `features`; returns the path of the network."""
    torch.manual_seed(config.seed)
    network = Verifier()
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    average, record, step = Average(network), {**dataclasses.asdict(config), "refiner": features}, 0
    checkpoint, running = folder / "checkpoint.pt", Running(LOGGED)
    if checkpoint.exists():
        step = load_checkpoint(checkpoint, config=record, module=network, average=average, optimiser=optimiser)
    journal = Journal(folder, "verifier", step, config.steps)
    with signals_kept() as came:
        for evidence, error, scene in batches(looks, config, step):
            if came or step >= config.steps:
                break
            loss = verifier_loss(network(evidence), error, scene, config.sharpness)
            descend(network, optimiser, average, loss, config.learning_rate * one_cycle(step, config.steps))
            step += 1
            running.add(loss=loss.detach())
            journal.advance()
            if step % LOGGED == 0:
                journal.line(step, running.means())
            if step % save_every == 0:
                save_checkpoint(checkpoint, step=step, config=record, module=network, average=average,
                                optimiser=optimiser)
        journal.close()
        save_checkpoint(checkpoint, step=step, config=record, module=network, average=average, optimiser=optimiser)
        path = folder / "verifier.safetensors"
        save_weights(path, average.state, kind="verifier", config=network.config, features=features)
        return path


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_fields(parser, VerifierTraining)
    parser.add_argument("--refiner", type=Path, required=True, help="weights that the looks were made with")
    parser.add_argument("--looks", type=Path, default=Path("runs/looks"))
    parser.add_argument("--folder", type=Path, default=Path("runs/verifier"), help="checkpoints and log")
    given = vars(parser.parse_args())
    config = taken_fields(given, VerifierTraining)
    features = features_hash(given["refiner"])
    print(f"weights: {train(config, load_looks(given['looks'], features), features, given['folder'])}")


if __name__ == "__main__":
    main()
