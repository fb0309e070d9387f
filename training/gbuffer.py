"""What a camera sees of a scene of several meshes, before any light: cast each, keep the nearest.

Every mesh keeps its own ray casting hierarchy; rays are brought into its frame instead, and only
those that can meet its bounding sphere. So a new scene costs no building.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import open3d as o3d

from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.raycast import Hits, RaycastRenderer, pixel_rays
from flowpose_ros.rendering.shading import surface_at


@dataclass(frozen=True)
class Material:
    """How an instance's surface differs from its mesh: gain [3] on the albedo, Blinn-Phong
    specular in [0,1] and shininess, and one flat colour [3] in place of its texture, or None."""

    gain: np.ndarray
    specular: float = 0.0
    shininess: float = 20.0
    flat: np.ndarray | None = None


@dataclass(frozen=True)
class Instance:
    """A mesh in a scene: T_cam_obj [4,4] places the mesh after it was scaled by `scale`."""

    mesh: Mesh
    T_cam_obj: np.ndarray
    material: Material
    scale: float = 1.0

    @property
    def center(self) -> np.ndarray:
        """Middle [3] of the bounding sphere, camera frame, metres."""
        return self.T_cam_obj[:3, :3] @ self.mesh.center * self.scale + self.T_cam_obj[:3, 3]

    @property
    def radius(self) -> float:
        """Radius of the bounding sphere, metres."""
        return self.mesh.radius * self.scale


@dataclass(frozen=True)
class Plane:
    """A finite table: points with normal [3] . x = offset, within `reach` of `middle` [3], camera
    frame, metres; texture [h,w,3] in [0,1] repeats every `period` metres."""

    normal: np.ndarray
    offset: float
    middle: np.ndarray
    reach: float
    texture: np.ndarray
    period: float


@dataclass(frozen=True)
class Scene:
    """The instances (the target first), an optional table, a background picture [h,w,3] in [0,1]
    and the plane behind it: wall [4] (a, b, c, d) with a x + b y + c z = d, or None for no depth."""

    instances: tuple[Instance, ...]
    table: Plane | None
    background: np.ndarray
    wall: np.ndarray | None


@dataclass(frozen=True)
class GBuffer:
    """Per pixel of an H x W view, flattened: z [HW] metres (inf where nothing is), owner [HW]
    (index of the instance, -1 nothing, -2 table), albedo [HW,3], normal [HW,3] facing the camera,
    gloss [HW,2] (specular, shininess), rays [HW,3] with z = 1; camera frame."""

    size: tuple[int, int]
    z: np.ndarray
    owner: np.ndarray
    albedo: np.ndarray
    normal: np.ndarray
    gloss: np.ndarray
    rays: np.ndarray


TABLE = -2


def cast_instance(renderer: RaycastRenderer, instance: Instance, K: np.ndarray, rays: np.ndarray,
                  size: tuple[int, int]) -> Hits:
    """First hits of one instance among the pixel rays [HW,3] of K [3,3]."""
    pixel = _pixels_of_sphere(instance.center, instance.radius, K, size)
    directions = rays[pixel]
    R, t = instance.T_cam_obj[:3, :3], instance.T_cam_obj[:3, 3]
    packed = np.empty((len(pixel), 6), np.float32)
    packed[:, :3] = -(t @ R) / instance.scale
    packed[:, 3:] = directions @ (R / instance.scale).astype(np.float32)
    found = renderer.scene(instance.mesh).cast_rays(o3d.core.Tensor.from_numpy(packed), nthreads=1)
    z = found["t_hit"].numpy()
    hit = np.flatnonzero(np.isfinite(z) & (z > 0))
    uv = found["primitive_uvs"].numpy()[hit]
    bary = np.stack([1 - uv[:, 0] - uv[:, 1], uv[:, 0], uv[:, 1]], 1)
    face = found["primitive_ids"].numpy()[hit].astype(np.int64)
    return Hits(pixel[hit], z[hit], face, bary, directions[hit])


def render_gbuffer(renderer: RaycastRenderer, scene: Scene, K: np.ndarray,
                   size: tuple[int, int]) -> GBuffer:
    """The nearest surface of a scene at each pixel of K [3,3]."""
    rays = pixel_rays(K[None].astype(np.float32), size)[0]
    z, owner, hits = _nearest(renderer, scene, K, rays, size)
    buffer = GBuffer(size, z, owner, np.zeros((len(z), 3), np.float32),
                     np.zeros((len(z), 3), np.float32), np.zeros((len(z), 2), np.float32), rays)
    for k, h in enumerate(hits):
        seen = owner[h.pixel] == k
        _fill_surface(buffer, scene.instances[k], h.pixel[seen], h.face[seen], h.bary[seen])
    if scene.table is not None:
        _fill_table(buffer, scene.table)
    return buffer


def scene_depths(renderer: RaycastRenderer, scene: Scene, K: np.ndarray,
                 size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Clean depth [H,W] of a scene, metres, and that of its target alone where it is seen; 0 elsewhere.

    The wall belongs to the first.
    """
    rays = pixel_rays(K[None].astype(np.float32), size)[0]
    z, owner, _ = _nearest(renderer, scene, K, rays, size)
    return tuple(depth.reshape(size) for depth in (with_wall(z, rays, scene.wall), target_depth(z, owner)))


def target_depth(z: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Depth z [HW] where its owner [HW] is the scene's target, 0 elsewhere."""
    return np.where(owner == 0, z, 0).astype(np.float32)


def _nearest(renderer: RaycastRenderer, scene: Scene, K: np.ndarray, rays: np.ndarray,
             size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, list[Hits]]:
    """z [HW] and owner [HW] of the nearest surface (see GBuffer), and all hits of each instance."""
    z, owner = _table_depth(scene.table, rays)
    hits = [cast_instance(renderer, instance, K, rays, size) for instance in scene.instances]
    for k, h in enumerate(hits):
        nearer = h.z < z[h.pixel]
        z[h.pixel[nearer]], owner[h.pixel[nearer]] = h.z[nearer], k
    return z, owner, hits


def with_wall(z: np.ndarray, rays: np.ndarray, wall: np.ndarray | None) -> np.ndarray:
    """Depth z [HW] with the wall behind it; 0 where there is neither."""
    if wall is not None:
        facing = rays @ wall[:3].astype(np.float32)
        behind = np.where(facing > 1e-3, wall[3] / np.maximum(facing, 1e-3), np.inf)
        z = np.minimum(z, behind.astype(np.float32))
    return np.where(np.isfinite(z), z, 0).astype(np.float32)


def _pixels_of_sphere(center: np.ndarray, radius: float, K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Flat indices of the pixels in the rectangle around a sphere's image."""
    height, width = size
    if center[2] <= radius * 1.01:  # the camera is beside or inside the sphere
        return np.arange(height * width) if center[2] > -radius else np.zeros(0, np.int64)
    spans = []
    for axis, pixels in ((0, width), (1, height)):
        theta = np.arctan2(center[axis], center[2])
        alpha = np.arcsin(min(1.0, radius / np.hypot(center[axis], center[2])))
        low, high = np.tan(np.clip([theta - alpha, theta + alpha], -1.5, 1.5)) * K[axis, axis] + K[axis, 2]
        spans.append(np.arange(max(0, int(np.floor(low))), min(pixels, int(np.ceil(high)) + 1)))
    return (spans[1][:, None] * width + spans[0]).reshape(-1)


def _table_depth(table: Plane | None, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth [HW] and owner [HW] of the table alone."""
    z, owner = np.full(len(rays), np.inf, np.float32), np.full(len(rays), -1, np.int16)
    if table is not None:
        facing = rays @ table.normal.astype(np.float32)
        depth = table.offset / np.where(np.abs(facing) < 1e-6, 1e-6, facing)
        away = rays * depth[:, None] - table.middle
        on = (depth > 0.02) & ((away * away).sum(1) < table.reach ** 2)
        z[on], owner[on] = depth[on], TABLE
    return z, owner


def _fill_surface(buffer: GBuffer, instance: Instance, pixel: np.ndarray, face: np.ndarray,
                  bary: np.ndarray) -> None:
    material = instance.material
    surface = surface_at(instance.mesh, face, bary)
    albedo = surface.albedo if material.flat is None else material.flat
    buffer.albedo[pixel] = np.clip(albedo * material.gain, 0, 1)
    normal = surface.normal @ instance.T_cam_obj[:3, :3].T.astype(np.float32)
    away = (normal * buffer.rays[pixel]).sum(1) > 0
    normal[away] *= -1
    buffer.normal[pixel] = normal
    buffer.gloss[pixel] = material.specular, material.shininess


def _fill_table(buffer: GBuffer, table: Plane) -> None:
    pixel = np.flatnonzero(buffer.owner == TABLE)
    points = buffer.rays[pixel] * buffer.z[pixel, None] - table.middle
    across = np.cross(table.normal, [1.0, 0.0, 0.0] if abs(table.normal[0]) < 0.9 else [0.0, 1.0, 0.0])
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(table.normal, across)], 1).astype(np.float32)
    h, w = table.texture.shape[:2]
    cell = np.floor(points @ axes * (w / table.period)).astype(np.int64)
    buffer.albedo[pixel] = table.texture[cell[:, 1] % h, cell[:, 0] % w]
    facing = np.sign((buffer.rays[pixel] @ table.normal.astype(np.float32)))
    buffer.normal[pixel] = -facing[:, None] * table.normal.astype(np.float32)
    buffer.gloss[pixel] = 0.05, 10.0
