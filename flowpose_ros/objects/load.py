"""Mesh files in: PLY, OBJ, GLB, glTF and STL become one Mesh in metres, its origin untouched."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import trimesh
from PIL import Image
from trimesh.resolvers import Resolver

from flowpose_ros.errors import MeshError
from flowpose_ros.objects.appearance import Appearance, appearance_of
from flowpose_ros.objects.files import inside
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.objects.unread import PLY_HEADER_BYTES, check_features, texture_name
from flowpose_ros.options import Options, option

METRES_PER_UNIT = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254}
MESH_SUFFIXES = (".ply", ".obj", ".glb", ".gltf", ".stl")
LINEAR_SUFFIXES = (".glb", ".gltf")
"""Formats that state colours other than textures in linear light."""
OTHER_NEIGHBOURS = (".mtl", ".bin")
"""Endings of referred files that are no images."""


@dataclass(frozen=True)
class MeshLimits(Options):
    """What a mesh file may ask of this machine, and the sizes at which a wrong unit is suspected."""

    max_bytes: int = option(500_000_000, "largest mesh file or neighbour of it, bytes", low=1)
    max_faces: int = option(2_000_000, "most triangles of a mesh, all parts together", low=1)
    max_texture_side: int = option(8192, "longest side of a texture, pixels", low=1)
    min_diameter: float = option(0.005, "smallest diameter of an object, metres", low=0.0)
    max_diameter: float = option(5.0, "largest diameter of an object, metres", low=0.0)
    allow_missing_texture: bool = option(False, "load a mesh without the textures that are missing")


def load_mesh(path: str | Path, unit: str, limits: MeshLimits = MeshLimits(),
              root: str | Path | None = None) -> Mesh:
    """The mesh of one file, its parts placed by their node transforms and put together.

    unit: what one step of the file's coordinates is: "m", "cm", "mm" or "inch"; never guessed.
    root: the folder that textures and materials may come from; the file's own folder if None.
    Raises MeshError when the file, or one it refers to, is missing, broken, empty, outside `root`
    or beyond the limits.
    """
    path = Path(path)
    scale = metres_per_unit(unit, path)
    parts = read_parts(path, limits, Path(root) if root is not None else path.parent)
    mesh = _join(path, [(part, T, appearance_of(part, path.suffix.lower() in LINEAR_SUFFIXES))
                        for part, T in parts], scale, limits)
    if not limits.min_diameter <= mesh.diameter <= limits.max_diameter:
        raise MeshError(f"{path}: expected a diameter from {limits.min_diameter:g} to {limits.max_diameter:g} m, "
                        f"got {mesh.diameter:.6g} m with unit {unit}; is the unit right?")
    return mesh


def metres_per_unit(unit: str, path: Path) -> float:
    """Length of a unit in metres; raises MeshError, naming the file, for any other word."""
    if not isinstance(unit, str) or unit not in METRES_PER_UNIT:
        raise MeshError(f"{path}: unit: expected one of {', '.join(METRES_PER_UNIT)}, got {unit!r}")
    return METRES_PER_UNIT[unit]


def read_parts(path: Path, limits: MeshLimits, root: Path) -> list[tuple[trimesh.Trimesh, np.ndarray]]:
    """The parts of a mesh file, each with its T_file_part [4,4], in the file's own unit."""
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise MeshError(f"{path}: expected a file ending in {', '.join(MESH_SUFFIXES)}, got {path.suffix or 'none'}")
    neighbours = _Neighbours(path, root, limits)
    data = _read(path, limits)
    check_features(path, data)
    if suffix == ".ply":
        data = _plain_names(data)
    # Without a texture, texture coordinates must not split the vertices that colours belong to.
    split = {"fix_texture": b"TextureFile" in data[:PLY_HEADER_BYTES]} if suffix == ".ply" else {}
    failure, trimesh.util.log.disabled = None, True  # it logs a traceback where we raise one sentence
    try:
        # process=False: vertices are neither merged nor moved.
        scene = trimesh.load_scene(trimesh.util.wrap_as_stream(data), file_type=suffix[1:], resolver=neighbours,
                                   process=False, **split)
    except Exception as error:  # whatever a parser meets in a broken file
        failure = error
    finally:
        trimesh.util.log.disabled = False
    neighbours.check()
    if failure is not None:
        hint = "; are all faces triangles?" if suffix == ".ply" and "reshape" in str(failure) else ""
        raise MeshError(f"{path}: cannot be read as {suffix[1:].upper()}: {failure!r}{hint}") from failure
    placed = [(scene.geometry[name], T) for T, name in map(scene.graph.get, scene.graph.nodes_geometry)]
    parts = [(part, T) for part, T in placed if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if not parts:
        raise MeshError(f"{path}: expected triangles, got none")
    for part, _ in parts:
        _check_indices(path, part)
    return parts


class _Neighbours(Resolver):
    """Reads the files a mesh refers to, and remembers what was refused.

    trimesh goes on without a texture or material that its resolver refuses; we do not.
    """

    def __init__(self, path: Path, root: Path, limits: MeshLimits) -> None:
        self._path, self._root, self._limits = path, root, limits
        self._refused: list[MeshError] = []

    def get(self, name: str) -> bytes:
        try:
            relative = self._path.parent / self._file_name(str(name)).strip().replace("\\", "/")
            found = inside(self._root.resolve(), relative.absolute(), f"{self._path}: {name}", MeshError)
            data = _read(found, self._limits)
            if found.suffix.lower() not in OTHER_NEIGHBOURS:
                _check_image(found, data)
            return data
        except MeshError as error:
            self._refused.append(error)
            raise

    def _file_name(self, reference: str) -> str:
        suffix = self._path.suffix.lower()
        return texture_name(self._path, reference) if suffix == ".obj" else (
            unquote(reference) if suffix in LINEAR_SUFFIXES else reference)

    def check(self) -> None:
        if self._refused and not self._limits.allow_missing_texture:
            raise MeshError(f"{self._path}: refers to a file that cannot be used: {self._refused[0]}")

    def keys(self) -> list[str]:
        return []

    def namespaced(self, namespace: str) -> _Neighbours:
        return self

    def write(self, name: str, data: bytes) -> None:
        raise NotImplementedError


def _plain_names(data: bytes) -> bytes:
    """A PLY whose colours older exporters called diffuse_red, ..., by the names that are read."""
    header, found, rest = data.partition(b"end_header")
    return header.replace(b" diffuse_", b" ") + found + rest if b"uchar red" not in header else data


def _check_image(path: Path, data: bytes) -> None:
    """Raise MeshError unless Pillow knows the image's format; trimesh would go on without it."""
    try:
        Image.open(io.BytesIO(data)).close()
    except Exception as error:
        raise MeshError(f"{path}: expected an image: {error}") from error


def _read(path: Path, limits: MeshLimits) -> bytes:
    if not path.is_file():
        raise MeshError(f"{path}: expected a file, got {'a folder' if path.is_dir() else 'nothing there'}")
    size = path.stat().st_size
    if not 0 < size <= limits.max_bytes:
        raise MeshError(f"{path}: expected 1 to {limits.max_bytes} bytes, got {size}")
    return path.read_bytes()


def _join(path: Path, parts: list[tuple[trimesh.Trimesh, np.ndarray, Appearance]], scale: float,
          limits: MeshLimits) -> Mesh:
    """One checked Mesh of all parts."""
    count = sum(len(part.faces) for part, _, _ in parts)
    if count > limits.max_faces:
        raise MeshError(f"{path}: expected at most {limits.max_faces} triangles, got {count}")
    vertices, faces, face_texture, images, first = [], [], [], [], 0
    for part, T_file_part, look in parts:
        vertices.append(trimesh.transform_points(part.vertices, T_file_part) * scale)
        _check_finite(path, vertices[-1])
        faces.append(part.faces + first)
        first += len(part.vertices)
        if look.image is not None and not any(look.image is image for image in images):
            images.append(look.image)
        index = next((i for i, image in enumerate(images) if image is look.image), -1)
        face_texture.append(np.full(len(part.faces), index, np.int16))
    return _without_waste(path, Mesh(
        vertices=np.concatenate(vertices).astype(np.float32), faces=np.concatenate(faces).astype(np.int32),
        colors=np.concatenate([look.colors for _, _, look in parts]),
        uv=np.concatenate([look.uv for _, _, look in parts]), face_texture=np.concatenate(face_texture),
        textures=tuple(_decode(path, image, limits) for image in images)))


def _check_finite(path: Path, vertices: np.ndarray) -> None:
    broken = ~np.isfinite(vertices).all(1)
    if broken.any():
        raise MeshError(f"{path}: expected finite vertices, got {broken.sum()} that are not, "
                        f"the first at index {broken.argmax()}")


def _check_indices(path: Path, part: trimesh.Trimesh) -> None:
    lowest, highest = part.faces.min(), part.faces.max()
    if lowest < 0 or highest >= len(part.vertices):
        raise MeshError(f"{path}: expected triangles over vertices 0 to {len(part.vertices) - 1}, "
                        f"got indices {lowest} to {highest}")
    if part.visual.kind == "face" and len(part.visual.face_colors) != len(part.faces):
        raise MeshError(f"{path}: expected a colour for each of {len(part.faces)} triangles, got "
                        f"{len(part.visual.face_colors)} for faces of more corners; triangulate it")


def _decode(path: Path, image, limits: MeshLimits) -> np.ndarray:
    if max(image.size) > limits.max_texture_side:
        raise MeshError(f"{path}: expected textures of at most {limits.max_texture_side} pixels a side, "
                        f"got {image.size[0]} x {image.size[1]}")
    try:
        if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip at 255
            return np.repeat((np.array(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        return np.array(image.convert("RGB"))
    except Exception as error:
        raise MeshError(f"{path}: a texture cannot be decoded: {error}") from error


def _without_waste(path: Path, mesh: Mesh) -> Mesh:
    """The mesh without triangles of no area and vertices of no triangle."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    keep = area > 1e-14 * np.ptp(mesh.vertices, axis=0).max() ** 2
    if not keep.any():
        raise MeshError(f"{path}: expected triangles with an area, got {len(area)} without")
    used = np.zeros(len(mesh.vertices), bool)
    used[mesh.faces[keep]] = True
    renumbered = (np.cumsum(used) - 1).astype(np.int32)
    return Mesh(mesh.vertices[used], renumbered[mesh.faces[keep]], mesh.colors[keep], mesh.uv[keep],
                mesh.face_texture[keep], mesh.textures)
