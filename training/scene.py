"""Composes a random scene around a target, in the camera of the crop."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from training.gbuffer import Instance, Material, Plane, Scene
from training.pools import Backgrounds, ObjectPool


def random_material(rng: np.random.Generator) -> Material:
    """Albedo off by up to a fifth per channel, as CAD colours are; sometimes shiny, sometimes plain."""
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.85, 1.15, 3)
    specular = rng.uniform(0, 0.6) if rng.random() < 0.5 else 0.0
    return Material(gain.astype(np.float32), specular, rng.uniform(5, 60))


def compose_scene(target: Instance, pool: ObjectPool, backgrounds: Backgrounds, size: int, seed: int,
                  rng: np.random.Generator) -> Scene:
    """The target with 0-3 occluders, 0-4 things around it, a table in half of the scenes, a wall."""
    others = []
    for k in range(int(rng.choice(4, p=(0.45, 0.3, 0.15, 0.1)))):
        others.append(_occluder(target, pool.draw(rng, seed + k).mesh, rng))
    for k in range(int(rng.integers(0, 5))):
        others.append(_neighbour(target, pool.draw(rng, seed + 7 + k).mesh, rng))
    table = _table(target, backgrounds, rng) if rng.random() < 0.5 else None
    distance = target.center[2] + target.radius * rng.uniform(1.5, 12)
    wall = None if rng.random() < 0.2 else np.array([*rng.normal(0, 0.2, 2), 1.0, distance])
    return Scene((target, *others), table, backgrounds.draw(size, rng), wall)


def _placed(mesh, middle: np.ndarray, radius: float, rng: np.random.Generator) -> Instance:
    """A mesh of the given radius, turned at random, its middle at a point of the camera frame."""
    scale = radius / mesh.radius
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    T[:3, 3] = middle - T[:3, :3] @ mesh.center * scale
    return Instance(mesh, T, random_material(rng), scale)


def _occluder(target: Instance, mesh, rng: np.random.Generator) -> Instance:
    """Something nearer to the camera, cutting into the target from a side."""
    radius = target.radius * rng.uniform(0.25, 0.7)
    z = max(target.center[2] - target.radius - radius * rng.uniform(1.0, 2.0), 2.5 * radius)
    angle = rng.uniform(0, 2 * np.pi)
    off = (target.radius * rng.uniform(0.5, 1.1) + 0.3 * radius) * np.array([np.cos(angle), np.sin(angle)])
    middle = np.append((target.center[:2] + off) / target.center[2] * z, z)
    return _placed(mesh, middle, radius, rng)


def _neighbour(target: Instance, mesh, rng: np.random.Generator) -> Instance:
    """Something beside or behind the target, in the picture's reach."""
    radius = target.radius * rng.uniform(0.4, 1.3)
    angle = rng.uniform(0, 2 * np.pi)
    away = (target.radius + radius) * rng.uniform(0.8, 1.3)
    middle = target.center + np.array([np.cos(angle) * away, np.sin(angle) * away,
                                       rng.uniform(-0.3, 2.0) * (target.radius + radius)])
    middle[2] = max(middle[2], 2.0 * radius)
    return _placed(mesh, middle, radius, rng)


def _table(target: Instance, backgrounds: Backgrounds, rng: np.random.Generator) -> Plane:
    """A table that the target's lower side touches, seen from above."""
    tilt = np.radians(rng.uniform(15, 80))
    roll = rng.normal(0, 0.15)
    normal = np.array([np.sin(roll) * np.sin(tilt), -np.cos(roll) * np.sin(tilt), -np.cos(tilt)])
    corners = target.mesh.vertices[::max(1, len(target.mesh.vertices) // 500)]
    heights = (corners @ target.T_cam_obj[:3, :3].T + target.T_cam_obj[:3, 3]) @ normal
    offset = float(heights.min())
    middle = target.center + normal * (offset - target.center @ normal)
    texture = backgrounds.draw(256, rng)
    return Plane(normal, offset, middle, target.radius * rng.uniform(3, 15), texture,
                 target.radius * rng.uniform(3, 8))
