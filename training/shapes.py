"""Parametric shapes: the parts that procedural objects are made of.

Every shape is a closed surface around the origin, cut into charts: flat pieces of texture with
their own (u, v) in [0,1] and a width-to-height ratio, so that what is painted is not stretched.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from flowpose_ros.geometry.symmetry import SymmetryAxis, SymmetryGroup


@dataclass(frozen=True)
class Shape:
    """vertices [V,3]; faces [F,3]; chart [F] index; uv [F,3,2] within the chart; aspect [C] width
    over height of each chart; symmetries of the geometry alone."""

    vertices: np.ndarray
    faces: np.ndarray
    chart: np.ndarray
    uv: np.ndarray
    aspect: np.ndarray
    symmetries: SymmetryGroup

    def moved(self, R: np.ndarray, t: np.ndarray) -> Shape:
        """The shape rotated by R [3,3], then shifted by t [3]."""
        return Shape(self.vertices @ R.T + t, self.faces, self.chart, self.uv, self.aspect,
                     moved_group(self.symmetries, R, t))


def moved_group(group: SymmetryGroup, R: np.ndarray, t: np.ndarray) -> SymmetryGroup:
    """The symmetries of an object after x -> R x + t."""
    T, T_inv = np.eye(4), np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    T_inv[:3, :3], T_inv[:3, 3] = R.T, -R.T @ t
    axes = tuple(SymmetryAxis(R @ axis.direction, R @ axis.offset + t) for axis in group.axes)
    return SymmetryGroup(T @ group.discrete @ T_inv, axes)


def joined(parts: list[Shape]) -> Shape:
    """Parts side by side in one shape (their insides stay); only a single part keeps symmetries."""
    if len(parts) == 1:
        return parts[0]
    first_vertex = np.cumsum([0] + [len(p.vertices) for p in parts])
    first_chart = np.cumsum([0] + [len(p.aspect) for p in parts])
    return Shape(np.concatenate([p.vertices for p in parts]),
                 np.concatenate([p.faces + n for p, n in zip(parts, first_vertex)]),
                 np.concatenate([p.chart + n for p, n in zip(parts, first_chart)]),
                 np.concatenate([p.uv for p in parts]), np.concatenate([p.aspect for p in parts]),
                 SymmetryGroup.none())


def sheet(points: np.ndarray) -> Shape:
    """One chart through a grid of points [n,m,3]: u runs along m, v along n; faces that have
    collapsed to a line are left out. The outside is where d/du x d/dv points."""
    n, m = points.shape[:2]
    index = np.arange(n * m).reshape(n, m)
    a, b, c, d = (i.reshape(-1) for i in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    vertices = points.reshape(-1, 3)
    corners = vertices[faces]
    double_area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    faces = faces[double_area > 1e-9 * np.ptp(vertices, axis=0).max() ** 2]
    # Texture follows length on the surface, not the grid's lines: these crowd at bevels.
    u = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=1), axis=2).max(0))])
    v = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=2).max(1))])
    uv = np.stack(np.meshgrid(u / u[-1], v / v[-1]), -1).reshape(-1, 2)
    return Shape(vertices, faces, np.zeros(len(faces), int), uv[faces], u[-1:] / v[-1:], SymmetryGroup.none())


def fan(rim: np.ndarray, up: float) -> Shape:
    """A flat cap over a rim [n,3] in a plane of constant z that is star-shaped around its middle;
    up is +1 or -1, the side it faces."""
    centre = np.array([0, 0, rim[0, 2]])
    vertices = np.concatenate([rim, centre[None]])
    i = np.arange(len(rim))
    j = np.roll(i, -1)
    faces = np.stack([i, j, np.full(len(rim), len(rim))], 1)[:, ::1 if up > 0 else -1]
    low, high = rim[:, :2].min(0), rim[:, :2].max(0)
    uv = (vertices[:, :2] - low) / (high - low)
    uv[:, 0] = uv[:, 0] if up > 0 else 1 - uv[:, 0]
    extent = high - low
    return Shape(vertices, faces, np.zeros(len(faces), int), uv[faces], extent[:1] / extent[1:],
                 SymmetryGroup.none())


def with_group(shape: Shape, group: SymmetryGroup) -> Shape:
    return Shape(shape.vertices, shape.faces, shape.chart, shape.uv, shape.aspect, group)


# --- symmetry groups -----------------------------------------------------------------------------

def as_group(rotations: list[np.ndarray], axes: tuple[SymmetryAxis, ...] = ()) -> SymmetryGroup:
    """Rotations about the origin (the identity among them is dropped) and continuous axes."""
    discrete = np.zeros((0, 4, 4))
    for R in rotations:
        if np.abs(R - np.eye(3)).max() > 1e-9:
            T = np.eye(4)
            T[:3, :3] = R
            discrete = np.concatenate([discrete, T[None]])
    return SymmetryGroup(discrete, axes)


def cuboid_group(extents: np.ndarray, keep_z: bool = False) -> SymmetryGroup:
    """Rotations of a box with these extents [3]: signed permutations that change none of them."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            R = np.zeros((3, 3))
            R[range(3), order] = signs
            if np.linalg.det(R) > 0 and np.allclose(extents[list(order)], extents) and not (
                    keep_z and order[2] != 2):
                found.append(R)
    return as_group(found)


def prism_group(n: int, flip: bool = True) -> SymmetryGroup:
    """n-fold rotations about z; with flip also the half turns about the n axes across (x is one)."""
    angles = 2 * np.pi * np.arange(n) / n
    turns = [rotation_z(a) for a in angles]
    return as_group(turns + [R @ np.diag([1.0, -1.0, -1.0]) for R in turns] if flip else turns)


def round_group(flip: bool) -> SymmetryGroup:
    """Any rotation about z; with flip the two ends are equal as well."""
    return as_group([np.diag([1.0, -1.0, -1.0])] if flip else [],
                    (SymmetryAxis(np.array([0.0, 0, 1]), np.zeros(3)),))


def rotation_z(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


# --- shapes of the training family ---------------------------------------------------------------

def rounded_box(extents: np.ndarray, bevel: float, faces: int) -> Shape:
    """A box of these extents [3] whose edges are rounded with radius bevel; six charts in the
    order +x, -x, +y, -y, +z, -z."""
    half = np.asarray(extents, float) / 2
    bevel = float(np.clip(bevel, 1e-3 * half.min(), 0.95 * half.min()))
    rounds = 2 if faces < 600 else 3
    inner = max(1, int(np.sqrt(faces / 12)) - 2 * rounds)
    sides = []
    for axis, sign in itertools.product(range(3), (1, -1)):
        p, q = (axis + 1) % 3, (axis + 2) % 3
        grid = []
        for k in (p, q):
            edge = half[k] - bevel
            corner = bevel * np.linspace(1, 0, rounds + 1)[:-1]
            grid.append(np.concatenate([-edge - corner, np.linspace(-edge, edge, inner + 1), edge + corner[::-1]]))
        u, v = np.meshgrid(grid[0] * sign, grid[1])
        points = np.zeros(u.shape + (3,))
        points[..., p], points[..., q], points[..., axis] = u, v, sign * half[axis]
        core = np.clip(points, -half + bevel, half - bevel)
        out = points - core
        points = core + bevel * out / np.linalg.norm(out, axis=2, keepdims=True)
        sides.append(sheet(points))
    return with_group(joined(sides), cuboid_group(half))


def superquadric(extents: np.ndarray, e1: float, e2: float, faces: int) -> Shape:
    """A superellipsoid (Barr 1981) with exponents e1 (along z) and e2 (around z); one chart."""
    rows = max(6, int(np.sqrt(faces / 4)))
    eta = np.linspace(-np.pi / 2, np.pi / 2, rows + 1)[:, None]
    omega = np.linspace(-np.pi, np.pi, 2 * rows + 1)[None]
    power = lambda x, e: np.sign(x) * np.abs(x) ** e  # noqa: E731
    c = power(np.cos(eta).clip(0), e1)
    points = np.stack([c * power(np.cos(omega), e2), c * power(np.sin(omega), e2),
                       power(np.sin(eta), e1) + 0 * omega], -1) * np.asarray(extents) / 2
    return with_group(sheet(points), cuboid_group(np.asarray(extents), keep_z=True))


def lathe(profile: np.ndarray, faces: int, equal_ends: bool = False) -> Shape:
    """The surface of revolution about z of profile [n,2] (radius, z), from bottom to top;
    open ends get flat caps. Charts: side, then bottom, then top where there are caps."""
    segments = int(np.clip(faces / (2 * len(profile)), 16, 64))
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    points = np.empty((len(profile), segments + 1, 3))
    points[..., :2] = profile[:, None, :1] * circle
    points[..., 2] = profile[:, None, 1]
    parts = [sheet(points)]
    if profile[0, 0] > 0:
        parts.append(fan(points[0, :-1], -1))
    if profile[-1, 0] > 0:
        parts.append(fan(points[-1, :-1], 1))
    return with_group(joined(parts), round_group(equal_ends))


def torus(radius: float, tube: float, faces: int) -> Shape:
    """A ring about z; one chart, u around z."""
    rows = max(8, int(np.sqrt(faces / 4)))
    a = np.linspace(0, 2 * np.pi, 2 * rows + 1)[None]
    b = np.linspace(0, 2 * np.pi, rows + 1)[:, None]
    r = radius + tube * np.cos(b)
    points = np.stack([r * np.cos(a), r * np.sin(a), tube * np.sin(b) + 0 * a], -1)
    return with_group(sheet(points), round_group(True))


def extrusion(outline: np.ndarray, height: float, faces: int, fold: int = 1) -> Shape:
    """An outline [n,2], counter-clockwise and star-shaped around 0, raised along z; charts side,
    bottom, top. fold > 1 says that the outline is regular: n-fold, with x as a mirror axis."""
    rows = max(1, int(faces / (2 * len(outline))) - 1)
    z = np.linspace(-height / 2, height / 2, rows + 1)
    closed = np.concatenate([outline, outline[:1]])
    points = np.empty((rows + 1, len(closed), 3))
    points[..., :2] = closed
    points[..., 2] = z[:, None]
    parts = [sheet(points), fan(points[0, :-1], -1), fan(points[-1, :-1], 1)]
    group = prism_group(fold) if fold > 1 else SymmetryGroup.none()
    return with_group(joined(parts), group)


# --- shapes of the held-out family ---------------------------------------------------------------

def tube(path: np.ndarray, radius: np.ndarray, faces: int, closed: bool = False) -> Shape:
    """A pipe along path [n,3] with radius [n]; one chart, plus round end caps if it is open."""
    segments = int(np.clip(faces / (2 * len(path)), 8, 32))
    tangent = np.gradient(path, axis=0)
    if closed:
        tangent[0] = tangent[-1] = path[1] - path[-2]
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # Parallel transport keeps the pipe from twisting along the path.
    side = np.cross(tangent[0], np.eye(3)[np.abs(tangent[0]).argmin()])
    frames = []
    for t in tangent:
        side = side - t * (side @ t)
        side /= np.linalg.norm(side)
        frames.append(np.stack([side, np.cross(t, side)]))
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    ring = np.stack([np.cos(angle), np.sin(angle)], -1) @ np.array(frames)
    if closed:
        ring[-1] = ring[0]
    points = path[:, None] + radius[:, None, None] * ring
    if not closed:
        points = np.concatenate([np.broadcast_to(path[:1, None], points[:1].shape), points,
                                 np.broadcast_to(path[-1:, None], points[:1].shape)])
    return sheet(points)


def loft(outline: np.ndarray, z: np.ndarray, scale: np.ndarray, twist: np.ndarray) -> Shape:
    """An outline [n,2] carried along heights z [m] while scale [m] and twist [m] (radians) change."""
    rows = []
    for height, factor, angle in zip(z, scale, twist):
        ring = outline @ rotation_z(angle)[:2, :2].T * factor
        rows.append(np.concatenate([ring, np.full((len(ring), 1), height)], 1))
    points = np.array(rows)
    side = sheet(np.concatenate([points, points[:, :1]], 1))
    return joined([side, fan(points[0], -1), fan(points[-1], 1)])


def ring_extrusion(outer: np.ndarray, inner: np.ndarray, height: float) -> Shape:
    """A flat ring between two outlines [n,2] with equal numbers of points; charts: outer and inner
    wall, bottom, top."""
    closed = [np.concatenate([o, o[:1]]) for o in (outer, inner)]
    lift = lambda o, z: np.concatenate([o, np.full((len(o), 1), z)], 1)  # noqa: E731
    low, high = -height / 2, height / 2
    corners = [lift(closed[0], low), lift(closed[0], high), lift(closed[1], high), lift(closed[1], low)]
    return joined([sheet(np.stack([corners[i], corners[(i + 1) % 4]])) for i in range(4)])
