"""What every trainer here needs: a schedule, an average of the weights, exact checkpoints."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn


def one_cycle(step: int, steps: int, warm_up: float = 0.05, floor: float = 0.01) -> float:
    """Share of the peak learning rate: linear rise, then a cosine down to `floor`."""
    rise = max(1.0, warm_up * steps)
    if step < rise:
        return (step + 1) / rise
    done = min(1.0, (step - rise) / max(1.0, steps - rise))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


class Average:
    """Exponential moving average of a module's state, warmed up so that early steps count less."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.count = 0
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    def update(self, module: nn.Module) -> None:
        """Take in the module's present state."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        with torch.no_grad():
            for k, v in module.state_dict().items():
                self.state[k].lerp_(v, 1 - decay) if v.is_floating_point() else self.state[k].copy_(v)


def save_checkpoint(path: Path, *, step: int, config: dict, module: nn.Module, average: Average,
                    optimiser: torch.optim.Optimizer) -> None:
    """Write everything that an exact continuation needs; the old file stays whole until the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save({"step": step, "config": config, "module": module.state_dict(), "average": average.state,
                "average_count": average.count, "optimiser": optimiser.state_dict(),
                "torch_rng": torch.get_rng_state()}, part)
    os.replace(part, path)


def load_checkpoint(path: Path, *, config: dict, module: nn.Module, average: Average,
                    optimiser: torch.optim.Optimizer) -> int:
    """Restore a checkpoint and return its step.

    Raises ValueError naming the differences when it was made with another configuration.
    """
    saved = torch.load(path, map_location="cpu", weights_only=True)
    differing = {k: (saved["config"].get(k), v) for k, v in config.items() if saved["config"].get(k) != v}
    if differing:
        lines = ", ".join(f"{k}: checkpoint {a!r}, asked for {b!r}" for k, (a, b) in differing.items())
        raise ValueError(f"{path}: made with another configuration ({lines})")
    module.load_state_dict(saved["module"])
    average.state, average.count = saved["average"], saved["average_count"]
    optimiser.load_state_dict(saved["optimiser"])
    torch.set_rng_state(saved["torch_rng"])
    return int(saved["step"])


class Running:
    """Median of recent figures, for a progress line that does not jump."""

    def __init__(self, window: int = 100) -> None:
        self.window = window
        self.values: dict[str, list[float]] = {}

    def add(self, **figures: float) -> None:
        """Take in one step's figures."""
        for name, value in figures.items():
            kept = self.values.setdefault(name, [])
            kept.append(value)
            del kept[:-self.window]

    def means(self) -> dict[str, float]:
        """Mean of each figure over the window."""
        return {name: float(np.mean(v)) for name, v in self.values.items()}
