"""What scenes are made of: scanned meshes, procedural objects, photographs; loaded as needed."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from flowpose_ros.errors import FlowposeError
from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.objects.load import MeshLimits, load_mesh
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.shading import surface_at
from flowpose_ros.rendering.symmetry_hints import coloured_alike, symmetry_hints
from training.objects import random_object

PROCEDURAL_SHARE = 0.45
FURNITURE = ("aws_", "gz_")
HELD_OUT_EVERY = 13
"""Every 13th mesh, by the hash of its name, is kept for validation."""


def data_root() -> Path:
    """The folder of training data: FLOWPOSE_DATA, or ../shared/data beside the repository."""
    return Path(os.environ.get("FLOWPOSE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def tell_data() -> None:
    """Say how many meshes and photographs there are; raises ValueError when FLOWPOSE_DATA names no folder."""
    root = data_root()
    if "FLOWPOSE_DATA" in os.environ and not root.is_dir():
        raise ValueError(f"FLOWPOSE_DATA: expected a folder, got {root}")
    meshes = len(list(root.glob("meshes/*/mesh.ply")))
    photographs = sum(path.exists() for path in photograph_files(root / "backgrounds"))
    print(f"{root}: {meshes} meshes, {photographs} photographs", file=sys.stderr)


@dataclass(frozen=True, eq=False)
class PoolObject:
    """A mesh with the symmetries of its looks, and those of its bare shape."""

    mesh: Mesh
    symmetries: SymmetryGroup
    shape_symmetries: SymmetryGroup

    @cached_property
    def flat(self) -> PoolObject:
        """The object as a CAD file without texture gives it: one colour, the mean of its own."""
        mesh = self.mesh
        face = np.linspace(0, len(mesh.faces) - 1, 500).astype(np.int64)
        mean = surface_at(mesh, face, np.full((500, 3), 1 / 3)).albedo.mean(0)
        bare = replace(mesh, colors=np.broadcast_to(mean, mesh.colors.shape).astype(np.float32),
                       face_texture=np.full_like(mesh.face_texture, -1), textures=())
        return PoolObject(bare, self.shape_symmetries, self.shape_symmetries)


class ObjectPool:
    """Objects by a random key; the most recently used stay loaded.

    family: `train` or `held_out`. A mesh that is missing or broken is left out: `skipped` has its name and what it
    lacks, and it is told, with their number, when it is found out.
    """

    def __init__(self, family: str = "train", root: Path | None = None, keep: int = 320) -> None:
        self.family, self.keep = family, keep
        self.skipped: dict[str, str] = {}
        self._loaded: OrderedDict[str, PoolObject] = OrderedDict()
        folder = (root or data_root()) / "meshes"
        held = family == "held_out"
        folders = [p for p in sorted(folder.glob("*")) if p.is_dir() and is_held_out(p.name) == held]
        self.paths = [p / "mesh.ply" for p in folders if (p / "mesh.ply").exists()]
        for missing in sorted(set(folders) - {p.parent for p in self.paths}):
            self._skip(missing.name, f"{missing}: expected a mesh.ply, got none")

    def draw(self, rng: np.random.Generator, seed: int) -> PoolObject:
        """A random object; `seed` names the procedural one."""
        scan = None
        if self.paths and rng.random() >= PROCEDURAL_SHARE:
            scan = self.scanned(self.paths[rng.integers(len(self.paths))])
        return scan or self._remember(f"procedural/{seed}", lambda: self.procedural(seed))

    def scanned(self, path: Path) -> PoolObject | None:
        """The object of one of `paths`; None for a broken mesh."""
        name = path.parent.name
        if name not in self.skipped:
            try:
                return self._remember(str(path), lambda: self._scanned(path))
            except FlowposeError as error:
                self._skip(name, str(error))
        return None

    def procedural(self, seed: int) -> PoolObject:
        """The procedural object of a seed, made anew."""
        made = random_object(seed, self.family)
        return PoolObject(made.mesh, made.symmetries, made.shape_symmetries)

    def _skip(self, name: str, reason: str) -> None:
        self.skipped[name] = reason
        tqdm.write(f"mesh {name} is skipped, {len(self.skipped)} so far: {reason}", file=sys.stderr)

    def _remember(self, key: str, make) -> PoolObject:
        if key in self._loaded:
            self._loaded.move_to_end(key)
        else:
            self._loaded[key] = make()
            if len(self._loaded) > self.keep:
                self._loaded.popitem(last=False)
        return self._loaded[key]

    @staticmethod
    def _scanned(path: Path) -> PoolObject:
        mesh = scanned_mesh(path)
        return PoolObject(mesh, *symmetries_of(mesh))


def is_held_out(name: str) -> bool:
    """Whether the mesh of this name is kept for validation."""
    return zlib.crc32(name.encode()) % HELD_OUT_EVERY == 0


def symmetries_of(mesh: Mesh) -> tuple[SymmetryGroup, SymmetryGroup]:
    """The symmetries of a scan's looks and those of its bare shape, as far as they can be found."""
    renderer = RaycastRenderer()
    shape = symmetry_hints(mesh, renderer)
    return coloured_alike(mesh, shape, renderer), shape


def scanned_mesh(path: Path) -> Mesh:
    """The mesh of <name>/mesh.ply in metres; a room's furniture becomes a thing on a table, its size from its name."""
    name = path.parent.name
    if not name.startswith(FURNITURE):
        return load_mesh(path, "m")
    mesh = load_mesh(path, "m", MeshLimits(max_diameter=100.0))
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    scale = np.exp(rng.uniform(np.log(0.05), np.log(0.4))) / (2 * mesh.radius)
    return replace(mesh, vertices=mesh.vertices * np.float32(scale))


class Backgrounds:
    """Photographs and made-up pictures to stand behind a scene, [S,S,3] in [0,1]."""

    def __init__(self, root: Path | None = None) -> None:
        files = photograph_files((root or data_root()) / "backgrounds")
        self.photos = [p for p in map(_read_photo, files) if p is not None]

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """A random picture: 70 % a piece of a photograph, else a gradient with noise."""
        if self.photos and rng.random() < 0.7:
            photo = self.photos[rng.integers(len(self.photos))]
            side = int(rng.uniform(0.25, 1.0) * min(photo.shape[:2]))
            y, x = (int(rng.integers(0, n - side + 1)) for n in photo.shape[:2])
            piece = cv2.resize(photo[y:y + side, x:x + side], (size, size), interpolation=cv2.INTER_AREA)
            return (piece[:, ::-1] if rng.random() < 0.5 else piece).astype(np.float32) / 255
        return made_up_picture(size, rng)


def photograph_files(folder: Path) -> list[Path]:
    """The files that a folder's manifest.json lists, none where there is no manifest; raises ValueError when it is
    broken."""
    manifest = folder / "manifest.json"
    try:
        return [folder / entry["file"] for entry in json.loads(manifest.read_text())] if manifest.exists() else []
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{manifest}: expected a list of entries with a file each, got {error!r}") from error


def _read_photo(path: Path) -> np.ndarray | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def made_up_picture(size: int, rng: np.random.Generator) -> np.ndarray:
    """A colour gradient with blotches of several sizes [S,S,3] in [0,1]."""
    corners = rng.random((2, 2, 3)).astype(np.float32)
    picture = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
    for cells in (4, 12, 40):
        blotches = rng.normal(0, rng.uniform(0, 0.15), (cells, cells, 3)).astype(np.float32)
        picture = picture + cv2.resize(blotches, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.clip(picture, 0, 1)
