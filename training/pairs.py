"""Synthetic refiner samples made on the fly.

Sample i of seed s is always the same, whoever makes it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from flowpose_ros.geometry.camera import CropCamera
from flowpose_ros.geometry.crops import crop_for_poses
from flowpose_ros.rendering.raycast import RaycastRenderer
from training.gbuffer import GBuffer, Instance, Scene, render_gbuffer, scene_depths, target_depth, with_wall
from training.lighting import random_lighting, shade
from training.perturb import SEARCH, StartMixture, Task, perturb_pose
from training.pools import Backgrounds, ObjectPool, PoolObject
from training.scene import compose_scene, random_material
from training.sensor import sense_depth, sense_image
from training.targets import flow_target

LEAST_VISIBLE = 0.2
LEAST_PIXELS = 60
LEAST_OWN_SIZE = 40
"""A crop spans at least this many pixels of the camera's own image."""
FLAT_SHARE = 0.15
"""Share of samples whose templates have no texture; in half of these the real object has none either."""
ATTEMPTS = 20


@dataclass(frozen=True)
class PairBatch:
    """B samples; crops S x S of one virtual camera per sample.

    query_rgb [B,3,S,S] in [0,1]; query_depth [B,S,S] sensor depth, metres along the crop's z, 0
    invalid; target_depth [B,S,S] clean depth of the object where the query shows it, 0 elsewhere;
    render_rgb, render_normal, render_xyz [B,3,S,S] and render_mask [B,S,S] of the render at T_init;
    K [B,3,3]; T_init, T_gt [B,4,4] object to crop camera; center [B,3], radius [B],
    diameter [B] metres; points [B,256,3] on the surface; gt_flow [B,2,S,S] pixels from render to
    query; visible [B,S,S] bool; start_angle [B] radians.
    """

    query_rgb: torch.Tensor
    query_depth: torch.Tensor
    target_depth: torch.Tensor
    render_rgb: torch.Tensor
    render_normal: torch.Tensor
    render_xyz: torch.Tensor
    render_mask: torch.Tensor
    K: torch.Tensor
    T_init: torch.Tensor
    T_gt: torch.Tensor
    center: torch.Tensor
    radius: torch.Tensor
    diameter: torch.Tensor
    points: torch.Tensor
    gt_flow: torch.Tensor
    visible: torch.Tensor
    start_angle: torch.Tensor


def collate(samples: list[PairBatch]) -> PairBatch:
    """One batch of samples that are batches of one."""
    return PairBatch(*(torch.cat([getattr(s, f.name) for s in samples]) for f in fields(PairBatch)))


class PairMaker:
    """Makes samples of one family of objects; holds what is costly to load.

    late_from: the first sample whose start is drawn from the task's late mixture; None for none.
    """

    def __init__(self, seed: int, size: int = 128, family: str = "train", late_from: int | None = None,
                 task: Task = SEARCH) -> None:
        self.seed, self.size, self.late_from, self.task = seed, size, late_from, task
        self.pool, self.backgrounds = ObjectPool(family), Backgrounds()
        self.renderer = RaycastRenderer()

    def sample(self, index: int) -> PairBatch:
        """Sample `index`, a batch of one."""
        return self.sample_with_object(index)[0]

    def sample_with_object(self, index: int) -> tuple[PairBatch, PoolObject]:
        """Sample `index` and the object as its templates show it; a scene that hides it is drawn again."""
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng([self.seed, index, attempt])
            # The procedural seeds advance slowly, so that a loaded object serves many samples.
            slow = int(self.seed * 1_000_003 + index // 24 + rng.integers(0, 48))
            real = self.pool.draw(rng, slow)
            known = real.flat if rng.random() < FLAT_SHARE else real
            late = self.late_from is not None and index >= self.late_from
            made = self._attempt(known, real if rng.random() < 0.5 else known, slow, rng,
                                 self.task.late if late else self.task.early)
            if made is not None:
                return made, known
        raise RuntimeError(f"sample {index} of seed {self.seed}: no visible target in {ATTEMPTS} attempts")

    def _attempt(self, known: PoolObject, real: PoolObject, seed: int, rng: np.random.Generator,
                 mixture: StartMixture) -> PairBatch | None:
        """A sample whose render shows `known` and whose query shows `real`; None if little is seen."""
        mesh = known.mesh
        points = mesh.surface_points(256, seed=0)
        start = self._start(known, points, rng, mixture)
        if start is None:
            return None
        T_real, T_gt, T_init, K = start
        render = self.renderer.render(mesh, torch.from_numpy(T_init).float()[None],
                                      torch.from_numpy(K).float()[None], (self.size, self.size))
        rgb, normal, xyz, mask = (part[0].numpy() for part in (render.rgb, render.normal, render.xyz, render.mask))
        target = Instance(real.mesh, T_real, random_material(rng))
        scene = compose_scene(target, self.pool, self.backgrounds, self.size, seed, rng)
        own_size = int(np.exp(rng.uniform(*np.log([LEAST_OWN_SIZE, 1.5 * self.size]))))
        clean = self._clean_view(scene, K, max(self.size, own_size))
        truth = flow_target(xyz, normal, mask, clean.depth, T_init, T_gt, K, 2 * mesh.radius)
        if truth.visible.sum() < max(LEAST_PIXELS, LEAST_VISIBLE * float(mask.sum())):
            return None
        query = sense_image(self._lit(clean.buffer, scene, rng), clean.target, own_size, self.size, rng)
        turn = Rotation.from_matrix(T_gt[:3, :3].T @ T_init[:3, :3]).magnitude()
        values = (query.transpose(2, 0, 1), sense_depth(clean.depth, own_size, rng), clean.target_depth, rgb,
                  normal, xyz, mask, K, T_init, T_gt, mesh.center, mesh.radius, 2 * mesh.radius, points, truth.flow,
                  truth.visible, turn)
        return PairBatch(*(_tensor(value)[None] for value in values))

    def _start(self, known: PoolObject, points: np.ndarray, rng: np.random.Generator, mixture: StartMixture):
        """T_real, T_gt, T_init [4,4] object to crop camera and K [3,3] of the crop of T_init.

        T_real places the object in the query; T_gt is its symmetric equivalent nearest to T_init.
        None when the start is so near that the camera would touch the object.
        """
        mesh = known.mesh
        T_real = random_pose(mesh.center, mesh.radius, rng)
        T_init = perturb_pose(T_real, mesh.center, 2 * mesh.radius, rng, mixture)
        if (T_init[:3, :3] @ mesh.center + T_init[:3, 3])[2] < 1.2 * mesh.radius:
            return None
        T_gt = known.symmetries.nearest(T_real, T_init)
        crop = self._crop(torch.from_numpy(points).double(), *torch.from_numpy(np.stack([T_gt, T_init])),
                          float(self.task.draw_padding(1, rng)[0]))
        poses = crop.to_crop(torch.from_numpy(np.stack([T_real, T_gt, T_init])))
        return *poses.numpy(), crop.K[0].numpy()

    def _crop(self, points: torch.Tensor, T_gt: torch.Tensor, T_init: torch.Tensor, padding: float) -> CropCamera:
        """The crop that the refiner would take: around the start."""
        return crop_for_poses(points, T_init[None], self.size, padding)

    def _clean_view(self, scene: Scene, K: np.ndarray, size: int) -> CleanView:
        """The scene at `size` x `size` pixels, and its depths at the crop's own size."""
        own = (self.size, self.size)
        buffer = render_gbuffer(self.renderer, scene, resized_intrinsics(K, size / self.size), (size, size))
        if size == self.size:
            depths = with_wall(buffer.z, buffer.rays, scene.wall), target_depth(buffer.z, buffer.owner)
        else:
            depths = scene_depths(self.renderer, scene, K, own)
        depth, of_target = (d.reshape(own) for d in depths)
        return CleanView(buffer, depth, of_target, buffer.owner.reshape(size, size) == 0)

    def _lit(self, buffer: GBuffer, scene: Scene, rng: np.random.Generator) -> np.ndarray:
        """The lit scene before its background [Q,Q,3]."""
        target = scene.instances[0]
        picture = shade(buffer, scene, random_lighting(target.center, 3 * target.radius, rng), self.renderer)
        behind = cv2.resize(scene.background, buffer.size[::-1])
        return np.where((buffer.owner != -1).reshape(*buffer.size, 1), picture, behind).astype(np.float32)


@dataclass(frozen=True)
class CleanView:
    """A scene without light or sensor: its surfaces at Q x Q, depth [S,S] metres (0 where there is
    nothing), target_depth [S,S] that of the object alone, target [Q,Q] bool where the object is seen."""

    buffer: GBuffer
    depth: np.ndarray
    target_depth: np.ndarray
    target: np.ndarray


def resized_intrinsics(K: np.ndarray, factor: float) -> np.ndarray:
    """K [...,3,3] of the same view with `factor` times the pixels; integer coordinates are pixel centres."""
    K_new = K.copy()
    K_new[..., :2, :] *= factor
    K_new[..., :2, 2] += (factor - 1) / 2
    return K_new


def _tensor(value) -> torch.Tensor:
    tensor = torch.as_tensor(np.asarray(value)).contiguous()
    return tensor if tensor.dtype == torch.bool else tensor.float()


def random_pose(center: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """T_cam_obj [4,4] of an object seen from anywhere, at 3.5 to 25 of its radii, up to 29 degrees off axis."""
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    z = radius * np.exp(rng.uniform(np.log(3.5), np.log(25)))
    T[:3, 3] = np.append(rng.uniform(-0.4, 0.4, 2) * z, z) - T[:3, :3] @ center
    return T


class PairStream(IterableDataset):
    """Endless samples from `start_index`: process `rank` of `processes` makes every so many-th batch of
    `batch` samples, in order, and its loader's workers take these in turn."""

    def __init__(self, seed: int, size: int = 128, start_index: int = 0, family: str = "train",
                 batch: int = 1, rank: int = 0, processes: int = 1, late_from: int | None = None,
                 task: Task = SEARCH) -> None:
        self.seed, self.size, self.start, self.family, self.batch = seed, size, start_index, family, batch
        self.rank, self.processes, self.late_from, self.task = rank, processes, late_from, task

    def make(self, maker: PairMaker, index: int) -> PairBatch:
        """Sample `index`, always the same."""
        return maker.sample(index)

    def __iter__(self) -> Iterator[PairBatch]:
        worker = get_worker_info()
        if worker:  # without workers, the threads are those of whoever asks
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for all: whoever asks ends the workers
            torch.set_num_threads(1)
            cv2.setNumThreads(1)
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        maker = PairMaker(self.seed, self.size, self.family, self.late_from, self.task)
        # A loader takes whole batches from its workers in turn.
        first = self.start + (number * self.processes + self.rank) * self.batch
        while True:
            for index in range(first, first + self.batch):
                yield self.make(maker, index)
            first += workers * self.processes * self.batch


def batches_of(stream: PairStream, workers: int, join: Callable = collate) -> DataLoader:
    """Batches of a stream, made ahead by `workers` processes (0: as they are asked for).

    The processes are spawned: a fork copies locks that the threads of ray casting hold, and then waits
    for ever.
    """
    ahead = {"multiprocessing_context": "spawn", "prefetch_factor": 4} if workers else {}
    # A loader draws a seed for its workers: from its own generator, so that the caller's stays untouched.
    return DataLoader(stream, batch_size=stream.batch, num_workers=workers, collate_fn=join,
                      generator=torch.Generator(), **ahead)
