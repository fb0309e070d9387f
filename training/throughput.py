"""How fast samples are made and a refiner learns, each alone and both together: python -m training.throughput.

Alone, samples are made and thrown away, and the network learns from one batch again and again, always with the loss of
all updates, the slowest. Both together are a training run as it is, in a folder that is thrown away. Counting begins
after the first step, when whatever starts has started.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import torch

from flowpose_ros.estimation.batches import take
from flowpose_ros.evaluation.table import format_table
from flowpose_ros.networks.flow import SIZES, GenFlow
from training.command import command
from training.learner import Learner, RecordedLearner
from training.pairs import PairMaker, collate
from training.pools import tell_data
from training.replay import PLACEMENTS
from training.speed import FirstLook, Speed, Watched
from training.train_refiner import RefinerLoss, RefinerTraining, train
from training.trainer import STORED, made_for

ALL_UPDATES = {"features_until": 0.0, "pose_from": -0.1, "late_from": 0.0, "alternate_from": 1.0}
"""A run that learns with the loss of all updates at each of its steps."""
HEADER = ("what", "made, 1/s", "learnt, 1/s", "of the slower")


def made_alone(config: RefinerTraining, seconds: float, workers: int, on_gpu: bool) -> float:
    """Samples per second that workers make for a run when nobody learns."""
    made = made_for(config, 0, workers, STORED if on_gpu else config.batch)
    look = FirstLook(made, made, seconds)
    return next(speed.made for _ in made if (speed := look.after_step()))


def learnt_alone(config: RefinerTraining, seconds: float, device: str, eager: bool) -> float:
    """Samples per second that the network learns from when they are there."""
    maker, few = PairMaker(config.seed, config.crop), min(config.batch, PLACEMENTS)
    batch = collate([maker.sample(index) for index in range(few)])
    batch = take(batch, torch.arange(config.batch) % few)
    batch = type(batch)(**{name: value.to(device) for name, value in vars(batch).items()})
    network = GenFlow(SIZES[config.size]).to(device)
    kind = Learner if eager or device == "cpu" else RecordedLearner
    learner, loss = kind(network, config.learning_rate, config.weight_decay, config.clip), RefinerLoss(network)
    fed = Watched(repeat(batch), config.batch)
    look = FirstLook(fed, fed, seconds)
    for batch in fed:
        learner.learn(batch, loss.everything, config.learning_rate, 1.0)
        if speed := look.after_step():
            return speed.learnt


def both_together(config: RefinerTraining, samples: float, **run) -> Speed:
    """The speed of a training run that learns from about so many samples, from its own log."""
    log_every = 1 if run["device"] == "cpu" else 10  # a line waits for the GPU
    lines = 1 + max(1, round(samples / (log_every * config.batch)))
    with tempfile.TemporaryDirectory() as folder:
        train(replace(config, steps=lines * log_every), Path(folder), **run, save_every=config.steps, max_minutes=None,
              log_every=log_every)
        first, *_, last = map(json.loads, (Path(folder) / "log.jsonl").read_text().splitlines())
    passed = last["seconds"] - first["seconds"]
    learnt = (last["step"] - first["step"]) * config.batch / passed
    made = (last["made"] - first["made"]) / passed if "made" in last else learnt / config.reuse
    return Speed(made, learnt, 0.0)


def rows_of(made: float, learnt: float, both: Speed, slower: float) -> list[tuple]:
    """The table's rows; slower: samples per second that could be learnt from if nothing stood in another's way."""
    return [("samples alone", made, None, None), ("network alone", None, learnt, None),
            ("both together", both.made, both.learnt, f"{both.learnt / slower:.0%}")]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: measure and print a table."""
    plan = RefinerTraining()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--size", default=plan.size, choices=SIZES)
    for name in ("batch", "crop", "reuse", "kept"):
        parser.add_argument(f"--{name}", type=int, default=getattr(plan, name))
    parser.add_argument("--workers", type=int, default=1, help="processes that make samples")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network")
    parser.add_argument("--seconds", type=float, default=20, help="how long each part is measured")
    parser.add_argument("--eager", action="store_true", help="no CUDA graph of the step")
    args = parser.parse_args(arguments)
    tell_data()
    config = RefinerTraining(size=args.size, batch=args.batch, crop=args.crop, reuse=args.reuse, kept=args.kept,
                             **ALL_UPDATES)
    on_gpu = args.device != "cpu"
    torch.set_num_threads(args.threads)
    made = made_alone(config, args.seconds, args.workers, on_gpu)
    learnt = learnt_alone(config, args.seconds, args.device, args.eager)
    slower = learnt if on_gpu else min(learnt, made * config.reuse)  # a store gives a sample as often as it is asked
    both = both_together(config, args.seconds * slower, device=args.device, eager=args.eager, workers=args.workers,
                         threads=args.threads)
    print(format_table(HEADER, rows_of(made, learnt, both, slower)))
    print(f"batches of {config.batch}, {config.crop} pixels, size {config.size}, {args.device}; {args.workers} "
          f"workers, {args.threads} threads; each part about {args.seconds:g} s, samples of a run's beginning")


if __name__ == "__main__":
    main()
