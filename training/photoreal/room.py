"""What things lie on and in: a table or a bin, and the floor below."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.pools import Backgrounds
from training.textures import blend, fbm, noise, palette, voronoi

KINDS = ("table", "bin")
TABLE_HEIGHT_M = 0.74
FLOOR_HALF_M = 40.0
TILE_M = 2.0
"""Side of the floor's picture, which repeats."""
PLASTICS = np.array([[176, 178, 180], [92, 95, 99], [48, 50, 54], [38, 82, 140], [150, 40, 38], [196, 150, 40],
                     [58, 110, 72], [205, 200, 188]], np.float32)


@dataclass(frozen=True, eq=False)
class Slab:
    """A box of a room in world axes, from corner low [3] to corner high [3], metres.

    picture [S,S,3] uint8 sRGB lies flat on it, `tile` metres wide; roughness in [0,1].
    """

    low: np.ndarray
    high: np.ndarray
    picture: np.ndarray
    tile: float
    roughness: float


@dataclass(frozen=True, eq=False)
class Room:
    """Slabs, world z up, the surface that things fall on at z = 0.

    half: half the sides of the square above which things are let go; inside [2]: half the sides of where they may rest.
    surroundings [S,S,3] uint8 sRGB: a picture for the sky.
    """

    kind: str
    half: float
    inside: np.ndarray
    slabs: tuple[Slab, ...]
    surroundings: np.ndarray


def draw_room(kind: str, radii: np.ndarray, backgrounds: Backgrounds, rng: np.random.Generator) -> Room:
    """A table, or a bin on a table, in which things of these radii crowd."""
    spread = np.sqrt((radii**2).sum())
    if kind == "table":
        half, bin_slabs, top = 0.8 * spread, (), 0.0
        inside = half + rng.uniform(0.1, 0.5, 2)
        table_half = inside
    else:
        half = max(0.75 * spread, 1.05 * radii.max())
        inside, top = np.full(2, half), -0.004
        bin_slabs = _bin(half, float(np.clip(half * rng.uniform(0.3, 0.6), 0.04, 0.2)), rng)
        table_half = half + rng.uniform(0.15, 0.6, 2)
    wood = Slab(np.array([*-table_half, top - rng.uniform(0.02, 0.05)]), np.array([*table_half, top]),
                draw_picture(backgrounds, rng), 2 * float(table_half.max()), rng.uniform(0.25, 0.8))
    return Room(kind, half, inside, (*bin_slabs, wood, *_legs(wood), _floor(backgrounds, rng)),
                _bytes(backgrounds.draw(512, rng)))


def _bin(half: float, height: float, rng: np.random.Generator) -> tuple[Slab, ...]:
    """Floor and walls of a bin of plastic, open above, its inner floor at z = 0."""
    color = PLASTICS[rng.integers(len(PLASTICS))] * rng.uniform(0.8, 1.15)
    picture = np.broadcast_to(color.clip(0, 255), (4, 4, 3)).astype(np.uint8)
    thick, roughness = 0.004, rng.uniform(0.25, 0.6)
    outer = half + thick
    corners = [((-outer, -outer, -thick), (outer, outer, 0)),
               ((-outer, -outer, 0), (-half, outer, height)), ((half, -outer, 0), (outer, outer, height)),
               ((-half, -outer, 0), (half, -half, height)), ((-half, half, 0), (half, outer, height))]
    return tuple(Slab(np.array(low), np.array(high), picture, 1.0, roughness) for low, high in corners)


def _legs(top: Slab) -> list[Slab]:
    """Four legs under a table's top."""
    legs = []
    for x in (top.low[0], top.high[0] - 0.05):
        for y in (top.low[1], top.high[1] - 0.05):
            legs.append(Slab(np.array([x, y, -TABLE_HEIGHT_M]), np.array([x + 0.05, y + 0.05, top.low[2]]),
                             top.picture, top.tile, top.roughness))
    return legs


def _floor(backgrounds: Backgrounds, rng: np.random.Generator) -> Slab:
    return Slab(np.array([-FLOOR_HALF_M, -FLOOR_HALF_M, -TABLE_HEIGHT_M - 0.05]),
                np.array([FLOOR_HALF_M, FLOOR_HALF_M, -TABLE_HEIGHT_M]), draw_picture(backgrounds, rng), TILE_M,
                rng.uniform(0.3, 0.9))


def draw_picture(backgrounds: Backgrounds, rng: np.random.Generator, size: int = 1024) -> np.ndarray:
    """A surface [S,S,3] uint8: wood, stone, tiles, plain board or a piece of a background's photograph."""
    kind, shape = rng.choice(["wood", "board", "stone", "tiles", "photo"], p=[.35, .25, .1, .1, .2]), (size, size)
    if kind == "photo":
        return _bytes(backgrounds.draw(size, rng))
    if kind == "wood":
        return _wood(shape, rng)
    colors = palette(rng)
    if kind == "board":
        speck = (fbm(shape, rng, 6, rng.uniform(3, 60)) - 0.5) * rng.uniform(4, 30)
        muted = colors[0] + 0.5 * (colors[0].mean() - colors[0])
        return (muted + speck[..., None]).clip(0, 255).astype(np.uint8)
    return (noise if kind == "stone" else voronoi)(shape, colors, rng)


def _wood(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Boards with grain along x, from pale beech to dark walnut."""
    height, width = shape
    grain = cv2.resize(fbm((height, width // 8), rng, 6, 24), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(fbm((height, width // 24), rng, 3, 200), (width, height), interpolation=cv2.INTER_LINEAR)
    dark, pale = np.array([88, 56, 34.0]), np.array([216, 182, 138.0])
    middle = dark + (pale - dark) * rng.random()
    tones = np.array([middle * 0.72, middle, middle * 1.15]).clip(0, 255)
    image = blend(0.65 * grain + 0.35 * fine, tones).astype(np.float32)
    boards = int(rng.integers(1, 10))
    edges = np.linspace(0, height, boards + 1).astype(int)
    for first, last in zip(edges[:-1], edges[1:]):
        image[first:last] = np.roll(image[first:last], int(rng.integers(width)), axis=1) * rng.uniform(0.88, 1.06)
        image[first:first + 2] *= 0.55
    return image.clip(0, 255).astype(np.uint8)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.round(picture * 255).astype(np.uint8)
