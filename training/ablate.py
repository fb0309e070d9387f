"""The papers' ablations at a small scale: every variant learns for equally many steps from the same samples, from
several seeds, and is measured on the same pairs of held-out objects.

    python -m training.ablate genflow --features flowpose_ros/weights/genflow_t.safetensors
    python -m training.ablate refpose --features flowpose_ros/weights/genflow_t.safetensors --device cuda --batch 64

With --features all begin with the image features of that refiner, and only the rest from random numbers: so a few
hundred steps tell something. Results are written run by run; the same command again goes on with the next run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import matplotlib
import numpy as np
import torch
from tqdm import tqdm

from flowpose_ros.evaluation.table import format_table
from flowpose_ros.networks.weights import file_hash
from training.command import command
from training.kept import drawn, kept_samples
from training.learner import Learner, RecordedLearner
from training.loop import Average, one_cycle
from training.pairs import PairBatch
from training.pools import tell_data
from training.trainer import PairTraining
from training.variants import FAMILIES, Family, Trial

HELD_OUT_SEED = 9001
SECONDS = "s per step"


@dataclass(frozen=True)
class Budget:
    """What all runs of a table have in common; features: hash of the weights that they begin with, if any; made_on:
    whether samples come from "workers" or are made on the "device"; learning_rate: None for the family's own."""

    crop: int
    steps: int
    batch: int
    samples: int
    held_out: int
    features: str | None
    made_on: str = "workers"
    learning_rate: float | None = None


@dataclass(frozen=True)
class Run:
    """One variant from one seed, and what it came to once it is done."""

    variant: str
    seed: int
    budget: Budget
    figures: dict[str, float]


class Samples:
    """The samples of an ablation, those of each seed and the held-out ones; what workers make is kept in files of a
    folder."""

    def __init__(self, family: Family, budget: Budget, folder: Path, workers: int) -> None:
        self.family, self.budget, self.folder, self.workers = family, budget, folder, workers

    def of_seed(self, seed: int) -> list:
        """What all variants learn from."""
        return self._kept("train", seed, min(self.budget.samples, self.budget.steps * self.budget.batch))

    def held_out(self) -> list:
        """What all are measured on: other objects."""
        return self._kept("held_out", HELD_OUT_SEED, self.budget.held_out)

    def _kept(self, objects: str, seed: int, count: int) -> list:
        family, kind = self.family, self.family.sample
        made = family.made(seed, objects, self.workers, self.budget.made_on)
        if self.budget.made_on == "device":  # as fast as files are read
            return list(islice(made, count))
        return kept_samples(self.folder / f"{kind.__name__}_{objects}_{seed}_{self.budget.crop}px_{count}.pt", kind, made,
                            count, family.device)


def ablate(family: Family, budget: Budget, variants: list[str], seeds: list[int], results: Path, workers: int
           ) -> list[Run]:
    """Make the runs that `results` does not have, one line each, and return those of all variants and seeds.

    Raises ValueError when a variant is unknown, when there are fewer samples than a batch has, or when samples of the
    family are not made where the budget says.
    """
    unknown = [name for name in variants if name not in family.variants]
    if unknown:
        raise ValueError(f"variants: expected some of {', '.join(family.variants)}; got {', '.join(unknown)}")
    results.parent.mkdir(parents=True, exist_ok=True)
    done, samples = finished(results, budget), Samples(family, budget, results.parent / "samples", workers)
    missing = {seed: [name for name in variants if (name, seed) not in done] for seed in seeds}
    held_out = samples.held_out() if any(missing.values()) else []
    bar = tqdm(total=sum(map(len, missing.values())) * budget.steps, unit="step", mininterval=10)
    for seed, names in missing.items():
        material = samples.of_seed(seed) if names else []
        for name in names:
            bar.set_description(f"{name}, seed {seed}")
            figures = learnt_figures(family, budget, name, seed, material, held_out, bar)
            done[name, seed] = Run(name, seed, budget, figures)
            with results.open("a") as out:
                out.write(json.dumps(asdict(done[name, seed])) + "\n")
    bar.close()
    return [done[name, seed] for name in variants for seed in seeds]


def finished(results: Path, budget: Budget) -> dict[tuple[str, int], Run]:
    """The runs with this budget in a file of results, by variant and seed; a last line that was cut is taken off."""
    lines = results.read_text().splitlines(keepends=True) if results.exists() else []
    if lines and not lines[-1].endswith("\n"):
        results.write_text("".join(lines[:-1]))
        del lines[-1]
    runs = [Run(**line | {"budget": Budget(**line["budget"])}) for line in map(json.loads, lines)]
    return {(run.variant, run.seed): run for run in runs if run.budget == budget}


def learnt_figures(family: Family, budget: Budget, name: str, seed: int, material: list, held_out: list, bar: tqdm
                   ) -> dict[str, float]:
    """Teach a variant and measure it; the seed also gives its first weights and the order of the samples."""
    torch.manual_seed(seed)
    course, rng = family.course(budget.steps, budget.batch), np.random.default_rng(seed)
    if budget.learning_rate is not None:
        course = replace(course, learning_rate=budget.learning_rate)
    trial, begin = family.trial(name, course), time.monotonic()
    batches = (family.join(picked, rng) for picked in drawn(material, budget.batch, rng))
    recorded = family.device != "cpu" and family.sample is PairBatch
    teach(trial, course, batches, RecordedLearner if recorded else Learner, bar)
    seconds = (time.monotonic() - begin) / budget.steps
    return {**family.figures(name, trial.network, held_out), SECONDS: seconds}


def teach(trial: Trial, course: PairTraining, batches: Iterator, learner_class: type[Learner], bar: tqdm) -> None:
    """Take a network through a course; it ends with the average of its weights."""
    network = trial.network.train()
    learner = learner_class(network, course.learning_rate, course.weight_decay, course.clip)
    average = Average(network)
    for step, batch in zip(range(course.steps), batches):
        figures = learner.learn(batch, trial.loss_at(step), course.learning_rate * one_cycle(step, course.steps),
                                course.pose_share(step))
        average.update(network, figures["skipped"])
        bar.update()
    network.load_state_dict(average.state)
    network.eval()


def figures_by_variant(runs: list[Run]) -> dict[str, dict[str, np.ndarray]]:
    """Of each variant each figure's values over the seeds."""
    return {name: {figure: np.array([run.figures[figure] for run in runs if run.variant == name])
                   for figure in runs[0].figures} for name in dict.fromkeys(run.variant for run in runs)}


def table_of(runs: list[Run]) -> str:
    """A line for each variant: its figures' means over the seeds and, where there are several, their spread."""
    return format_table(("variant", *runs[0].figures), [
        (name, *(mean_and_spread(values) for values in figures.values()))
        for name, figures in figures_by_variant(runs).items()])


def mean_and_spread(values: np.ndarray) -> str:
    """Mean of several runs and their standard deviation."""
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


def draw_bars(runs: list[Run], path: Path) -> None:
    """A panel for each figure: a bar for each variant, a dot for each seed."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    found = figures_by_variant(runs)
    names = [name for name in runs[0].figures if name != SECONDS]
    figure, panels = plt.subplots(1, len(names), figsize=(3.2 * len(names) + 1.5, 0.4 * len(found) + 1.2), sharey=True)
    for name, axes in zip(names, panels):
        for row, figures in enumerate(found.values()):
            axes.barh(row, figures[name].mean(), color="C0", alpha=0.6)
            axes.plot(figures[name], np.full(len(figures[name]), row), "k.")
        axes.set(title=name, yticks=range(len(found)), yticklabels=found)
        axes.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


@command
def main() -> None:
    """Command line: make what is missing, print the table, draw the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=tuple(FAMILIES), help="GenFlow's refiner, RefPose's, or its scorer")
    parser.add_argument("--features", type=Path, help="refiner whose features all begin with")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1000, help="steps of each run")
    parser.add_argument("--batch", type=int, default=8, help="samples of a step")
    parser.add_argument("--learning-rate", type=float, help="at its peak (default: that of the family's training)")
    parser.add_argument("--samples", type=int, default=2000, help="at most so many are made for each seed, and turned")
    parser.add_argument("--held-out", type=int, default=200, help="pairs of held-out objects to measure on")
    parser.add_argument("--crop", type=int, default=128, help="side of the pictures, pixels")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--made-on", default="workers", choices=("workers", "device"), help="where samples are made")
    parser.add_argument("--workers", type=int, default=1, help="processes that make samples")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network")
    parser.add_argument("--folder", type=Path, default=Path("runs/ablation"), help="samples, results, figure")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    budget = Budget(args.crop, args.steps, args.batch, args.samples, args.held_out,
                    args.features and file_hash(args.features), args.made_on, args.learning_rate)
    tell_data()
    family = FAMILIES[args.family](args.features, args.crop, args.device)
    runs = ablate(family, budget, args.variants or list(family.variants), args.seeds,
                  args.folder / f"{args.family}.jsonl", args.workers)
    print(table_of(runs))
    draw_bars(runs, args.folder / f"{args.family}.png")


if __name__ == "__main__":
    main()
