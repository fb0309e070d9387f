"""What a run shows and writes down: a progress bar, log.jsonl, and the same figures with pictures for TensorBoard."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

NO_EVENTS = ("no TensorBoard events are written: pip install -r ros_from_pypi/requirements-training.txt brings what "
             "writes them")


class Journal:
    """The record of a run in its folder, which begins, or goes on, after `step` of `steps`, None where the clock ends
    it.

    What a killed run wrote of later steps is dropped, for they are taken again.
    """

    def __init__(self, folder: Path, name: str, step: int, steps: int | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log.jsonl"
        forget_after(self._log, step)
        self._bar = tqdm(total=steps, initial=step, unit="step", desc=name, mininterval=10)
        if steps is not None and step >= steps:
            self.say(f"{folder} is finished at step {step}; nothing is trained")
        elif step:
            self.say(f"{folder} goes on at step {step}")
        self._events = None
        try:
            self._events = event_writer(folder, step)
        except ImportError:
            self.say(NO_EVENTS)
        except OSError as error:
            self.say(f"no TensorBoard events are written: {error}")
        self._begin = time.monotonic()

    def advance(self) -> None:
        """One step more on the bar."""
        self._bar.update()

    def line(self, step: int, figures: dict[str, float]) -> None:
        """Write a line of figures, with the seconds since this run began or went on."""
        self._bar.set_postfix({k: f"{v:.3f}" for k, v in figures.items()})
        with self._log.open("a") as out:
            out.write(json.dumps({"step": step, "seconds": time.monotonic() - self._begin, **figures}) + "\n")
        for name, value in figures.items():
            self._show(lambda events: events.add_scalar(name, value, step))
        self._show(lambda events: events.flush())

    def picture(self, step: int, draw: Callable[[], np.ndarray]) -> None:
        """Write the picture [H,W,3] uint8 that `draw` makes, which is asked only where it can be written."""
        if self._events is not None:
            picture = draw()
            self._show(lambda events: events.add_image("samples", picture, step, dataformats="HWC"))
            self._show(lambda events: events.flush())

    def say(self, text: str) -> None:
        """Print a line for whoever watches, above the bar."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """End the bar and the events."""
        self._bar.close()
        self._show(lambda events: events.close())

    def _show(self, write: Callable[[Any], None]) -> None:
        """Write events; what goes wrong there, a full disk for instance, is said once, and the run goes on without."""
        if self._events is None:
            return
        try:
            write(self._events)
        except Exception as error:
            self._events = None
            self.say(f"no more TensorBoard events are written: {error}")


def event_writer(folder: Path, step: int):
    """TensorBoard's writer for what comes after `step`; raises ImportError where tensorboard is not installed."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, purge_step=step + 1 if step else None)


def forget_after(log: Path, step: int) -> None:
    """Drop the lines of steps after `step`, and a line that was not written to its end."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if len(kept) < len(lines):
        part = log.with_suffix(".part")
        part.write_text("".join(kept))
        os.replace(part, log)
