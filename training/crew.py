"""Synthetic scenes worked through by processes side by side; what is made of each is kept in a file of its own, so that
a killed command goes on."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm import tqdm

from flowpose_ros.estimation.networks import Networks
from flowpose_ros.networks.weights import file_hash
from training.loop import differing
from training.whole import save_whole

RECORD = "made_with.json"
"""Beside the scenes: what they were made with."""

_own: Callable[[int], Any]


def settings_of(networks: Networks, family: str, seed: int) -> dict:
    """What decides the scenes of a folder: hash of the features and of all weights, family of objects, seed."""
    files = [f"{path.name} {file_hash(path)}" for path in sorted(networks.folder.glob("*.safetensors"))]
    weights = hashlib.sha256("\n".join(files).encode()).hexdigest()
    return {"features": networks.fingerprint, "weights": weights, "family": family, "seed": seed}


def claim(folder: Path, settings: dict) -> None:
    """Say in a folder what its scenes are made with; raises ValueError when it has scenes of other settings."""
    record = folder / RECORD
    if not record.exists() and not any(folder.glob("*.pt")):
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(settings, indent=1) + "\n")
    others = differing(made_with(folder), settings, "there")
    if others:
        raise ValueError(f"{folder}: expected scenes made with these settings, got others ({others}); "
                         "choose another --folder")


def made_with(folder: Path) -> dict:
    """What the scenes of a folder are made with; nothing where they do not say."""
    record = folder / RECORD
    return json.loads(record.read_text()) if record.exists() else {}


def kept_scenes(folder: Path) -> list[Any]:
    """What was made of each scene, in their order."""
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))]


def work_through(folder: Path, settings: dict, count: int, processes: int, make: Callable, *args: Any) -> None:
    """Write to `folder` what `make(*args)`, which each process has of its own, gives for each of `count` scenes that is
    not there yet.

    What the processes keep of objects, which are seen once, is thrown away at the end. Raises ValueError when the
    folder has scenes of other settings, ChildProcessError when a process ends before its work.
    """
    claim(folder, settings)
    paths = {index: folder / f"{index:06d}.pt" for index in range(count)}
    missing = [(index, path) for index, path in paths.items() if not path.exists()]
    if not missing:
        return
    with TemporaryDirectory() as cache:
        crew = ProcessPoolExecutor(processes, get_context("spawn"), _begin, (cache, make, args))
        try:
            done = as_completed([crew.submit(_write, *scene) for scene in missing])
            for future in tqdm(done, total=len(missing), unit="scene", desc=folder.name, disable=None):
                future.result()
        except BrokenProcessPool as error:
            raise ChildProcessError(f"{folder}: expected {processes} processes that work through scenes, got one that "
                                    "ended (killed, or out of memory); the same command goes on") from error
        finally:
            crew.shutdown(cancel_futures=True)


def _begin(cache: str, make: Callable, args: tuple) -> None:
    global _own
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is for all: it ends a worker without a word
    torch.set_num_threads(1)
    os.environ["FLOWPOSE_CACHE"] = cache
    _own = make(*args)


def _write(index: int, path: Path) -> None:
    save_whole(path, _own(index))
