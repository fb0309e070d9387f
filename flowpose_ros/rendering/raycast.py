"""The renderer for CPUs: ray casting with Open3D's bounding volume hierarchy."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import open3d as o3d
import torch

from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.renderer import Rendering
from flowpose_ros.rendering.shading import surface_at, template_light


@dataclass(frozen=True)
class Hits:
    """The N pixels of B views that see the mesh: pixel [N] flat index into B*H*W, z [N] metres
    along the camera's axis, face [N], bary [N,3], direction [N,3] of the ray, camera frame, z = 1."""

    pixel: np.ndarray
    z: np.ndarray
    face: np.ndarray
    bary: np.ndarray
    direction: np.ndarray


class RaycastRenderer:
    """Renderer protocol over Open3D ray casting; keeps the hierarchies of meshes while they live."""

    def __init__(self) -> None:
        self._scenes: weakref.WeakKeyDictionary[Mesh, o3d.t.geometry.RaycastingScene] = (
            weakref.WeakKeyDictionary())

    def scene(self, mesh: Mesh) -> o3d.t.geometry.RaycastingScene:
        """The mesh's ray casting scene, in its own frame; built at the first call."""
        found = self._scenes.get(mesh)
        if found is None:
            found = o3d.t.geometry.RaycastingScene()
            found.add_triangles(o3d.core.Tensor(np.ascontiguousarray(mesh.vertices, dtype=np.float32)),
                                o3d.core.Tensor(np.ascontiguousarray(mesh.faces).astype(np.uint32)))
            self._scenes[mesh] = found
        return found

    def cast(self, mesh: Mesh, T_cam_obj: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> Hits:
        """First hits of the pixel rays of B views: T_cam_obj [B,4,4], K [B,3,3], size (H, W)."""
        height, width = size
        rays = pixel_rays(K, size)
        R, t = T_cam_obj[:, :3, :3], T_cam_obj[:, :3, 3]
        packed = np.empty((len(K), height * width, 6), np.float32)
        packed[..., :3] = -(t[:, None] @ R)
        np.matmul(rays, R, out=packed[..., 3:])
        found = self.scene(mesh).cast_rays(o3d.core.Tensor(packed.reshape(-1, 6)))
        z = found["t_hit"].numpy()
        pixel = np.flatnonzero(np.isfinite(z) & (z > 0))
        uv = found["primitive_uvs"].numpy()[pixel]
        bary = np.stack([1 - uv[:, 0] - uv[:, 1], uv[:, 0], uv[:, 1]], 1)
        face = found["primitive_ids"].numpy()[pixel].astype(np.int64)
        return Hits(pixel, z[pixel], face, bary, rays.reshape(-1, 3)[pixel])

    def render(self, mesh: Mesh, T_cam_obj: torch.Tensor, K: torch.Tensor,
               size: tuple[int, int]) -> Rendering:
        """Render B template views (see rendering.renderer.Renderer)."""
        T = T_cam_obj.detach().cpu().numpy().astype(np.float32)
        B, (height, width) = len(T), size
        hits = self.cast(mesh, T, K.detach().cpu().numpy().astype(np.float32), size)
        surface = surface_at(mesh, hits.face, hits.bary)
        view = hits.direction / np.linalg.norm(hits.direction, axis=1, keepdims=True)
        normal = np.einsum("nij,nj->ni", T[hits.pixel // (height * width), :3, :3], surface.normal)
        normal *= np.where((normal * view).sum(1, keepdims=True) > 0, -1, 1)
        values = np.zeros((B * height * width, 10), np.float32)
        values[hits.pixel, 0:3] = surface.albedo * template_light(normal, view)
        values[hits.pixel, 3:6] = normal
        values[hits.pixel, 6:9] = surface.xyz
        values[hits.pixel, 9] = hits.z
        image = torch.from_numpy(values).reshape(B, height, width, 10).permute(0, 3, 1, 2)
        image = image.to(T_cam_obj.device).contiguous()
        depth = image[:, 9]
        return Rendering(image[:, 0:3], depth, image[:, 3:6], image[:, 6:9], depth > 0)


def pixel_rays(K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Ray directions [B,H*W,3] float32 with z = 1 of the pixel centres under K [B,3,3]."""
    height, width = size
    rays = np.ones((len(K), height, width, 3), np.float32)
    rays[..., 0] = ((np.arange(width) - K[:, 0, 2, None]) / K[:, 0, 0, None])[:, None, :]
    rays[..., 1] = ((np.arange(height) - K[:, 1, 2, None]) / K[:, 1, 1, None])[:, :, None]
    return rays.reshape(len(K), -1, 3)
