"""Synthetic refiner samples made on a device, a batch at once; how fast: python -m training.device_pairs

The same kinds of samples as those of training.pairs, as tensor operations; batch i of seed s is always the same on the
same device.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import count

import numpy as np
import torch

from flowpose_ros.estimation.batches import join, take
from training.command import command
from training.on_device.layout import Scenes, Starts, draw_layout, on
from training.on_device.light import Lights, draw_lights, shade
from training.on_device.sensor import (ImageSensors, draw_depth_sensors, draw_image_sensors,
                                       largest_own_size, sense_depths, sense_images)
from training.on_device.shelf import PICTURES, PROCEDURAL, Library, Shelf, draw_pictures
from training.on_device.surfaces import look, render_starts, scene_triangles, surfaces_of, with_walls
from training.on_device.targets import flow_targets
from training.pairs import ATTEMPTS, LEAST_PIXELS, LEAST_VISIBLE, PairBatch, PairStream, resized_intrinsics
from training.perturb import SEARCH, Task
from training.pools import tell_data

SCENES = 320
"""Scenes that are made together: what the memory of a device must hold."""
SPARE = 1.1
"""Scenes that are begun for each that is needed: in some the target is hidden."""


class DevicePairMaker:
    """Makes batches of samples of one family of objects on a device; holds objects and pictures there.

    late_from: the first sample whose start is drawn from the task's late mixture; None for none. procedural, pictures:
    how many of each are held.
    """

    def __init__(self, seed: int, size: int = 128, batch: int = 256, device: torch.device | str = "cpu",
                 family: str = "train", late_from: int | None = None, task: Task = SEARCH,
                 procedural: int = PROCEDURAL, pictures: int = PICTURES) -> None:
        self.seed, self.size, self.batch, self.late_from, self.task = seed, size, batch, late_from, task
        self.device = torch.device(device)
        self.stock = Library(seed, family, self.device, procedural)
        self.pictures = draw_pictures(largest_own_size(size), seed, self.device, pictures)

    @torch.no_grad()
    def make(self, index: int) -> PairBatch:
        """Batch `index`; scenes that hide their object are left out and others made."""
        shelf, parts, missing = self.stock.shelf(index), [], self.batch
        late = self.late_from is not None and index * self.batch >= self.late_from
        rounds = ATTEMPTS * -(-self.batch // SCENES)
        for attempt in range(rounds):
            rng = np.random.default_rng([self.seed, index, attempt])
            starts, scenes = draw_layout(min(SCENES, int(np.ceil(SPARE * missing))), shelf, len(self.pictures),
                                         self.size, self.task, late, rng)
            part = self._made(shelf, starts, scenes, missing, rng)
            parts.append(part)
            missing -= len(part.K)
            if not missing:
                return join(parts)
        raise RuntimeError(f"batch {index} of seed {self.seed}: {missing} of {self.batch} targets not visible after "
                           f"{rounds} rounds")

    def _made(self, shelf: Shelf, starts: Starts, scenes: Scenes, most: int, rng: np.random.Generator) -> PairBatch:
        """At most so many samples of starts and scenes, those that show enough of their object."""
        lights, sensors = draw_lights(scenes, rng), draw_image_sensors(len(starts.K), self.size, rng)
        depths = draw_depth_sensors(len(starts.K), rng)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2 ** 63)))
        render, here = render_starts(shelf, starts, self.size), on(starts, self.device)
        there = on(scenes, self.device)
        views, _ = look(there, scene_triangles(shelf, scenes), here.K, self.size)
        clean, of_target = with_walls(views, there.wall), torch.where(views.owner == 0, views.z, 0)
        flow, visible = flow_targets(render, clean, here.T_init, here.T_gt, here.K, 2 * here.radius)
        least = (LEAST_VISIBLE * render.mask.flatten(1).sum(1)).clamp_min(LEAST_PIXELS)
        kept = (visible.flatten(1).sum(1) >= least).nonzero()[:most, 0]
        here, render, clean, of_target, flow, visible = take((here, render, clean, of_target, flow, visible), kept)
        chosen = kept.cpu()
        starts, scenes, lights, sensors, depths = take((starts, scenes, lights, sensors, depths), chosen)
        query = self._query(shelf, starts, scenes, lights, sensors, generator)
        sensed = sense_depths(clean, sensors.own.to(self.device), on(depths, self.device), generator)
        return PairBatch(query, sensed, of_target, render.rgb, render.normal, render.xyz, render.mask, here.K,
                         here.T_init, here.T_gt, here.center, here.radius, 2 * here.radius, here.points, flow, visible,
                         here.angle)

    def _query(self, shelf: Shelf, starts: Starts, scenes: Scenes, lights: Lights, sensors: ImageSensors,
               generator: torch.Generator) -> torch.Tensor:
        """What a camera would give [B,3,S,S] of lit scenes."""
        full = largest_own_size(self.size)
        K = torch.from_numpy(resized_intrinsics(starts.K.numpy(), full / self.size)).to(self.device).float()
        there, part = on(scenes, self.device), scene_triangles(shelf, scenes)
        views, seen = look(there, part, K, full)
        lit = shade(shelf, scenes, lights, views, surfaces_of(shelf, there, self.pictures, part, views, seen))
        behind = self.pictures[there.background].float() / 255
        picture = torch.where((views.owner == -1)[..., None], behind, lit).permute(0, 3, 1, 2)
        return sense_images(picture, views.owner == 0, sensors, self.size, generator)


def device_batches(stream: PairStream, device: torch.device | str, **held: int) -> Iterator[PairBatch]:
    """The batches of a stream, endless, made on a device: what `batches_of` is to samples that workers make. held: what
    `DevicePairMaker` is to hold."""
    maker = DevicePairMaker(stream.seed, stream.size, stream.batch, device, stream.family, stream.late_from,
                            stream.task, **held)
    for index in count(stream.start // stream.batch + stream.rank, stream.processes):
        yield maker.make(index)


def measure(maker: DevicePairMaker, seconds: float) -> str:
    """How many samples a second come, after a first batch that warms up."""
    on_gpu = maker.device.type == "cuda"

    def made(index: int) -> float:
        maker.make(index)
        if on_gpu:
            torch.cuda.synchronize(maker.device)
        return time.monotonic()

    begin = end = made(0)
    batches = 0
    while end < begin + seconds:
        batches += 1
        end = made(batches)
    memory = f", at most {torch.cuda.max_memory_allocated(maker.device) / 2 ** 30:.1f} GiB" if on_gpu else ""
    return f"{batches * maker.batch / (end - begin):.0f} samples/s in batches of {maker.batch}{memory}"


@command
def main() -> None:
    """Command line: measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu")
    parser.add_argument("--family", default="train", choices=("train", "held_out"))
    parser.add_argument("--seconds", type=float, default=20, help="length of the measurement")
    args = parser.parse_args()
    tell_data()
    maker = DevicePairMaker(args.seed, batch=args.batch, device=args.device, family=args.family)
    print(measure(maker, args.seconds))


if __name__ == "__main__":
    main()
