"""Objects on a device, many at once: one table of all their triangles, from which scenes are put together there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from flowpose_ros.geometry.rotations import super_fibonacci
from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.rendering.raster import MeshTable
from training.pools import PROCEDURAL_SHARE, Backgrounds, ObjectPool, PoolObject

POINTS = 256
SUPPORT = super_fibonacci(100)[:, :, 2]
"""Directions [100,3] in which the outermost vertices of an object are kept."""
MOST_SYMMETRIES = 32
PROCEDURAL = 512
"""Procedural objects on a shelf."""
RENEWED = 32
"""Procedural objects that are replaced at once, the oldest."""
BATCHES = 128
"""Batches that are made from one shelf."""
PICTURES = 1024


@dataclass(frozen=True)
class Forms:
    """What is drawn by, on the CPU, of M entries: first and count [M] of their triangles in the table; center [M,3],
    radius [M], points [M,256,3] on the surface, support [M,100,3] outermost vertices, metres; discrete [M,32,4,4]
    symmetries, the identity first and where there are fewer; axis [M,2,3] direction and offset, 0 for none."""

    first: np.ndarray
    count: np.ndarray
    center: np.ndarray
    radius: np.ndarray
    points: np.ndarray
    support: np.ndarray
    discrete: np.ndarray
    axis: np.ndarray


@dataclass(frozen=True)
class Shelf:
    """Entries 2k and 2k + 1 are object k as it looks and without its texture; the first `scanned` objects are scans."""

    mesh: MeshTable
    forms: Forms
    scanned: int = 0

    def draw(self, size: int | tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Random objects, in the proportion of `ObjectPool`."""
        objects = len(self.forms.first) // 2
        made = (rng.random(size) < PROCEDURAL_SHARE) | (self.scanned == 0)
        return np.where(made, rng.integers(self.scanned, objects, size), rng.integers(0, max(1, self.scanned), size))


def shelf_of(things: Sequence[PoolObject], device: torch.device | str) -> Shelf:
    """The objects with their triangles on a device.

    Raises ValueError for an object with two axes of revolution or more than MOST_SYMMETRIES discrete symmetries.
    """
    on = torch.device(device)
    return joined([entry for thing in things for entry in _pair(thing, on)])


def joined(shelves: Sequence[Shelf]) -> Shelf:
    """One shelf of all entries, in order; it says nothing of scans."""
    faces = np.cumsum([0] + [len(s.mesh.table) for s in shelves])
    forms = [replace(s.forms, first=s.forms.first + face) for s, face in zip(shelves, faces)]
    return Shelf(MeshTable.join([s.mesh for s in shelves]),
                 Forms(*(np.concatenate([vars(f)[name] for f in forms]) for name in vars(forms[0]))))


def _pair(thing: PoolObject, device: torch.device) -> list[Shelf]:
    """An object's two entries, a shelf each."""
    mesh = thing.mesh
    looks = MeshTable.of(mesh, device)
    plain = looks.table.clone()
    plain[:, :, :3] = torch.from_numpy(thing.flat.mesh.colors[0]).to(device)
    bare = MeshTable(plain, torch.full_like(looks.texture, -1), looks.texels[:0], looks.pages[:0])
    extreme = mesh.vertices[(mesh.vertices @ SUPPORT.T.astype(np.float32)).argmax(0)]
    shape = [np.array([0]), np.array([len(mesh.faces)]), *(np.asarray(value, np.float64)[None] for value in (
        mesh.center, mesh.radius, mesh.surface_points(POINTS), extreme))]
    return [Shelf(table, Forms(*shape, *_symmetries(group)))
            for table, group in ((looks, thing.symmetries), (bare, thing.shape_symmetries))]


def _symmetries(group: SymmetryGroup) -> tuple[np.ndarray, np.ndarray]:
    """`Forms.discrete` and `Forms.axis` of one entry."""
    if len(group.axes) > 1 or len(group.discrete) >= MOST_SYMMETRIES:
        raise ValueError(f"symmetries: expected at most one axis and {MOST_SYMMETRIES - 1} discrete ones, "
                         f"got {len(group.axes)} and {len(group.discrete)}")
    discrete = np.tile(np.eye(4), (1, MOST_SYMMETRIES, 1, 1))
    discrete[0, 1:1 + len(group.discrete)] = group.discrete
    axis = [[a.direction, a.offset] for a in group.axes] or np.zeros((1, 2, 3))
    return discrete, np.asarray(axis, np.float64)


def can_hold(thing: PoolObject) -> bool:
    """Whether an object's symmetries fit in `Forms`: a ball's do not."""
    return all(len(group.axes) < 2 and len(group.discrete) < MOST_SYMMETRIES
               for group in (thing.symmetries, thing.shape_symmetries))


class Library:
    """The shelves of a stream of batches: all scans but balls, and procedural objects of which some are replaced every
    BATCHES batches; always the same for a batch."""

    def __init__(self, seed: int, family: str, device: torch.device | str, procedural: int = PROCEDURAL) -> None:
        self.seed, self.device, self.procedural = seed, device, procedural
        self._pool = ObjectPool(family)
        scans = [thing for thing in map(self._pool.scanned, self._pool.paths) if thing is not None and can_hold(thing)]
        self._scans, self._scanned = ([shelf_of(scans, device)] if scans else []), len(scans)
        self._blocks: dict[int, Shelf] = {}
        self._at: tuple[int, Shelf] | None = None

    def shelf(self, batch: int) -> Shelf:
        """The shelf of a batch."""
        period = batch // BATCHES
        if self._at is None or self._at[0] != period:
            blocks = range(period, period + -(-self.procedural // RENEWED))
            self._blocks = {k: self._blocks.get(k) or self._block(k) for k in blocks}
            shelf = joined([*self._scans, *self._blocks.values()])
            self._at = period, replace(shelf, scanned=self._scanned)
        return self._at[1]

    def _block(self, number: int) -> Shelf:
        first = self.seed * 1_000_003 + number * RENEWED
        return shelf_of([self._pool.procedural(first + k) for k in range(min(RENEWED, self.procedural))], self.device)


def draw_pictures(size: int, seed: int, device: torch.device | str, count: int = PICTURES) -> torch.Tensor:
    """Pictures [count,size,size,3] uint8 to stand behind scenes and to lie on tables."""
    backgrounds, rng = Backgrounds(), np.random.default_rng([seed, count])
    pictures = np.empty((count, size, size, 3), np.uint8)
    for picture in pictures:
        picture[:] = np.round(255 * backgrounds.draw(size, rng))
    return torch.from_numpy(pictures).to(device)
