"""A scene from a seed: which things fall from where, in which room, under which light, seen from where."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from flowpose_ros.geometry.rotations import random_rotations
from training.demo_clip import look_at
from training.photoreal.light import Light, draw_light
from training.photoreal.room import KINDS, Room, draw_room
from training.photoreal.things import Thing
from training.pools import Backgrounds

THINGS = 4, 7
"""Fewest and most things that fall."""
GAP_M = 0.01
MARGIN = 0.05
"""Share of each image side that things keep clear of."""
ELEVATIONS_DEG = {"table": (22, 65), "bin": (55, 82)}
TURN_DEG = 3.0
"""Between two images of a clip, about the vertical through the pile."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A thing at T_world_obj [4,4]; roughness of its surface in [0,1]."""

    thing: Thing
    T_world_obj: np.ndarray
    roughness: float

    @property
    def hull_points(self) -> np.ndarray:
        """Corners [N,3] of the thing's convex hull in the world, metres."""
        return self.thing.hull_points @ self.T_world_obj[:3, :3].T + self.T_world_obj[:3, 3]


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything but the camera; world z up, the table's or bin's surface at z = 0."""

    room: Room
    light: Light
    placed: tuple[Placed, ...]


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera: T_cam_world [4,4], OpenCV axes; K [3,3] with pixel centres at integers; size (H, W)."""

    T_cam_world: np.ndarray
    K: np.ndarray
    size: tuple[int, int]


def compose(things: list[Thing], backgrounds: Backgrounds, kind: str, key: tuple[int, ...]) -> Scene:
    """The scene of a key before anything has fallen: the same on every machine.

    kind: `table`, `bin` or `mixed`; key: seed, scene and attempt.
    """
    rng = np.random.default_rng([*key, 0])
    if kind == "mixed":
        kind = KINDS[rng.integers(len(KINDS))]
    count = int(rng.integers(THINGS[0], THINGS[1] + 1))
    drawn = [things[i] for i in rng.choice(len(things), count, replace=len(things) < count)]
    drawn.sort(key=lambda thing: -thing.mesh.radius)
    room = draw_room(kind, np.array([thing.mesh.radius for thing in drawn]), backgrounds, rng)
    return Scene(room, draw_light(rng), hang(drawn, room.half, rng))


def hang(things: list[Thing], half: float, rng: np.random.Generator) -> tuple[Placed, ...]:
    """Things turned at random above a square of sides 2 half, each as low as it can be without touching the others."""
    placed, middles = [], np.zeros((0, 3))
    for index, thing in enumerate(things):
        radius, R = thing.mesh.radius + GAP_M, random_rotations(1, rng)[0]
        middle = np.array([*rng.uniform(-1, 1, 2) * max(half - radius, 0), radius])
        for other, below in sorted(zip(things[:index], middles), key=lambda pair: pair[1][2]):
            reach, aside = other.mesh.radius + radius, np.linalg.norm(middle[:2] - below[:2])
            if aside < reach:
                middle[2] = max(middle[2], below[2] + np.sqrt(reach**2 - aside**2))
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = R, middle - R @ thing.mesh.center
        placed.append(Placed(thing, T, float(rng.uniform(0.2, 0.9))))
        middles = np.vstack([middles, middle])
    return tuple(placed)


def at_rest(scene: Scene, poses: list[np.ndarray]) -> Scene:
    """The scene with its things at T_world_obj [4,4] each; those that left the table or bin are taken away."""
    placed = []
    for item, T in zip(scene.placed, poses):
        item = replace(item, T_world_obj=T)
        low, high = item.hull_points.min(0), item.hull_points.max(0)
        if (np.abs((low + high)[:2] / 2) < scene.room.inside).all() and low[2] > -0.01:
            placed.append(item)
    return replace(scene, placed=tuple(placed))


def aim(scene: Scene, size: tuple[int, int], key: tuple[int, ...]) -> Camera:
    """A camera of the key that looks down at the pile from somewhere and has all things whole in its image (H, W)."""
    rng = np.random.default_rng([*key, 1])
    height, width = size
    focal = width / 2 / np.tan(np.radians(rng.uniform(38, 60)) / 2)
    cx, cy = (width - 1) / 2 + rng.uniform(-0.02, 0.02) * width, (height - 1) / 2 + rng.uniform(-0.02, 0.02) * width
    K = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])
    points = np.concatenate([item.hull_points for item in scene.placed])
    low, high = points.min(0), points.max(0)
    middle = (low + high) / 2 + rng.uniform(-0.1, 0.1, 3) * (high - low)
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(*ELEVATIONS_DEG[scene.room.kind]))
    outward = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    T = look_at(middle + outward, middle)
    T[:3] = _roll(np.radians(rng.normal(0, 5))) @ T[:3]
    nearest = 1 + _step_back(points @ T[:3, :3].T + T[:3, 3], K, size)
    T[2, 3] += nearest * rng.uniform(1.0, 1.2) - 1
    return Camera(T, K, size)


def around(scene: Scene, first: Camera, views: int) -> list[Camera]:
    """A camera that goes round the pile from where it first is, its images a clip of so many views; all things are whole
    in all of them, for which it may begin a little farther away."""
    points = np.concatenate([item.hull_points for item in scene.placed])
    middle = (points.min(0) + points.max(0)) / 2
    path = []
    for view in range(views):
        T = np.eye(4)
        T[:3, :3] = Rotation.from_rotvec([0, 0, np.radians(TURN_DEG * view)]).as_matrix()
        T[:3, 3] = middle - T[:3, :3] @ middle
        path.append(first.T_cam_world @ T)
    step = max(_step_back(points @ T[:3, :3].T + T[:3, 3], first.K, first.size) for T in path)
    for T in path:
        T[2, 3] += max(step, 0.0)
    return [replace(first, T_cam_world=T) for T in path]


def _roll(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _step_back(points: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> float:
    """Least step back, metres, from which points [N,3] in the camera's axes all project inside the image's margin."""
    edge = np.array([size[1], size[0]])
    limits = K[:2, 2] - MARGIN * edge, (1 - MARGIN) * edge - 1 - K[:2, 2]
    # To both sides: f x / (z + d) <= limit.
    needed = [side * K[[0, 1], [0, 1]] * points[:, :2] / limit - points[:, 2:] for side, limit in zip((-1, 1), limits)]
    return float(max(np.max(needed), 0.15 - points[:, 2].min()))
