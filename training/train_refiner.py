"""Train the flow refiner on synthetic pairs: python -m training.train_refiner --help.

Several processes share each batch: torchrun --nproc-per-node 2 -m training.train_refiner.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import torch
from tqdm import tqdm

from flowpose_ros.networks.flow import SIZES, GenFlow, GenFlowConfig
from flowpose_ros.networks.weights import load_config, load_weights, save_weights
from training.learner import Learner, RecordedLearner
from training.loop import (Average, Pace, Running, agreed, average_gradients, join_processes, load_checkpoint,
                           one_cycle, save_checkpoint)
from training.pairs import PairStream, batches_of
from training.replay import PLACEMENTS, Replay, replayed
from training.reuse import reused

STORED = 32
"""Samples that a worker hands over at once to the store of a GPU."""


@dataclasses.dataclass(frozen=True)
class RefinerTraining:
    """One training run; two runs on a CPU with equal fields, from the same start, give equal weights. On a GPU what is
    drawn from the store depends on how fast samples come.

    reuse: how often each sample is used (see `reused`).
    kept: samples in the store of a GPU (see `Replay`), which takes the place of `reuse` there.
    """

    size: str = "T"
    crop: int = 128
    reuse: int = 1
    kept: int = 32_768
    steps: int = 9200
    batch: int = 6
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    clip: float = 1.0
    seed: int = 0
    features_until: float = 0.2
    late_from: float = 8 / 15
    alternate_from: float = 0.57
    updates_every: int = 4
    pose_from: float = 0.3
    pose_ramp: float = 0.1

    def features_alone(self, step: int) -> bool:
        """Whether only the features learn at a step, which takes a third of the time.

        At first, because correlation that means nothing teaches no flow; later in most steps, because
        matching and all updates live on them.
        """
        alternating = step >= self.alternate_from * self.steps and step % self.updates_every != 0
        return step < self.features_until * self.steps or alternating

    def pose_share(self, step: int) -> float:
        """Share of the pose loss at a step: solving on flow that is still noise teaches nothing."""
        return min(1.0, max(0.0, (step / self.steps - self.pose_from) / self.pose_ramp))


def train(config: RefinerTraining, folder: Path, *, workers: int, threads: int, save_every: int,
          max_minutes: float | None, start: Path | None = None, log_every: int = 100, device: str = "cpu",
          minutes: float | None = None, eager: bool = False) -> Path:
    """Train, or continue what `folder` holds, and return the path of the exported weights.

    start: weights of the same size that a new run begins with, instead of random numbers. Every `log_every` steps a line
    with the means of these steps goes to `folder`/log.jsonl. minutes: the schedule follows the clock, so that a run of
    unknown speed ends in time; it is a run's own and does not go on in the next. eager: start each kernel of a GPU from Python.

    Raises ValueError when the batch cannot be shared equally by the processes or by a store's placements, when a GPU is to
    be shared, when samples are to be used less than once, or when `start` is of another size, WeightsError when it is
    not a refiner.
    """
    rank, processes = join_processes()
    if config.batch % processes:
        raise ValueError(f"batch: expected a multiple of the {processes} processes, got {config.batch}")
    on_gpu = device != "cpu"
    if on_gpu and (processes > 1 or config.batch % PLACEMENTS):
        raise ValueError(f"device {device}: expected one process and a batch that is a multiple of {PLACEMENTS}, "
                         f"got {processes} and {config.batch}")
    if config.reuse < 1:
        raise ValueError(f"reuse: expected at least 1, got {config.reuse}")
    torch.manual_seed(config.seed)
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    network = GenFlow(SIZES[config.size]).to(device)
    checkpoint, log = folder / "checkpoint.pt", folder / "log.jsonl"
    if start is not None and not checkpoint.exists():
        found = load_config(start, "genflow", GenFlowConfig)
        if found != network.config:
            raise ValueError(f"start {start}: expected a refiner of size {config.size}, got {found}")
        load_weights(start, network)
    replay = Replay(config.kept, device, config.seed) if on_gpu else None
    rates = config.learning_rate, config.weight_decay, config.clip
    learner = Learner(network, *rates) if eager or not on_gpu else RecordedLearner(network, *rates, alone=replay.still)
    optimiser = learner.optimiser
    average = Average(network)
    step = 0
    if checkpoint.exists():
        # The length of the run may change when it is continued; everything else may not.
        same = {k: v for k, v in dataclasses.asdict(config).items() if k != "steps"}
        step = load_checkpoint(checkpoint, config=same, module=network, average=average, optimiser=optimiser)
    pace = Pace(config.steps, minutes)
    share = config.batch // processes
    made, late_from = (-(-s // config.reuse) for s in (step, round(config.late_from * config.steps)))
    stream = PairStream(config.seed, config.crop, made * config.batch, batch=STORED if on_gpu else share,
                        rank=rank, processes=processes, late_from=late_from * config.batch)
    fresh = batches_of(stream, workers)
    samples = (replayed(fresh, replay, share) if on_gpu else
               reused(fresh, config.reuse, [config.seed, rank, step]))

    def keep(step: int) -> Path:
        save_checkpoint(checkpoint, step=step, config=dataclasses.asdict(config), module=network,
                        average=average, optimiser=optimiser)
        path = weights_path(folder, config)
        save_weights(path, average.state, kind="genflow", config=network.config)
        return path

    running, begin = Running(log_every), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=config.steps, initial=step, unit="step", desc=f"refiner {config.size}", mininterval=10,
               disable=rank > 0)
    for batch in samples:
        late = max_minutes is not None and time.monotonic() - begin > 60 * max_minutes
        at = pace.at(step)
        if at >= config.steps or agreed(late, processes):
            break
        figures = learner.learn(batch, config.learning_rate * one_cycle(at, config.steps), config.pose_share(at),
                                config.features_alone(at), lambda network: average_gradients(network, processes))
        average.update(network)
        step += 1
        running.add(**figures)
        bar.update()
        if rank == 0 and step % log_every == 0:
            means = running.means()
            if on_gpu:
                means["made"] = replay.seen
            bar.set_postfix({k: f"{v:.3f}" for k, v in means.items()})
            with log.open("a") as out:
                out.write(json.dumps({"step": step, "seconds": time.monotonic() - begin, **means}) + "\n")
        if rank == 0 and step % save_every == 0:
            keep(step)
    bar.close()
    samples.close()
    return keep(step) if rank == 0 else weights_path(folder, config)


def weights_path(folder: Path, config: RefinerTraining) -> Path:
    """Where a run's averaged weights are written, as fp16 safetensors."""
    return folder / f"genflow_{config.size.lower()}.safetensors"


def main() -> None:
    """Command line of the refiner's training."""
    parser = argparse.ArgumentParser(description=__doc__)
    for field in dataclasses.fields(RefinerTraining):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    parser.add_argument("--folder", type=Path, default=Path("runs/refiner"), help="checkpoints and log")
    parser.add_argument("--init-from", type=Path, help="weights to begin with instead of random numbers")
    parser.add_argument("--workers", type=int, default=1, help="processes that make samples")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network")
    parser.add_argument("--save-every", type=int, default=250, help="steps between checkpoints")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--eager", action="store_true", help="no CUDA graph of the step")
    parser.add_argument("--minutes", type=float, help="the schedule's length on the clock, in place of --steps")
    parser.add_argument("--max-minutes", type=float, help="stop (resumably) after this long")
    args = parser.parse_args()
    config = RefinerTraining(**{f.name: getattr(args, f.name) for f in dataclasses.fields(RefinerTraining)})
    path = train(config, args.folder, workers=args.workers, threads=args.threads, save_every=args.save_every,
                 max_minutes=args.max_minutes, start=args.init_from, device=args.device, minutes=args.minutes,
                 eager=args.eager)
    print(f"weights: {path}")


if __name__ == "__main__":
    main()
