"""The renderer for CPUs: ray casting with Open3D's bounding volume hierarchy."""

from __future__ import annotations

import weakref

import numpy as np
import open3d as o3d
import torch

from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.renderer import Rendering, check_views, pixel_rays
from flowpose_ros.rendering.shading import Hits, shade


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
        T, K = check_views(T_cam_obj, K, size)
        return shade(mesh, self.cast(mesh, T, K, size), T, size).to(T_cam_obj.device)
