"""A triangle mesh in metres, with whatever appearance its file gave it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


SMOOTH_DEG = 40
"""Faces that meet at a smaller angle are parts of one smooth surface."""
PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class Mesh:
    """V vertices and F triangles of one object, in the mesh file's own frame, in metres.

    vertices [V,3] float32; faces [F,3] int32;
    colors [F,3,3] float32 in [0,1], sRGB, one per triangle corner (white under a texture);
    uv [F,3,2] float32 per triangle corner, v upward as in OBJ, any range (textures repeat);
    face_texture [F] int16, index into textures or -1 for none;
    textures: images [h,w,3] uint8 sRGB.
    Several parts of one file share these arrays.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray
    uv: np.ndarray
    face_texture: np.ndarray
    textures: tuple[np.ndarray, ...] = field(default=())

    @cached_property
    def center(self) -> np.ndarray:
        """Middle [3] of the axis-aligned bounding box, metres."""
        return (self.vertices.min(0) + self.vertices.max(0)) / 2

    @cached_property
    def radius(self) -> float:
        """Largest distance of a vertex from `center`, metres."""
        return float(np.linalg.norm(self.vertices - self.center, axis=1).max())

    @cached_property
    def diameter(self) -> float:
        """Largest distance between two vertices, metres (the BOP definition); of hulls with more than 3000 corners,
        between two of 3000 drawn of these."""
        from scipy.spatial import ConvexHull
        from scipy.spatial.distance import pdist

        points = self.vertices
        if len(points) > 100:
            # Joggled (QJ), so that flat meshes have a hull as well.
            points = points[ConvexHull(points, qhull_options="QJ").vertices]
        if len(points) > 3000:
            points = points[np.random.default_rng(0).choice(len(points), 3000, replace=False)]
        return float(pdist(points).max())

    @cached_property
    def corner_normals(self) -> np.ndarray:
        """Unit normals [F,3,3] float32 per triangle corner.

        A corner averages the faces around its position (area weighted) that lie within SMOOTH_DEG
        of its own face, so that sharp edges of CAD parts stay sharp.
        """
        corners = self.vertices[self.faces]
        weighted = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        unit = weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-20)
        _, position = np.unique(np.round(self.vertices / (1e-6 + 1e-5 * self.radius)).astype(np.int64),
                                axis=0, return_inverse=True)
        point = position.reshape(-1)[self.faces].reshape(-1)  # of each corner; its face is its number // 3
        order, around = np.argsort(point, kind="stable"), np.bincount(point)
        first, count = (np.cumsum(around) - around)[point], around[point]
        total = np.zeros((len(point), 3))
        for corners in _parts(count, PAIRS_AT_ONCE):
            n = count[corners]
            start = np.cumsum(n) - n
            # All pairs of a corner and a corner at its place.
            own = np.repeat(corners // 3, n)
            other = order[np.arange(n.sum()) + np.repeat(first[corners] - start, n)] // 3
            smooth = (unit[own] * unit[other]).sum(1) > np.cos(np.radians(SMOOTH_DEG))
            total[corners] = np.add.reduceat(weighted[other] * smooth[:, None], start)
        return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20)).reshape(-1, 3, 3).astype(np.float32)

    @cached_property
    def content_hash(self) -> str:
        """Hex digest of geometry and appearance: equal meshes have equal hashes."""
        digest = hashlib.sha256()
        for array in (self.vertices, self.faces, self.colors, self.uv, self.face_texture, *self.textures):
            digest.update(str((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def surface_points(self, count: int, seed: int = 0) -> np.ndarray:
        """Points [count,3] float32 drawn uniformly from the surface, metres."""
        rng = np.random.default_rng(seed)
        corners = self.vertices[self.faces].astype(np.float64)
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        face = rng.choice(len(area), count, p=area / area.sum())
        r = np.sqrt(rng.random((count, 1)))
        s = rng.random((count, 1))
        a, b, c = corners[face].transpose(1, 0, 2)
        return ((1 - r) * a + r * (1 - s) * b + r * s * c).astype(np.float32)


def _parts(count: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Indices of all entries, in order, in parts whose counts add up to about `most`."""
    part = np.cumsum(count) // most
    yield from np.split(np.arange(len(count)), np.flatnonzero(np.diff(part)) + 1)
