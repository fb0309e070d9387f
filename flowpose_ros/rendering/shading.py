"""Surface appearance at ray hits, shared by every renderer so that their images match."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowpose_ros.objects.mesh import Mesh

TEMPLATE_AMBIENT = 0.55
"""Share of light in a template that does not depend on the surface's direction; the rest is a headlight."""


@dataclass(frozen=True)
class Surface:
    """What a camera sees at N hit points: albedo [N,3] in [0,1], normal [N,3] unit in the object
    frame, xyz [N,3] metres in the object frame."""

    albedo: np.ndarray
    normal: np.ndarray
    xyz: np.ndarray


def surface_at(mesh: Mesh, face: np.ndarray, bary: np.ndarray) -> Surface:
    """Interpolate a mesh at N hits: face [N] indices, bary [N,3] weights of the face's corners."""
    weights = bary[:, :, None].astype(np.float32)
    albedo = (mesh.colors[face] * weights).sum(1)
    normal = (mesh.corner_normals[face] * weights).sum(1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    xyz = (mesh.vertices[mesh.faces[face]] * weights).sum(1)
    if mesh.textures:
        index = mesh.face_texture[face]
        uv = (mesh.uv[face] * weights).sum(1)
        for i, texture in enumerate(mesh.textures):
            hit = index == i
            if hit.any():
                albedo[hit] *= sample_texture(texture, uv[hit])
    return Surface(albedo, normal, xyz)


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear, repeating look-up: texture [h,w,3] uint8 at uv [N,2] (v upward) -> [N,3] in [0,1]."""
    h, w = texture.shape[:2]
    x = uv[:, 0] * w - 0.5
    y = (1 - uv[:, 1]) * h - 0.5
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = (x - x0)[:, None].astype(np.float32), (y - y0)[:, None].astype(np.float32)
    x0, y0 = x0.astype(np.int64) % w, y0.astype(np.int64) % h
    x1, y1 = (x0 + 1) % w, (y0 + 1) % h
    top = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    bottom = texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx
    return ((top * (1 - fy) + bottom * fy) / 255).astype(np.float32)


def template_light(normal_cam: np.ndarray, view_cam: np.ndarray) -> np.ndarray:
    """Brightness [N,1] of a template: ambient plus a headlight at the camera.

    normal_cam, view_cam [N,3] unit vectors; view points from the camera to the surface.
    """
    facing = np.abs((normal_cam * view_cam).sum(1, keepdims=True))
    return TEMPLATE_AMBIENT + (1 - TEMPLATE_AMBIENT) * facing
