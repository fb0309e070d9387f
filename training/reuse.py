"""Samples used again, turned: on a CPU, making a sample takes a good part of the time of learning from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from training.pairs import PairBatch, collate

KEPT = 400
"""Batches that are kept for use again; at 128 pixels a sample takes 1 MB."""


def reused(fresh: Iterable[PairBatch], times: int, seed: list[int], kept: int = KEPT) -> Iterator[PairBatch]:
    """Each batch of `fresh`, and after it `times` - 1 batches of as many samples drawn from the last `kept`
    batches, each turned about its optical axis by some quarter turns.

    Only what was seen since the call is drawn: an interrupted run goes on with other samples than an
    uninterrupted one when `times` > 1.
    """
    if times == 1:  # nothing to keep
        yield from fresh
        return
    rng = np.random.default_rng(seed)
    seen: deque[PairBatch] = deque(maxlen=kept)
    for batch in fresh:
        yield batch
        seen.append(batch)
        for _ in range(times - 1):
            drawn = [_sample(seen[rng.integers(len(seen))], rng) for _ in range(len(batch.K))]
            yield collate([quarter_turned(sample, int(rng.integers(4))) for sample in drawn])


def _sample(batch: PairBatch, rng: np.random.Generator) -> PairBatch:
    index = int(rng.integers(len(batch.K)))
    return PairBatch(**{name: value[index:index + 1] for name, value in vars(batch).items()})


def quarter_turned(batch: PairBatch, turns: int) -> PairBatch:
    """The samples as the crop's camera sees them after turning about its axis, clockwise in the picture by
    `turns` quarters. K stays: a crop's axis passes through its middle, and its pixels are square.
    """
    if turns % 4 == 0:
        return batch
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], device=batch.K.device)  # y down
    R = torch.linalg.matrix_power(quarter, turns % 4)
    T = torch.eye(4, device=batch.K.device)
    T[:3, :3] = R

    def picture(values: torch.Tensor) -> torch.Tensor:
        return values.rot90(-turns, (-2, -1)).contiguous()

    return replace(
        batch, query_rgb=picture(batch.query_rgb), query_depth=picture(batch.query_depth),
        target_depth=picture(batch.target_depth),
        render_rgb=picture(batch.render_rgb), render_xyz=picture(batch.render_xyz),
        render_normal=torch.einsum("ij,bjhw->bihw", R, picture(batch.render_normal)),
        render_mask=picture(batch.render_mask), visible=picture(batch.visible),
        gt_flow=torch.einsum("ij,bjhw->bihw", R[:2, :2], picture(batch.gt_flow)),
        T_init=T @ batch.T_init, T_gt=T @ batch.T_gt)
