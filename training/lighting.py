"""Light on a query picture: deliberately another light than a template's."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import open3d as o3d

from flowpose_ros.rendering.raycast import RaycastRenderer
from training.gbuffer import GBuffer, Instance, Scene

SHADOW_SHARE = 0.4


@dataclass(frozen=True)
class Light:
    """A lamp: `place` [3] is a point (metres, camera frame) or, if not `near`, a direction towards
    the lamp; colour [3]; shadow in [0,1] is how much of it a caster takes away; softness in pixels
    per 100 pixels of picture."""

    place: np.ndarray
    near: bool
    colour: np.ndarray
    shadow: float
    softness: float


@dataclass(frozen=True)
class Lighting:
    """Ambient light [3], lamps, and the exponent that turns light into picture values."""

    ambient: np.ndarray
    lamps: tuple[Light, ...]
    gamma: float


def random_lighting(middle: np.ndarray, reach: float, rng: np.random.Generator) -> Lighting:
    """One to three lamps around a scene at `middle` [3] of size `reach` metres."""
    lamps = []
    shadowed = rng.random() < SHADOW_SHARE
    for k in range(rng.integers(1, 4)):
        direction = rng.normal(size=3)
        if rng.random() < 0.85:
            direction[2] = -abs(direction[2])  # from the camera's side
        direction /= np.linalg.norm(direction)
        near = bool(rng.random() < 0.5)
        place = middle + direction * reach * rng.uniform(2, 8) if near else direction
        colour = rng.uniform(0.2, 1.0) * (1 + rng.uniform(-0.2, 0.2, 3))
        shadow = rng.uniform(0.5, 1.0) if shadowed and k == 0 else 0.0
        lamps.append(Light(place, near, colour, shadow, rng.uniform(0.3, 3.0)))
    ambient = rng.uniform(0.1, 0.7) * (1 + rng.uniform(-0.1, 0.1, 3))
    return Lighting(ambient, tuple(lamps), rng.uniform(1.0, 2.2))


def shade(buffer: GBuffer, scene: Scene, lighting: Lighting, renderer: RaycastRenderer) -> np.ndarray:
    """The picture [H,W,3] of a lit scene before exposure; 0 where nothing is.

    With light L and albedo a the diffuse part is a L^(1/gamma): what a camera's gamma makes of
    linear light on a surface whose albedo is given in picture values.
    """
    pixel = np.flatnonzero(buffer.owner != -1)
    normal, gloss = buffer.normal[pixel], buffer.gloss[pixel]
    rays = buffer.rays[pixel]
    points = rays * buffer.z[pixel, None]
    view = -rays / np.linalg.norm(rays, axis=1, keepdims=True)
    light = np.tile(lighting.ambient.astype(np.float32), (len(pixel), 1))
    highlight = np.zeros_like(light)
    for lamp in lighting.lamps:
        toward = (lamp.place - points if lamp.near else np.broadcast_to(lamp.place, points.shape))
        toward = toward.astype(np.float32)
        unit = toward / np.linalg.norm(toward, axis=1, keepdims=True)
        facing = np.maximum((normal * unit).sum(1), 0)
        lit = _lit_share(buffer, pixel, points, normal, toward, facing > 0, lamp, scene, renderer)
        colour = lamp.colour.astype(np.float32)
        light += (facing * lit)[:, None] * colour
        half = unit + view
        half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
        lobe = np.maximum((normal * half).sum(1), 0) ** gloss[:, 1] * gloss[:, 0] * (facing > 0)
        highlight += (lobe * lit)[:, None] * colour
    picture = np.zeros((len(buffer.z), 3), np.float32)
    picture[pixel] = buffer.albedo[pixel] * light ** np.float32(1 / lighting.gamma) + highlight
    return picture.reshape(*buffer.size, 3)


def _lit_share(buffer: GBuffer, pixel: np.ndarray, points: np.ndarray, normal: np.ndarray,
               toward: np.ndarray, facing: np.ndarray, lamp: Light, scene: Scene,
               renderer: RaycastRenderer) -> np.ndarray:
    """Share [M] of a lamp's light that arrives at M points; penumbras are blurred in the picture."""
    if lamp.shadow == 0:
        return np.ones(len(pixel), np.float32)
    candidates = np.flatnonzero(facing)
    start = points + normal * (1e-3 * scene.instances[0].radius)
    dark = np.zeros(len(pixel), bool)
    for instance in scene.instances:
        open_ = candidates[~dark[candidates]]
        dark[open_] = _blocked(renderer, instance, start[open_], toward[open_], lamp.near)
    mask = np.zeros(len(buffer.z), np.float32)
    mask[pixel] = dark
    sigma = lamp.softness * buffer.size[1] / 100
    soft = cv2.GaussianBlur(mask.reshape(buffer.size), (0, 0), sigma).reshape(-1)[pixel]
    return 1 - lamp.shadow * soft


def _blocked(renderer: RaycastRenderer, instance: Instance, start: np.ndarray, toward: np.ndarray,
             near: bool) -> np.ndarray:
    """Whether [M] the rays start + s toward (s < 1 for a near lamp) meet an instance."""
    to_center = (instance.center - start).astype(np.float32)
    along = (to_center * toward).sum(1) / (toward * toward).sum(1)
    miss = to_center - along[:, None] * toward
    possible = np.flatnonzero(((miss * miss).sum(1) < instance.radius ** 2)
                              & (along * np.linalg.norm(toward, axis=1) > -instance.radius))
    blocked = np.zeros(len(start), bool)
    R, t = instance.T_cam_obj[:3, :3], instance.T_cam_obj[:3, 3]
    packed = np.concatenate([(start[possible] - t) @ R, toward[possible] @ R], 1) / instance.scale
    found = renderer.scene(instance.mesh).test_occlusions(
        o3d.core.Tensor.from_numpy(packed.astype(np.float32)), tfar=1.0 if near else float("inf"), nthreads=1)
    blocked[possible] = found.numpy()
    return blocked
