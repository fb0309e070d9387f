"""Procedural objects for training: endless, made from a seed, no files.

    python -m training.objects --sheet sheet.png --family train
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np

from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.objects.mesh import Mesh
from training import shapes, textures
from training.command import command
from training.shapes import Shape

FAMILIES = ("train", "held_out")
DIAMETER = 0.03, 0.40
"""Range of diameters in metres, drawn log-uniformly."""


@dataclass(frozen=True)
class ProceduralObject:
    """A mesh in metres with the exact symmetries of its looks, and those of its bare shape (for
    whoever drops the texture); kind names the part grammar and the kind of surface."""

    mesh: Mesh
    symmetries: SymmetryGroup
    kind: str
    shape_symmetries: SymmetryGroup


def random_object(seed: int, family: str = "train") -> ProceduralObject:
    """The object of this seed, always the same; `held_out` uses other shapes and other textures.

    500 to 3000 faces for most, aspect 1:1 to 1:6 (a fifth is flatter), diameter 3 to 40 cm.
    """
    rng = np.random.default_rng([FAMILIES.index(family), seed])
    grammar, weights = GRAMMARS[family]
    name = str(rng.choice(list(grammar), p=np.array(weights) / sum(weights)))
    parts = grammar[name](rng, random_extents(rng), int(rng.uniform(700, 2800)))
    if name not in ("bracket", "box") and rng.random() < 0.2:
        parts = [warped(part, rng) for part in parts]
    shape = placed(shapes.joined(parts), rng)
    mesh, surface = coloured(shape, [len(part.aspect) for part in parts], family, rng)
    keep = {"flat": shape.symmetries, "bands": same_end_up(shape.symmetries)}
    return ProceduralObject(mesh, keep.get(surface, SymmetryGroup.none()), f"{name}/{surface}", shape.symmetries)


# --- size and place ------------------------------------------------------------------------------

def random_extents(rng: np.random.Generator) -> np.ndarray:
    """Edge lengths [3] of a part, the longest 1: a fifth is thin, some have two equal sides."""
    extents = np.array([1, *np.exp(rng.uniform(np.log(1 / 6), 0, 2))])
    if rng.random() < 0.3:
        extents[1] = extents[rng.choice([0, 2])]
    if rng.random() < 0.2:
        extents[2] = rng.uniform(0.04, 0.14)
    return extents[rng.permutation(3)] if rng.random() < 0.5 else extents


def placed(shape: Shape, rng: np.random.Generator) -> Shape:
    """The shape at a random diameter; half of the frames are turned and half are off centre, as
    the frames of CAD files are."""
    directions = rng.normal(size=(60, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    diameter = np.exp(rng.uniform(*np.log(DIAMETER))).clip(1.05 * DIAMETER[0], 0.95 * DIAMETER[1])
    scale = diameter / np.ptp(shape.vertices @ directions.T, axis=0).max()
    R = random_rotation(rng) if rng.random() < 0.5 else np.eye(3)
    t = rng.normal(0, 0.2 * diameter, 3) if rng.random() < 0.5 else np.zeros(3)
    return replace(shape, vertices=shape.vertices * scale).moved(R, t)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A uniformly random rotation [3,3]."""
    Q, R = np.linalg.qr(rng.normal(size=(3, 3)))
    Q = Q * np.sign(np.diag(R))
    return Q * np.linalg.det(Q)


def warped(shape: Shape, rng: np.random.Generator) -> Shape:
    """The shape pushed about by a smooth random field (equal places move alike: no cracks)."""
    size = np.ptp(shape.vertices, axis=0)
    moved = shape.vertices.copy()
    for _ in range(3):
        wave = rng.normal(0, 3.0, 3) / size.max()
        phase, push = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.03, 3) * size
        moved += push * np.sin(shape.vertices @ wave + phase)[:, None]
    return replace(shape, vertices=moved, symmetries=SymmetryGroup.none())


def same_end_up(group: SymmetryGroup) -> SymmetryGroup:
    """Without the symmetries that turn an axis of revolution around: for looks that vary along it."""
    if not group.axes:
        return SymmetryGroup.none()
    direction = group.axes[0].direction
    kept = [T for T in group.discrete if direction @ T[:3, :3] @ direction > 0.5]
    return SymmetryGroup(np.array(kept).reshape(-1, 4, 4), group.axes)


# --- part grammar of the training family ---------------------------------------------------------

def box(rng, extents, faces) -> list[Shape]:
    bevel = np.exp(rng.uniform(np.log(0.01), np.log(0.45))) * extents.min()
    return [shapes.rounded_box(extents, bevel, faces)]


def superquadric(rng, extents, faces) -> list[Shape]:
    # Exponents near 1 are left out: they make an ellipsoid with almost continuous symmetries.
    e1, e2 = rng.choice([rng.uniform(0.2, 0.75), rng.uniform(1.25, 1.9)], 2)
    return [shapes.superquadric(extents, e1, e2, faces)]


def cylinder(rng, extents, faces) -> list[Shape]:
    radius, half = extents[0] / 2, extents[2] / 2
    bevel = rng.uniform(0.02, 0.25) * min(radius, half)
    rise = np.linspace(-half + bevel, half - bevel, 6)
    profile = np.stack([np.full(6, radius), rise], 1)
    profile = np.concatenate([[[radius - bevel, -half]], profile, [[radius - bevel, half]]])
    return [shapes.lathe(profile, faces, equal_ends=True)]


def turned(rng, extents, faces) -> list[Shape]:
    """A body of revolution: a smooth random profile with a few sharp steps, or a bottle."""
    rows = 20
    z = np.linspace(-0.5, 0.5, rows)
    if rng.random() < 0.4:
        shoulder, neck = rng.uniform(0.0, 0.35), rng.uniform(0.2, 0.6)
        slope = rng.uniform(0.03, 0.15)
        radius = neck + (1 - neck) / (1 + np.exp((z - shoulder) / slope * 2))
        radius[z < -0.47] *= 0.92
        if rng.random() < 0.6:
            radius[-3:] = neck * rng.uniform(1.05, 1.4)
    else:
        knots = rng.uniform(0.3, 1, rng.integers(3, 7))
        radius = np.interp(z, np.linspace(-0.5, 0.5, len(knots)), knots)
        for _ in range(rng.integers(0, 4)):
            a = rng.integers(1, rows - 2)
            radius[a:a + rng.integers(1, 6)] *= rng.uniform(0.7, 1.2)
        if rng.random() < 0.25:
            radius[-1] = 0
    profile = np.stack([radius / radius.max() * extents[0] / 2, z * extents[2]], 1)
    return [shapes.lathe(profile, faces)]


def ring(rng, extents, faces) -> list[Shape]:
    return [shapes.torus(0.5, rng.uniform(0.06, 0.28), faces)]


def prism(rng, extents, faces) -> list[Shape]:
    """A regular prism, a star, or a random outline, raised."""
    if rng.random() < 0.55:
        fold = int(rng.integers(3, 9))
        points = fold * (2 if rng.random() < 0.4 else 1)
        outline = polar(np.where(np.arange(points) % (points // fold), rng.uniform(0.4, 0.8), 1))
        return [shapes.extrusion(outline * extents[0] / 2, extents[2], faces, fold)]
    outline = polar(rng.uniform(0.5, 1, rng.integers(4, 12)))
    return [shapes.extrusion(outline * extents[:2] / 2, extents[2], faces)]


def polar(radius: np.ndarray) -> np.ndarray:
    """Outline [n,2] with these radii at equal angles."""
    angle = 2 * np.pi * np.arange(len(radius)) / len(radius)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


SIMPLE = (box, superquadric, cylinder, turned, ring, prism)


def union(rng, extents, faces) -> list[Shape]:
    """Two to six simple parts, each put on the surface of those before it."""
    count = int(rng.integers(2, 7))
    parts: list[Shape] = []
    for i in range(count):
        size = 1.0 if i == 0 else rng.uniform(0.3, 0.8)
        make = SIMPLE[rng.choice(len(SIMPLE), p=[.35, .15, .2, .15, .05, .1])]
        part = make(rng, random_extents(rng) * size, faces // count)[0]
        R = np.eye(3)[rng.permutation(3)] if rng.random() < 0.7 else random_rotation(rng)
        R = R * np.linalg.det(R)
        anchor = np.zeros(3)
        if parts:
            host = parts[rng.integers(len(parts))]
            anchor = host.vertices[rng.integers(len(host.vertices))]
        parts.append(part.moved(R, anchor))
    return parts


def vessel(rng, extents, faces) -> list[Shape]:
    """A mug, jug or pan: a body of revolution with a handle."""
    extents = np.array([1, 1, rng.uniform(0.4, 1.8)])
    body = (cylinder if rng.random() < 0.6 else turned)(rng, extents, int(faces * 0.7))[0]
    if rng.random() < 0.7:
        handle = shapes.torus(rng.uniform(0.2, 0.33) * min(1, extents[2]), rng.uniform(0.03, 0.07), int(faces * 0.3))
        turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        return [body, handle.moved(turn, np.array([0.47, 0, rng.uniform(-0.1, 0.1)]))]
    length = rng.uniform(0.5, 1.5)
    handle = shapes.rounded_box(np.array([length, rng.uniform(0.08, 0.2), rng.uniform(0.05, 0.12)]), 0.03,
                                int(faces * 0.3))
    return [body, handle.moved(np.eye(3), np.array([0.45 + length / 2, 0, extents[2] * rng.uniform(0.1, 0.4)]))]


def tool(rng, extents, faces) -> list[Shape]:
    """A long handle with a head across or along it, and sometimes a tip."""
    grip = rng.uniform(0.08, 0.2)
    make = cylinder if rng.random() < 0.5 else box
    handle = make(rng, np.array([grip, grip * rng.uniform(0.6, 1.2), 1.0]), int(faces * 0.4))[0]
    head_size = np.array([rng.uniform(0.3, 0.9), rng.uniform(0.12, 0.35), rng.uniform(0.12, 0.35)])
    head = (box if rng.random() < 0.6 else superquadric)(rng, head_size, int(faces * 0.4))[0]
    parts = [handle, head.moved(np.eye(3), np.array([rng.uniform(-0.25, 0.25), 0, 0.5]))]
    if rng.random() < 0.6:
        tip = cylinder(rng, np.array([0.08, 0.08, rng.uniform(0.2, 0.5)]), int(faces * 0.2))[0]
        along_x = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
        parts.append(tip.moved(along_x, np.array([head_size[0] / 2, 0, 0.5])))
    return parts


def bracket(rng, extents, faces) -> list[Shape]:
    """Two to four thin plates at right angles, perhaps with a boss."""
    thick = rng.uniform(0.03, 0.08)
    plates, count = [], int(rng.integers(2, 5))
    base = np.array([1, rng.uniform(0.3, 1), thick])
    plates.append(shapes.rounded_box(base, 0.2 * thick, faces // count))
    for _ in range(count - 1):
        height, along = rng.uniform(0.2, 0.8), rng.random() < 0.5
        size = np.array([thick, base[1], height]) if along else np.array([base[0], thick, height])
        at = np.array([rng.choice([-0.5, 0.5, rng.uniform(-0.5, 0.5)]) if along else 0,
                       0 if along else rng.choice([-0.5, 0.5]) * base[1], height / 2])
        plates.append(shapes.rounded_box(size, 0.2 * thick, faces // count).moved(np.eye(3), at))
    return plates


# --- part grammar of the held-out family ---------------------------------------------------------

def pipe(rng, extents, faces) -> list[Shape]:
    """A bent pipe, a spring or a knot."""
    t = np.linspace(0, 1, 60)
    style = rng.integers(3)
    if style == 0:
        knots = rng.normal(0, 0.5, (4, 3))
        basis = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t ** 2 * (1 - t), t ** 3], 1)
        path = basis @ knots
    elif style == 1:
        a = 2 * np.pi * rng.uniform(1.5, 3.5) * t
        path = np.stack([0.4 * np.cos(a), 0.4 * np.sin(a), rng.uniform(0.8, 2) * (t - 0.5)], 1)
    else:
        a = 2 * np.pi * t
        r = 0.5 + 0.2 * np.cos(3 * a)
        path = np.stack([r * np.cos(2 * a), r * np.sin(2 * a), 0.25 * np.sin(3 * a)], 1)
    radius = rng.uniform(0.05, 0.12) * (1 + 0.2 * np.sin(2 * np.pi * rng.integers(1, 4) * t))
    return [shapes.tube(path, radius, faces, closed=style == 2)]


def column(rng, extents, faces) -> list[Shape]:
    """A regular or random outline that twists and tapers on its way up."""
    fold = int(rng.integers(3, 7))
    regular = rng.random() < 0.6
    outline = polar(np.tile([1, rng.uniform(0.6, 1)], fold) if regular else rng.uniform(0.6, 1, 2 * fold))
    rows = max(6, faces // (4 * fold) - 1)
    s = np.linspace(0, 1, rows)
    scale = 1 + rng.uniform(-0.6, 0.3) * s + rng.uniform(-0.15, 0.15) * np.sin(2 * np.pi * s)
    shape = shapes.loft(outline * extents[0] / 2, (s - 0.5) * extents[2], scale, rng.uniform(-1.5, 1.5) * s)
    group = shapes.prism_group(fold, flip=False) if regular else SymmetryGroup.none()
    return [shapes.with_group(shape, group)]


def gear(rng, extents, faces) -> list[Shape]:
    """A toothed wheel, nut or frame with a hole."""
    fold, samples = int(rng.integers(4, 15)), 8
    tooth = np.where(np.cos(2 * np.pi * np.arange(fold * samples) / samples) > 0.1, 1, rng.uniform(0.75, 0.97))
    hole = np.full(fold * samples, rng.uniform(0.2, 0.65))
    shape = shapes.ring_extrusion(polar(tooth) / 2, polar(hole) / 2, rng.uniform(0.06, 0.6))
    return [shapes.with_group(shape, shapes.prism_group(fold))]


def assembly(rng, extents, faces) -> list[Shape]:
    """A column with pipes and wheels on it."""
    parts = column(rng, np.array([rng.uniform(0.4, 0.9), 1, 1]), faces // 3)
    for _ in range(rng.integers(1, 4)):
        make = (pipe, gear, column)[rng.integers(3)]
        part = make(rng, np.array([0.4, 0.4, 0.5]), faces // 4)[0]
        part = replace(part, vertices=part.vertices * rng.uniform(0.4, 0.8))
        anchor = parts[0].vertices[rng.integers(len(parts[0].vertices))]
        parts.append(part.moved(random_rotation(rng), anchor))
    return parts


GRAMMARS = {
    "train": ({"box": box, "superquadric": superquadric, "cylinder": cylinder, "turned": turned, "ring": ring,
               "prism": prism, "union": union, "vessel": vessel, "tool": tool, "bracket": bracket},
              (18, 7, 10, 12, 3, 9, 18, 8, 9, 6)),
    "held_out": ({"pipe": pipe, "column": column, "gear": gear, "assembly": assembly}, (20, 30, 20, 30)),
}


# --- looks ---------------------------------------------------------------------------------------

def coloured(shape: Shape, charts: list[int], family: str, rng: np.random.Generator) -> tuple[Mesh, str]:
    """Give the shape its looks; charts: number of charts per part. Returns the mesh and the kind of
    surface: flat, parts (a colour each), bands (along the axis of a round shape), ramp, painted."""
    draw = rng.random()
    if shape.symmetries.axes and draw > 0.75:
        return vertex_coloured(shape, bands(shape, rng)), "bands"
    if draw < 0.30:
        color = textures.palette(rng, 1)[0] / 255
        if len(charts) == 1 or rng.random() < 0.5:
            return vertex_coloured(shape, np.broadcast_to(color, shape.faces.shape + (3,))), "flat"
        part = np.repeat(np.arange(len(charts)), charts)
        color = textures.palette(rng, len(charts))[part[shape.chart]] / 255
        return vertex_coloured(shape, np.broadcast_to(color[:, None], shape.faces.shape + (3,))), "parts"
    if draw < 0.36:
        along = shape.vertices @ random_rotation(rng)[0]
        weight = (along - along.min()) / np.ptp(along)
        ends = textures.palette(rng, 2) / 255
        color = ends[0] + weight[:, None] * (ends[1] - ends[0])
        return vertex_coloured(shape, color[shape.faces]), "ramp"
    return painted(shape, charts, family, rng), "painted"


def bands(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Corner colours [F,3,3] in rings around the axis of a round shape."""
    axis = shape.symmetries.axes[0]
    corners = (shape.vertices[shape.faces] - axis.offset) @ axis.direction
    # The middle of a face's extent, not its centre: the two triangles of a quad must agree.
    along = (corners.min(1) + corners.max(1)) / 2
    level = ((along - along.min()) / max(np.ptp(along), 1e-9) * rng.integers(2, 7)).astype(int)
    colors = textures.palette(rng, level.max() + 1) / 255
    return np.broadcast_to(colors[level][:, None], shape.faces.shape + (3,))


def vertex_coloured(shape: Shape, colors: np.ndarray) -> Mesh:
    """A mesh without texture: colors [F,3,3] in [0,1]."""
    F = len(shape.faces)
    return Mesh(shape.vertices.astype(np.float32), shape.faces.astype(np.int32),
                np.ascontiguousarray(colors, dtype=np.float32), np.zeros((F, 3, 2), np.float32),
                np.full(F, -1, np.int16))


def painted(shape: Shape, charts: list[int], family: str, rng: np.random.Generator) -> Mesh:
    """A mesh with one painted texture atlas: mostly one painter, now and then another or plain."""
    choices = textures.PAINTERS[family]
    main, shared = choices[rng.integers(len(choices))], textures.palette(rng)
    painters, colors = [], []
    for count in charts:
        own = choices[rng.integers(len(choices))] if rng.random() < 0.3 else main
        hues = textures.palette(rng) if rng.random() < 0.4 else shared
        for _ in range(count):
            painters.append(textures.plain if rng.random() < 0.1 else own)
            colors.append(hues)
    image, windows = textures.atlas(shape.aspect, painters, colors, rng)
    return textured(shape, image, windows)


def textured(shape: Shape, image: np.ndarray, windows: np.ndarray) -> Mesh:
    """A mesh under one texture: windows [C,4] (u0, v0, u1, v1) of the charts in the image."""
    F = len(shape.faces)
    window = windows[shape.chart][:, None]
    uv = window[..., :2] + shape.uv * (window[..., 2:] - window[..., :2])
    return Mesh(shape.vertices.astype(np.float32), shape.faces.astype(np.int32), np.ones((F, 3, 3), np.float32),
                uv.astype(np.float32), np.zeros(F, np.int16), (image,))


# --- contact sheet -------------------------------------------------------------------------------

def contact_sheet(family: str, first: int, count: int, size: int = 128) -> np.ndarray:
    """Template renders of `count` objects, one view each: image [H,W,3] uint8."""
    import torch

    from flowpose_ros.rendering.raycast import RaycastRenderer

    renderer, tiles = RaycastRenderer(), []
    for seed in range(first, first + count):
        mesh = random_object(seed, family).mesh
        T = np.eye(4)
        T[:3, :3] = random_rotation(np.random.default_rng(seed))
        T[:3, 3] = [0, 0, 4 * mesh.radius] - T[:3, :3] @ mesh.center
        K = np.array([[2 * size, 0, size / 2 - 0.5], [0, 2 * size, size / 2 - 0.5], [0, 0, 1]])
        view = renderer.render(mesh, torch.tensor(T[None]), torch.tensor(K[None]), (size, size))
        rgb = torch.where(view.mask[:, None], view.rgb, torch.tensor(0.92))
        tiles.append((rgb[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255).astype(np.uint8))
    columns = min(count, 12)
    tiles += [np.full_like(tiles[0], 235)] * (-count % columns)
    return np.concatenate([np.concatenate(tiles[i:i + columns], 1) for i in range(0, len(tiles), columns)])


@command
def main() -> None:
    parser = argparse.ArgumentParser(description="Show procedural objects on one sheet.")
    parser.add_argument("--sheet", required=True, help="picture file to write")
    parser.add_argument("--family", choices=FAMILIES, default="train")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=96)
    args = parser.parse_args()
    from PIL import Image

    Image.fromarray(contact_sheet(args.family, args.first, args.count)).save(args.sheet)


if __name__ == "__main__":
    main()
