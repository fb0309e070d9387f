"""Samples that are made once, kept in a file, and given to several trainings in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from tqdm import tqdm

from training.whole import save_whole

Sample = TypeVar("Sample")


def kept_samples(path: Path, kind: type[Sample], made: Iterable[Sample], count: int, device: str) -> list[Sample]:
    """The first `count` samples of `made`, of class `kind`, on a device; read from `path` where that exists, else
    made and written there. Whoever names the file sees to it that its name tells what is in it.
    """
    if not path.exists():
        # Copies: what a worker hands over keeps a file open for each tensor.
        samples = [{name: value.clone() for name, value in vars(sample).items()}
                   for sample in tqdm(islice(made, count), total=count, unit="sample", desc=path.stem, mininterval=10)]
        save_whole(path, samples)
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return [kind(**{f.name: sample[f.name].to(device) for f in fields(kind)}) for sample in loaded]


def drawn(samples: list[Sample], count: int, rng: np.random.Generator) -> Iterator[list[Sample]]:
    """`count` samples at a time, for ever: all in a random order, then all again in another. What is left at the end
    and too few is not used that time.

    Raises ValueError when there are fewer than `count`.
    """
    if len(samples) < count:
        raise ValueError(f"samples: expected at least one batch of {count}, got {len(samples)}")
    while True:
        order = rng.permutation(len(samples))
        for first in range(0, len(samples) - count + 1, count):
            yield [samples[i] for i in order[first:first + count]]
