"""A store of samples on the device, drawn from again and again under other symmetries of the picture and
other colours: a GPU learns from samples several times as fast as processors make them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from flowpose_ros.errors import MemoryShortageError
from flowpose_ros.estimation.batches import is_memory_shortage, take
from training.pairs import PairBatch, collate
from training.reuse import quarter_turned
from training.shortage import largest_count

LEAST = 1024
"""Samples in store before the first is drawn; fewer would be learnt by heart."""
PLACEMENTS = 8
"""Quarter turns, mirrored or not."""


class Replay:
    """The newest samples up to `capacity`, on `device`; at 128 pixels a sample takes 1.2 MB."""

    def __init__(self, capacity: int, device: torch.device | str, seed: int) -> None:
        self.capacity, self.device = capacity, torch.device(device)
        self.seen = 0
        self._store: PairBatch | None = None
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._whole = threading.Lock()
        self.still = threading.Lock()
        self._copies = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, batch: PairBatch) -> None:
        """Store a batch over the oldest samples; waits while someone holds `still`.

        Raises MemoryShortageError naming a capacity that fits when memory does not suffice for it.
        """
        with self.still:
            self._add(batch)

    def _add(self, batch: PairBatch) -> None:
        if self._store is None:
            self._store = self._room_like(batch)
        place = torch.arange(self.seen, self.seen + len(batch.K), device=self.device) % self.capacity
        moved = self._moved(batch)
        with self._whole:
            for name, value in moved.items():
                getattr(self._store, name)[place] = value
            self.seen += len(batch.K)

    def _room_like(self, batch: PairBatch) -> PairBatch:
        """A store for `capacity` samples like those of a batch."""
        def room(count: int) -> PairBatch:
            return PairBatch(**{name: torch.empty(count, *value.shape[1:], dtype=value.dtype, device=self.device)
                                for name, value in vars(batch).items()})

        try:
            return room(self.capacity)
        except Exception as error:
            if not is_memory_shortage(error):
                raise
            reason = str(error)
        fits = largest_count(room, self.capacity, PLACEMENTS)
        raise MemoryShortageError(f"kept: expected as many samples as the memory of {self.device} suffices for, got "
                                  f"{self.capacity}; {f'--kept {fits} fits' if fits else 'not even a few fit'} "
                                  f"({reason})")

    def _moved(self, batch: PairBatch) -> dict[str, torch.Tensor]:
        """The batch's tensors on the device. A GPU copies them beside its work: on the stream of the training, each
        copy would wait for all that stands in the queue."""
        if self._copies is None:
            return {name: value.to(self.device) for name, value in vars(batch).items()}
        with torch.cuda.stream(self._copies):
            moved = {name: value.to(self.device) for name, value in vars(batch).items()}
        work = torch.cuda.current_stream(self.device)
        work.wait_stream(self._copies)
        for value in moved.values():
            value.record_stream(work)
        return moved

    def draw(self, count: int) -> PairBatch:
        """`count` samples, each placed and coloured anew; count is a multiple of PLACEMENTS."""
        picked = torch.randint(len(self), (count,), generator=self._generator, device=self.device)
        share = count // PLACEMENTS
        with self._whole:
            parts = [self._placed(picked[k * share:(k + 1) * share], k) for k in range(PLACEMENTS)]
        return recoloured(collate(parts), self._generator)

    def _placed(self, picked: torch.Tensor, placement: int) -> PairBatch:
        part = take(self._store, picked)
        return quarter_turned(mirrored(part) if placement >= 4 else part, placement % 4)


def mirrored(batch: PairBatch) -> PairBatch:
    """The samples of a mirror image of each object, seen in a mirror: left and right change places in the picture,
    x and -x in the camera and in the object's frame. Poses stay proper; K stays, as a crop's axis passes through
    its middle."""
    sign = torch.tensor([-1.0, 1.0, 1.0], device=batch.K.device)
    both = torch.diag(torch.cat([sign, sign.new_ones(1)]))

    def picture(values: torch.Tensor) -> torch.Tensor:
        return values.flip(-1)

    def across(vectors: torch.Tensor) -> torch.Tensor:
        return picture(vectors) * sign[:vectors.shape[1], None, None]

    return replace(
        batch, query_rgb=picture(batch.query_rgb), query_depth=picture(batch.query_depth),
        target_depth=picture(batch.target_depth),
        render_rgb=picture(batch.render_rgb), render_xyz=across(batch.render_xyz),
        render_normal=across(batch.render_normal), render_mask=picture(batch.render_mask),
        visible=picture(batch.visible), gt_flow=across(batch.gt_flow), center=batch.center * sign,
        points=batch.points * sign, T_init=both @ batch.T_init @ both, T_gt=both @ batch.T_gt @ both)


def recoloured(batch: PairBatch, generator: torch.Generator) -> PairBatch:
    """Colour channels change places, in query and render alike; the query's contrast and brightness change a little
    (both as in training.sensor)."""
    B, device = len(batch.K), batch.K.device
    order = torch.rand(B, 3, generator=generator, device=device).argsort(1)[..., None, None]
    index = order.expand(-1, -1, *batch.query_rgb.shape[-2:])
    contrast = torch.exp(0.1 * torch.randn(B, 1, 1, 1, generator=generator, device=device))
    brightness = 0.03 * torch.randn(B, 3, 1, 1, generator=generator, device=device)
    query = (batch.query_rgb.gather(1, index) - 0.45) * contrast + 0.45 + brightness
    return replace(batch, query_rgb=query.clamp(0, 1), render_rgb=batch.render_rgb.gather(1, index))


def restocked(fresh: Iterable[PairBatch], replay: Replay, times: int, count: int) -> Iterator[PairBatch]:
    """For each batch of `fresh`, which goes into `replay`, `times` batches of `count` samples drawn from there; where
    each is used once, the batches of `fresh` as they are."""
    if times == 1:  # nothing to store
        yield from fresh
        return
    for batch in fresh:
        replay.add(batch)
        for _ in range(times):
            yield replay.draw(count)


def replayed(fresh: Iterable[PairBatch], replay: Replay, count: int, least: int = LEAST) -> Iterator[PairBatch]:
    """Batches of `count` samples drawn from `replay`, which a thread keeps filling from `fresh`, until the caller
    stops. An error of `fresh` is raised here."""
    stop, enough, failed = threading.Event(), threading.Event(), []

    def fill() -> None:
        try:
            for batch in fresh:
                if stop.is_set():
                    return
                replay.add(batch)
                if len(replay) >= min(least, replay.capacity):
                    enough.set()
        except Exception as error:
            failed.append(error)
        finally:
            enough.set()

    thread = threading.Thread(target=fill, name="replay", daemon=True)
    thread.start()
    try:
        enough.wait()
        while not failed and len(replay):
            yield replay.draw(count)
        if failed:
            raise failed[0]
    finally:
        stop.set()
        thread.join(timeout=30)
