"""A training run on synthetic pairs, whatever network learns: samples, schedule, checkpoints, log and export."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from flowpose_ros.errors import MemoryShortageError
from flowpose_ros.estimation.batches import is_memory_shortage, take
from flowpose_ros.networks.weights import file_hash, load_config, load_weights, save_weights
from training.device_pairs import device_batches
from training.flags import add_fields, at_least_one, check, taken_fields
from training.journal import Journal
from training.learner import Figures, Learner, Loss, RecordedLearner
from training.loop import (Average, Pace, Running, agreed, average_gradients, join_processes, load_checkpoint,
                           one_cycle, said_by_first, save_checkpoint)
from training.pairs import PairBatch, PairStream, batches_of
from training.perturb import TASKS
from training.pools import tell_data
from training.replay import PLACEMENTS, Replay, replayed, restocked
from training.reuse import KEPT, reused
from training.shortage import largest_that_fits
from training.signals import signals_kept
from training.speed import FirstLook, Watched

STORED = 32
"""Samples that a worker hands over at once to the store of a GPU."""
PICTURED = 4
"""Samples in a picture."""
REMEDY = "--reuse 4 uses each sample four times, more --workers make more"


@dataclass(frozen=True)
class PairTraining:
    """One training run; two runs on a CPU with equal fields, from the same start, give equal weights. On a GPU what is
    drawn from the store depends on how fast samples come.

    task: which of `TASKS` the samples are for. reuse: how often each sample is used (see `reused`, on a GPU
    `restocked`). kept: the most that are held for use again; a GPU's store of them (see `Replay`) takes the place of
    `reuse` where workers fill it.
    """

    task: str = field(default="search", metadata={"choices": tuple(TASKS)})
    crop: int = 128
    reuse: int = 1
    kept: int = 32_768
    steps: int = 9200
    batch: int = 6
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    clip: float = 1.0
    seed: int = 0
    late_from: float = 8 / 15
    pose_from: float = 0.3
    pose_ramp: float = 0.1

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {self.task!r}")
        check("crop", self.crop, self.crop > 0 and self.crop % 16 == 0, "a multiple of 16 pixels")
        check("reuse", self.reuse, self.reuse >= 1, "at least 1")
        check("batch", self.batch, self.batch >= 1, "at least 1")
        check("pose_ramp", self.pose_ramp, self.pose_ramp > 0, "more than 0")

    def pose_share(self, step: int) -> float:
        """Share of the pose loss at a step: solving on what is still noise teaches nothing."""
        return min(1.0, max(0.0, (step / self.steps - self.pose_from) / self.pose_ramp))


@dataclass(frozen=True)
class Lesson:
    """What a run teaches: the network that learns, on its device, and its loss at each place in the schedule and step.

    name: of the network, for people; kind, file: of its weights; features: hash of the weights file whose features it
    learns on, if any; picture: shows a batch and what the network says of it [H,W,3] uint8, RGB.
    """

    network: nn.Module
    loss_at: Callable[[int, int], Loss]
    name: str
    kind: str
    file: str
    features: str | None = None
    picture: Callable[[PairBatch], np.ndarray] | None = None


def train_on_pairs(config: PairTraining, lesson_on: Callable[[str], Lesson], folder: Path, *, workers: int,
                   threads: int, save_every: int, max_minutes: float | None, start: Path | None = None,
                   log_every: int = 100, device: str = "cpu", minutes: float | None = None,
                   eager: bool = False, made_on: str = "workers") -> Path:
    """Train, or continue what `folder` holds, and return the path of the exported weights.

    lesson_on: makes the lesson on a device, after the random numbers are seeded. start: weights of the same shape that
    a new run begins with, instead of random numbers. Every `log_every` steps a line with the means of these steps goes
    to the journal in `folder`, and at each checkpoint a picture. minutes: the schedule follows the clock, so that a run
    of unknown speed ends in time; it is a run's own and does not go on in the next. eager: start each kernel of a GPU
    from Python. made_on: whether samples come from "workers", on a GPU by way of its store, or are made on the
    "device" between the steps.

    Raises ValueError when the batch cannot be shared equally by the processes or by a store's placements, when a GPU is
    to be shared, when late starts are to begin on the way and nobody knows at which sample that is, or when `start` is
    of another shape, WeightsError when it is of another kind, MemoryShortageError, with a batch or a store that fits,
    when memory does not suffice, KeyboardInterrupt, with all kept, after the step in which a signal came.
    """
    rank, processes = join_processes()
    check_sharing(config, processes, device)
    on_gpu = device != "cpu"
    stored = on_gpu and made_on == "workers"
    check_late(config, minutes, stored)
    torch.manual_seed(config.seed)
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    lesson = lesson_on(device)
    network = lesson.network
    checkpoint = folder / "checkpoint.pt"
    if start is not None and not checkpoint.exists():
        begin_with(start, lesson)
    replay = Replay(config.kept, device, config.seed) if on_gpu else None
    rates = config.learning_rate, config.weight_decay, config.clip
    learner = Learner(network, *rates) if eager or not on_gpu else RecordedLearner(network, *rates, alone=replay.still)
    optimiser = learner.optimiser
    average = Average(network)
    record = dataclasses.asdict(config) | {"refiner": lesson.features, "init_from": start and file_hash(start)}
    step = first = 0
    if checkpoint.exists():
        # The length of the run may change when it is continued; everything else may not.
        same = {k: v for k, v in record.items() if k != "steps"}
        step = first = load_checkpoint(checkpoint, config=same, module=network, average=average, optimiser=optimiser)
    pace = Pace(config.steps, minutes)
    share = config.batch // processes
    fresh = made_for(config, step, workers, STORED if stored else share, rank, processes,
                     None if made_on == "workers" else device)
    if stored:
        drawn = replayed(fresh, replay, share)
    elif on_gpu:
        drawn = restocked(fresh, replay, config.reuse, share)
    else:
        drawn = reused(fresh, config.reuse, [config.seed, rank, step], max(1, min(KEPT, config.kept // share)))
    samples = Watched(drawn, config.batch)

    def keep(step: int) -> Path:
        save_checkpoint(checkpoint, step=step, config=record, module=network, average=average, optimiser=optimiser)
        save_weights(folder / lesson.file, average.state, kind=lesson.kind, config=network.config,
                     features=lesson.features)
        return folder / lesson.file

    running, look, begin = Running(log_every), FirstLook(fresh, samples), time.monotonic()
    journal = None if rank else Journal(folder, lesson.name, step, config.steps if minutes is None else None)
    with signals_kept() as came:
        for batch in samples:
            late = max_minutes is not None and time.monotonic() - begin > 60 * max_minutes
            at = said_by_first(pace.at(step), processes)
            if at >= config.steps or agreed(late or bool(came), processes):
                break
            how = lesson.loss_at(at, step), config.learning_rate * one_cycle(at, config.steps), config.pose_share(at)
            figures = learn(learner, batch, how, processes)
            average.update(network, figures["skipped"])
            step += 1
            if journal is None:
                continue
            journal.advance()
            running.add(**figures)
            if step % log_every == 0:
                journal.line(step, running.means() | ({"made": replay.seen} if stored else {}))
            if step % save_every == 0:
                keep(step)
                if lesson.picture is not None:
                    journal.picture(step, lambda: picture_of(lesson, batch))
            if speed := look.after_step():
                left = (None, 0) if minutes is not None else steps_left(lesson, range(first, step), config.steps)
                journal.say(speed.line(config.batch, *left, None if on_gpu or config.reuse > 1 else REMEDY))
        drawn.close()
        if journal is None:
            return folder / lesson.file
        journal.close()
        return keep(step)


def begin_with(start: Path, lesson: Lesson) -> None:
    """Give the network the weights of the file `start`; raises ValueError when they are of another shape."""
    found, wanted = load_config(start, lesson.kind, type(lesson.network.config)), lesson.network.config
    if found != wanted:
        raise ValueError(f"start {start}: expected a {lesson.name} ({wanted}), got {found}")
    load_weights(start, lesson.network)


def made_for(config: PairTraining, step: int, workers: int, batch: int, rank: int = 0, processes: int = 1,
             device: str | None = None) -> Watched[PairBatch]:
    """Samples as process `rank` makes them for a run from `step` on, in batches of `batch`; counted for all
    processes. They are made on `device` or, if None, by workers."""
    made, late = (-(-s // config.reuse) * config.batch for s in (step, round(config.late_from * config.steps)))
    stream = PairStream(config.seed, config.crop, made, batch=batch, rank=rank, processes=processes,
                        late_from=late if config.late_from < 1 else None, task=TASKS[config.task])
    batches = batches_of(stream, workers) if device is None else device_batches(stream, device)
    return Watched(batches, batch * processes)


def learn(learner: Learner, batch: PairBatch, how: tuple[Loss, float, float], processes: int) -> Figures:
    """One step (see `Learner.learn`), its gradients shared by all processes.

    Raises MemoryShortageError naming a batch that fits when memory does not suffice.
    """
    try:
        return learner.learn(batch, *how, lambda network: average_gradients(network, processes))
    except Exception as error:
        if not is_memory_shortage(error):
            raise
        reason = str(error)
    # Here, where the error and all that its frames hold are gone.
    device, asked = batch.K.device.type, len(batch.K) * processes
    unit = 1 if device == "cpu" else PLACEMENTS
    fits = processes * largest_that_fits(lambda part: learner.learn(part, *how), batch, unit)
    advice = f"--batch {fits} fits" if fits else f"not even {unit * processes} fits"
    raise MemoryShortageError(f"batch: expected one that the memory of {device} suffices for, got {asked}; {advice} "
                              f"({reason})")


def picture_of(lesson: Lesson, batch: PairBatch) -> np.ndarray:
    """The lesson's picture of the first samples of a batch."""
    with torch.no_grad():
        return lesson.picture(take(batch, torch.arange(min(PICTURED, len(batch.K)))))


def steps_left(lesson: Lesson, taken: range, steps: int) -> tuple[int, int]:
    """How many steps are left with a loss that one of those taken had, and how many with another."""
    known = {lesson.loss_at(step, step) for step in taken}
    alike = sum(lesson.loss_at(step, step) in known for step in range(taken.stop, steps))
    return alike, steps - taken.stop - alike


def check_sharing(config: PairTraining, processes: int, device: str) -> None:
    """Raise ValueError when samples cannot be shared and used as a run asks for (see `train_on_pairs`)."""
    if config.batch % processes:
        raise ValueError(f"batch: expected a multiple of the {processes} processes, got {config.batch}")
    if device != "cpu" and (processes > 1 or config.batch % PLACEMENTS):
        raise ValueError(f"device {device}: expected one process and a batch that is a multiple of {PLACEMENTS}, "
                         f"got {processes} and {config.batch}")


def check_late(config: PairTraining, minutes: float | None, stored: bool) -> None:
    """Raise ValueError when late starts are to begin on the way of a run that does not know how many samples it will
    be given: one that the clock ends, or one with a store that workers fill."""
    if 0 < config.late_from < 1 and (minutes is not None or stored):
        what = "a GPU whose workers fill a store" if minutes is None else "--minutes"
        raise ValueError(f"late_from: expected 0 (from the first sample) or 1 (never) with {what}, as the samples of "
                         f"such a run are not known before, got {config.late_from:.3g}")


def run_parser(description: str, config_class: type[PairTraining], folder: Path) -> argparse.ArgumentParser:
    """The command line of a trainer: a flag for each field of its configuration, and those of every run."""
    parser = argparse.ArgumentParser(description=description)
    add_fields(parser, config_class)
    parser.add_argument("--folder", type=Path, default=folder, help="checkpoints and log")
    parser.add_argument("--init-from", dest="start", type=Path, help="weights to begin with instead of random numbers")
    parser.add_argument("--workers", type=int, default=1, help="processes that make samples")
    parser.add_argument("--threads", type=at_least_one, default=1, help="threads of the network")
    parser.add_argument("--save-every", type=at_least_one, default=250, help="steps between checkpoints")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--made-on", default="workers", choices=("workers", "device"), help="where samples are made")
    parser.add_argument("--eager", action="store_true", help="no CUDA graph of the step")
    parser.add_argument("--minutes", type=float, help="the schedule's length on the clock, in place of --steps")
    parser.add_argument("--max-minutes", type=float, help="stop (resumably) after this long")
    return parser


def run_arguments(parser: argparse.ArgumentParser, config_class: type[PairTraining]) -> tuple[PairTraining, dict]:
    """The configuration on the command line, and everything else on it by the names that `train` has for it."""
    given = vars(parser.parse_args())
    tell_data()
    return taken_fields(given, config_class), given
