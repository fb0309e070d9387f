"""Symmetries that a mesh's shape has, as a hint for whoever states them, and those that its colours have too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import open3d as o3d

from flowpose_ros.geometry.rotations import angles_between
from flowpose_ros.geometry.symmetry import SymmetryAxis, SymmetryGroup
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.shading import surface_at

SURFACE_POINTS = 2000
TOLERANCES = {0.9: 0.02, 0.99: 0.05}
"""Share of surface points -> how far they may miss the surface after a symmetric motion, in diameters.

Chosen on LM-O: its two symmetric objects miss by at most 0.017 and 0.042 after half a turn, its others by
0.07 and 0.10 or more.
"""
FOLDS = (6, 5, 4, 3, 2)
REVOLUTION_ANGLES = np.array([0.4, 1.0, 1.7, 2.5])
"""Radians; no turn of a low fold is near all of them."""
COLOURED_POINTS = 800
SAME_COLOUR = 0.05
"""Mean difference of colour, sRGB in [0,1], under which a motion leaves an object looking the same. Scans of plain
things come to 0.045 at most, print that lies elsewhere to 0.06 and more."""
SAME_AXIS_COS = np.cos(np.radians(5))
SAME_MOTION = np.radians(8)
MOST_MOTIONS = 30
"""A cube has 23 beside the identity."""


def symmetry_hints(mesh: Mesh, renderer: RaycastRenderer,
                   tolerances: Mapping[float, float] = TOLERANCES) -> SymmetryGroup:
    """Rotations about the file's axes and the axes of inertia that put the shape onto itself, metres.

    tolerances: share of surface points -> how far they may miss the surface, in diameters.

    Not always the whole group: only turns of 1/2 to 1/6 of a circle and full revolutions, and what follows from them,
    are tried.
    """
    points = mesh.surface_points(SURFACE_POINTS)
    discrete, revolutions, found = [], [], []
    for axis in _candidates(mesh):
        if any(abs(axis.direction @ other.direction) > SAME_AXIS_COS for other in found):
            continue
        fold = _fold(mesh, renderer, points, axis, tolerances)
        if fold > 1:
            found.append(axis)
        if fold == np.inf:
            revolutions.append(axis)
        else:
            discrete.extend(axis.rotations(np.arange(1, fold) * 2 * np.pi / fold))
    if len(revolutions) > 1:  # a sphere: two axes say all
        return SymmetryGroup(np.zeros((0, 4, 4)), tuple(revolutions[:2]))
    if revolutions:  # one flip beside it says all
        return SymmetryGroup(np.array(discrete[:1]).reshape(-1, 4, 4), tuple(revolutions))
    return SymmetryGroup(_with_products(discrete, lambda S: _fits(mesh, renderer, points, S, tolerances)))


def _with_products(motions: list[np.ndarray], fits: Callable[[np.ndarray], bool]) -> np.ndarray:
    """Motions [n,4,4] with what they come to one after the other, where it fits, too: half turns of a square about its
    diagonals follow from those about its sides. Motions nearer to each other than SAME_MOTION are one."""
    group, waiting = [np.eye(4), *motions], [a @ b for a in motions for b in motions]
    while waiting and len(group) <= MOST_MOTIONS:
        S = waiting.pop(0)
        if angles_between(S[None, :3, :3], np.array(group)[:, :3, :3]).min() >= SAME_MOTION and fits(S):
            waiting += [S @ known for known in group[1:]] + [known @ S for known in group[1:]]
            group.append(S)
    return np.array(group[1:]).reshape(-1, 4, 4)


def coloured_alike(mesh: Mesh, group: SymmetryGroup, renderer: RaycastRenderer) -> SymmetryGroup:
    """The symmetries of a mesh's shape that leave its colours as they are, too."""
    points = mesh.surface_points(COLOURED_POINTS).astype(np.float64)
    own = _colours(mesh, renderer, points)

    def alike(S: np.ndarray) -> bool:
        moved = _colours(mesh, renderer, points @ S[:3, :3].T + S[:3, 3])
        return float(np.abs(moved - own).mean()) < SAME_COLOUR

    axes = tuple(axis for axis in group.axes if all(map(alike, axis.rotations(REVOLUTION_ANGLES))))
    return SymmetryGroup(group.discrete[[alike(S) for S in group.discrete]].reshape(-1, 4, 4), axes)


def _colours(mesh: Mesh, renderer: RaycastRenderer, points: np.ndarray) -> np.ndarray:
    """Colours [N,3] of the surface nearest to points [N,3]."""
    found = renderer.scene(mesh).compute_closest_points(o3d.core.Tensor(points.astype(np.float32)))
    uv = found["primitive_uvs"].numpy()
    bary = np.stack([1 - uv[:, 0] - uv[:, 1], uv[:, 0], uv[:, 1]], 1)
    return surface_at(mesh, found["primitive_ids"].numpy().astype(np.int64), bary).albedo


def _fold(mesh: Mesh, renderer: RaycastRenderer, points: np.ndarray, axis: SymmetryAxis,
          tolerances: Mapping[float, float]) -> float:
    """How many turns of a circle about the axis look alike: 1 for none, infinity for all."""
    if all(_fits(mesh, renderer, points, S, tolerances) for S in axis.rotations(REVOLUTION_ANGLES)):
        return np.inf
    turns = axis.rotations(2 * np.pi / np.array(FOLDS))
    return next((n for n, S in zip(FOLDS, turns) if _fits(mesh, renderer, points, S, tolerances)), 1)


def _fits(mesh: Mesh, renderer: RaycastRenderer, points: np.ndarray, S: np.ndarray,
          tolerances: Mapping[float, float]) -> bool:
    """Whether surface points [N,3], moved by S [4,4], lie on the surface again."""
    moved = (points @ S[:3, :3].T + S[:3, 3]).astype(np.float32)
    missed = renderer.scene(mesh).compute_distance(o3d.core.Tensor(moved)).numpy() / mesh.diameter
    return all(np.quantile(missed, share) < tolerance for share, tolerance in tolerances.items())


def _candidates(mesh: Mesh) -> list[SymmetryAxis]:
    """The file's axes through the middle of the box, then the surface's axes of inertia."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    centroid = np.average(corners.mean(1), axis=0, weights=area)
    corners -= centroid
    # Second moments of a triangle (a, b, c): area / 12 (aa' + bb' + cc' + ss') with s = a + b + c.
    points = np.concatenate([corners, corners.sum(1, keepdims=True)], 1)
    moments = np.einsum("f,fni,fnj->ij", area, points, points, optimize=True)
    return [*(SymmetryAxis(direction, mesh.center.astype(np.float64)) for direction in np.eye(3)),
            *(SymmetryAxis(direction, centroid) for direction in np.linalg.eigh(moments)[1].T)]
