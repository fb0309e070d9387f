"""A small ray tracer for the demo clip: one light with soft shadows, ambient light
with occlusion, gloss; by Open3D ray casting over the whole scene."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import open3d as o3d

from flowpose_ros.rendering.raycast import pixel_rays
from flowpose_ros.rendering.shading import surface_at, unit
from training.demo_objects import Prop

SUN = unit(np.array([[-0.62, -0.35, 0.85]], np.float32))[0]
SUN_COLOR = np.array([2.7, 2.5, 2.15], np.float32)
SUN_SPREAD = 0.05  # radius of the light as seen from the table: the softness of the shadows
SKY, BOUNCE = np.array([0.52, 0.58, 0.68], np.float32), np.array([0.34, 0.28, 0.22], np.float32)
FILL = unit(np.array([[0.8, -0.6, 0.5]], np.float32))[0]
FILL_COLOR = np.array([0.22, 0.24, 0.28], np.float32)
REACH = 0.25  # metres: how far away things take ambient light from each other
SHADOW_RAYS, AMBIENT_RAYS = 4, 6  # per sub-pixel


@dataclass(frozen=True)
class View:
    """A clean H x W view: image [H,W,3] float32 sRGB in [0,1]; depth [H,W] metres at pixel centres,
    0 where nothing is; prop [H,W] index of what is seen, -1 for nothing; facing [H,W] cosine
    between surface normal and ray."""

    image: np.ndarray
    depth: np.ndarray
    prop: np.ndarray
    facing: np.ndarray


class SceneRenderer:
    """Renders a fixed set of props from any camera."""

    def __init__(self, props: list[Prop]) -> None:
        self.props = props
        self.scene = o3d.t.geometry.RaycastingScene()
        for prop in props:
            add(self.scene, prop, prop.T_world_obj)

    def render(self, T_cam_world: np.ndarray, K: np.ndarray, size: tuple[int, int],
               rng: np.random.Generator) -> View:
        """One view: T_cam_world [4,4], K [3,3], size (H, W); twice supersampled colour."""
        fine_K = K.copy()
        fine_K[:2] *= 2
        fine_K[:2, 2] += 0.5  # pixel centres: (u + 0.5) * 2 - 0.5
        fine_size = size[0] * 2, size[1] * 2
        origin, rays = world_rays(T_cam_world, fine_K, fine_size)
        color = np.concatenate([self.radiance(origin, band, rng) for band in np.array_split(rays, 8)])
        linear = cv2.resize(color.reshape(*fine_size, 3), size[::-1], interpolation=cv2.INTER_AREA)
        origin, rays = world_rays(T_cam_world, K, size)
        hits = cast(self.scene, origin, rays)
        depth = np.where(np.isfinite(hits["t"]), hits["t"], 0)
        facing = np.abs((hits["normal"] * unit(rays)).sum(1))
        return View(develop(linear), depth.reshape(size).astype(np.float32), hits["geometry"].reshape(size),
                    facing.reshape(size))

    def radiance(self, origin: np.ndarray, rays: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Linear colour [N,3] along rays [N,3] from origin [3]."""
        hits = cast(self.scene, origin, rays)
        color = np.zeros((len(rays), 3), np.float32)
        seen = np.flatnonzero(np.isfinite(hits["t"]))
        view = unit(rays[seen])
        albedo, normal, gloss = self.surface(hits, seen)
        normal[(normal * view).sum(1) > 0] *= -1
        point = origin + rays[seen] * hits["t"][seen, None] + 3e-4 * normal
        lit = self.sunlight(point, normal, rng)
        open_sky = self.openness(point, normal, rng)
        up = 0.5 + 0.5 * normal[:, 2:]
        ambient = open_sky * (SKY * up + BOUNCE * (1 - up))
        fill = (normal @ FILL).clip(0)[:, None] * FILL_COLOR * open_sky
        sun = (normal @ SUN).clip(0)[:, None] * lit * SUN_COLOR
        half = unit(SUN - view)
        shine = gloss * ((normal * half).sum(1, keepdims=True).clip(0) ** (10 + 150 * gloss)) * lit * SUN_COLOR
        rim = gloss * 0.35 * (1 + (normal * view).sum(1, keepdims=True)).clip(0, 1) ** 4 * SKY * open_sky
        color[seen] = albedo * (ambient + fill + sun) + 0.5 * shine + rim
        return color

    def surface(self, hits: dict[str, np.ndarray], seen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Linear albedo [N,3], world normal [N,3] and gloss [N,1] at the hits `seen`."""
        albedo, normal = np.empty((len(seen), 3), np.float32), np.empty((len(seen), 3), np.float32)
        gloss = np.empty((len(seen), 1), np.float32)
        for index in np.unique(hits["geometry"][seen]):
            own = np.flatnonzero(hits["geometry"][seen] == index)
            prop, pick = self.props[index], seen[own]
            found = surface_at(prop.mesh, hits["face"][pick], hits["bary"][pick])
            albedo[own] = found.albedo ** 2.2
            normal[own] = found.normal @ prop.T_world_obj[:3, :3].T.astype(np.float32)
            gloss[own] = prop.gloss
        return albedo, normal, gloss

    def sunlight(self, point: np.ndarray, normal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Share [N,1] of the light's disc that each point sees."""
        lit = np.zeros((len(point), 1), np.float32)
        for _ in range(SHADOW_RAYS):
            toward = unit(SUN + SUN_SPREAD * rng.normal(size=point.shape).astype(np.float32))
            lit += ~self.blocked(point, toward, np.inf)[:, None]
        return lit / SHADOW_RAYS

    def openness(self, point: np.ndarray, normal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Cosine-weighted share [N,1] of the half space that is free within REACH."""
        free = np.zeros((len(point), 1), np.float32)
        for _ in range(AMBIENT_RAYS):
            toward = unit(normal + unit(rng.normal(size=point.shape).astype(np.float32)) * 0.999)
            free += ~self.blocked(point, toward, REACH)[:, None]
        return 0.15 + 0.85 * free / AMBIENT_RAYS

    def blocked(self, point: np.ndarray, toward: np.ndarray, reach: float) -> np.ndarray:
        rays = np.concatenate([point, toward], 1).astype(np.float32)
        return self.scene.test_occlusions(o3d.core.Tensor(rays), tnear=1e-4, tfar=reach).numpy()


def add(scene: o3d.t.geometry.RaycastingScene, prop: Prop, T: np.ndarray) -> None:
    vertices = prop.mesh.vertices @ T[:3, :3].T + T[:3, 3]
    scene.add_triangles(o3d.core.Tensor(vertices.astype(np.float32)),
                        o3d.core.Tensor(prop.mesh.faces.astype(np.uint32)))


def world_rays(T_cam_world: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Camera centre [3] and pixel rays [H*W,3] in the world; a ray's unit is one metre of depth."""
    R, t = T_cam_world[:3, :3].astype(np.float32), T_cam_world[:3, 3].astype(np.float32)
    return -t @ R, pixel_rays(K[None].astype(np.float32), size)[0] @ R


def cast(scene: o3d.t.geometry.RaycastingScene, origin: np.ndarray, rays: np.ndarray) -> dict[str, np.ndarray]:
    """First hits of rays [N,3]: t, geometry (-1 for none), face, bary, normal."""
    packed = np.concatenate([np.broadcast_to(origin, rays.shape), rays], 1).astype(np.float32)
    found = scene.cast_rays(o3d.core.Tensor(packed))
    uv = found["primitive_uvs"].numpy()
    geometry = found["geometry_ids"].numpy().astype(np.int64)
    return {"t": found["t_hit"].numpy(), "geometry": np.where(geometry < 2 ** 31, geometry, -1),
            "face": found["primitive_ids"].numpy().astype(np.int64),
            "bary": np.stack([1 - uv[:, 0] - uv[:, 1], uv[:, 0], uv[:, 1]], 1),
            "normal": unit(found["primitive_normals"].numpy())}


def develop(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB in [0,1], with a soft shoulder in the highlights."""
    x = 0.62 * linear
    x = np.where(x < 0.7, x, 0.7 + 0.3 * np.tanh((x - 0.7) / 0.3))
    return np.where(x < 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-6) ** (1 / 2.4) - 0.055)
