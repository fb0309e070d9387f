"""What every trainer here needs: a schedule, an average of the weights, exact checkpoints."""

from __future__ import annotations

import math
import os
import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from training.whole import save_whole


def one_cycle(step: int, steps: int, warm_up: float = 0.05, floor: float = 0.01) -> float:
    """Share of the peak learning rate: linear rise, then a cosine down to `floor`."""
    rise = max(1.0, warm_up * steps)
    if step < rise:
        return min(1.0, (step + 1) / rise)
    done = min(1.0, (step - rise) / max(1.0, steps - rise))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Pace:
    """Where a run stands in its schedule: at its step or, when it has `minutes` instead of steps, at the share of
    them that has gone by since the first step, told in steps."""

    steps: int
    minutes: float | None = None
    begin: float | None = None

    def at(self, step: int) -> int:
        """The step of the schedule, `steps` when it is over."""
        if self.minutes is None:
            return step
        self.begin = time.monotonic() if self.begin is None else self.begin
        return min(self.steps, int(self.steps * (time.monotonic() - self.begin) / (60 * self.minutes)))


def join_processes() -> tuple[int, int]:
    """(rank, number) of this process among those that torchrun started; (0, 1) when it is alone."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("gloo")  # gradients lie on the CPU, with or without a GPU beside it
    return dist.get_rank(), dist.get_world_size()


def average_gradients(module: nn.Module, processes: int) -> None:
    """Replace each gradient by its mean over all processes."""
    if processes == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, (flat / processes).split([g.numel() for g in gradients])):
        gradient.copy_(mean.view_as(gradient))


def agreed(wish: bool, processes: int) -> bool:
    """Whether any process wishes it, so that all do the same."""
    if processes == 1:
        return wish
    votes = torch.tensor(float(wish))
    dist.all_reduce(votes)
    return bool(votes > 0)


def said_by_first(number: int, processes: int) -> int:
    """The number that the first process has: clocks differ, and all must do the same."""
    if processes == 1:
        return number
    said = torch.tensor(number)
    dist.broadcast(said, 0)
    return int(said)


def descend(module: nn.Module, optimiser: torch.optim.Optimizer, average: Average, loss: torch.Tensor,
            learning_rate: float) -> None:
    """One step of a module down the gradient of a loss, cut to a norm of 1, and into the average of its weights."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()
    average.update(module)


class Average:
    """Exponential moving average of a module's state, warmed up so that early steps count less."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}
        self.count = torch.zeros((), device=next(iter(self.state.values())).device)

    def update(self, module: nn.Module, skipped: torch.Tensor | float = 0.0) -> None:
        """Take in the module's present state; skipped: 1 after a step that changed nothing, which does not count.

        All on the device, so that nobody waits for a GPU.
        """
        self.count += 1 - skipped
        decay = ((1 + self.count) / (10 + self.count)).clamp_max(self.decay)
        share = (1 - decay) * (1 - skipped)
        present = module.state_dict()
        real = [k for k, v in present.items() if v.is_floating_point()]
        with torch.no_grad():
            average = [self.state[k] for k in real]
            steps = torch._foreach_sub([present[k] for k in real], average)
            torch._foreach_mul_(steps, share)
            torch._foreach_add_(average, steps)
            for k in present.keys() - set(real):
                self.state[k].copy_(present[k])


def differing(found: dict, wanted: dict, where: str) -> str:
    """What is wanted and is another, or nothing, in what was found `where`: in words, none where all is the same."""
    return ", ".join(f"{name}: {where} {found.get(name)!r}, asked for {value!r}" for name, value in wanted.items()
                     if found.get(name) != value)


def save_checkpoint(path: Path, *, step: int, config: dict, module: nn.Module, average: Average,
                    optimiser: torch.optim.Optimizer) -> None:
    """Write everything that an exact continuation needs (see `save_whole`, which says what it raises)."""
    save_whole(path, {"step": step, "config": config, "module": module.state_dict(), "average": average.state,
                      "average_count": int(average.count), "optimiser": optimiser.state_dict(),
                      "torch_rng": torch.get_rng_state()})


def load_checkpoint(path: Path, *, config: dict, module: nn.Module, average: Average,
                    optimiser: torch.optim.Optimizer) -> int:
    """Restore a checkpoint and return its step.

    Raises ValueError naming the differences when it was made with another configuration, or the file when it is broken.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"checkpoint {path}: expected a whole one, got a broken file ({reason}); without it the run "
                         "begins anew") from error
    others = differing(saved["config"], config, "checkpoint")
    if others:
        raise ValueError(f"{path}: made with another configuration ({others})")
    module.load_state_dict(saved["module"])
    average.count.fill_(saved["average_count"])
    for name, value in saved["average"].items():  # in place: on the device where the module is
        average.state[name].copy_(value)
    optimiser.load_state_dict(saved["optimiser"])
    torch.set_rng_state(saved["torch_rng"])
    return int(saved["step"])


class Running:
    """Mean of recent figures, for a progress line that does not jump."""

    def __init__(self, window: int = 100) -> None:
        self.window = window
        self.values: dict[str, list[torch.Tensor | float]] = {}

    def add(self, **figures: torch.Tensor | float) -> None:
        """Take in one step's figures; numbers on a GPU are not read before a mean is asked for."""
        for name, value in figures.items():
            kept = self.values.setdefault(name, [])
            kept.append(value)
            del kept[:-self.window]

    def means(self) -> dict[str, float]:
        """Mean of each figure over the window, of its finite values; a figure without any is left out."""
        finite = {name: [x for x in map(float, v) if math.isfinite(x)] for name, v in self.values.items()}
        return {name: float(np.mean(values)) for name, values in finite.items() if values}
