"""The meshes of a folder as things that can lie on a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from tqdm import tqdm

from flowpose_ros.errors import FlowposeError, MeshError
from flowpose_ros.objects.load import MESH_SUFFIXES, load_mesh
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.shading import surface_at
from training.pools import is_held_out, scanned_mesh

MAX_DIAMETER_M = 0.6


@dataclass(frozen=True, eq=False)
class Thing:
    """An object of the dataset; its mesh is in metres and has one texture on all faces, or none."""

    obj_id: int
    name: str
    mesh: Mesh

    @cached_property
    def hull(self) -> ConvexHull:
        """Convex hull of the vertices; joggled (QJ), so that flat meshes have one as well."""
        return ConvexHull(self.mesh.vertices.astype(np.float64), qhull_options="QJ")

    @cached_property
    def hull_points(self) -> np.ndarray:
        """Corners [N,3] of the hull, metres."""
        return self.hull.points[self.hull.vertices]


def find_meshes(folder: Path, family: str) -> list[tuple[str, Path]]:
    """Names and paths of <name>/mesh.ply and of the mesh files beside them, in the order of their names.

    family: `held_out` or `train`, as training.pools parts them by name, or `all`.
    Raises FlowposeError when there are none.
    """
    found = {path.parent.name: path for path in folder.glob("*/mesh.ply")}
    found |= {path.stem: path for path in sorted(folder.glob("*")) if path.suffix.lower() in MESH_SUFFIXES}
    chosen = [(name, path) for name, path in sorted(found.items())
              if family == "all" or is_held_out(name) == (family == "held_out")]
    if not chosen:
        raise FlowposeError(f"{folder}: expected meshes of family {family} as NAME/mesh.ply or NAME.ply, "
                            f"got none among {len(found)}")
    return chosen


def load_things(found: list[tuple[str, Path]], unit: str) -> tuple[list[Thing], dict[str, str]]:
    """The usable things, and why each of the others is left out, by name.

    unit: of the plain files; NAME/mesh.ply is in metres. An object's id is its place among all that were found.
    """
    things, skipped = [], {}
    for obj_id, (name, path) in enumerate(tqdm(found, unit="mesh", desc="reading meshes", disable=None), start=1):
        try:
            mesh = scanned_mesh(path) if path.name == "mesh.ply" else load_mesh(path, unit)
            if mesh.diameter > MAX_DIAMETER_M:
                raise MeshError(f"{path}: expected a diameter of at most {MAX_DIAMETER_M} m, got {mesh.diameter:.3g} m")
            things.append(hulled(Thing(obj_id, name, one_look(mesh)), path))
        except FlowposeError as error:
            skipped[name] = str(error)
    return things, skipped


def hulled(thing: Thing, path: Path) -> Thing:
    """The thing, its hull made; raises MeshError naming its file when there is none."""
    try:
        thing.hull
    except QhullError as error:
        raise MeshError(f"{path}: expected vertices with a convex hull, got others: "
                        f"{str(error).partition(chr(10))[0]}") from error
    return thing


def one_look(mesh: Mesh) -> Mesh:
    """The mesh with one texture on all faces, or none: what a BOP model can hold.

    A tint of all of a texture is multiplied into it. Several textures, or one on some of the faces, become colours at
    the triangles' corners.
    """
    if not mesh.textures:
        return mesh
    tint = mesh.colors[0, 0]
    if len(mesh.textures) == 1 and (mesh.face_texture == 0).all() and (mesh.colors == tint).all():
        texture = np.round(mesh.textures[0] * tint).astype(np.uint8)
        return replace(mesh, colors=np.ones_like(mesh.colors), textures=(texture,))
    face = np.repeat(np.arange(len(mesh.faces)), 3)
    colors = surface_at(mesh, face, np.tile(np.eye(3), (len(mesh.faces), 1))).albedo.reshape(-1, 3, 3)
    return replace(mesh, colors=colors.clip(0, 1), face_texture=np.full_like(mesh.face_texture, -1), textures=())
