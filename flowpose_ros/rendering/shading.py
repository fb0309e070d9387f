"""From what each pixel hits to images: shared by every renderer, so that their images match."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import torch

from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.renderer import Rendering

TEMPLATE_AMBIENT = 0.55
"""Share of light in a template that does not depend on the surface's direction; the rest is a headlight."""


@dataclass(frozen=True)
class Hits:
    """The N pixels of B views that see the mesh: pixel [N] flat index into B*H*W, rising; z [N]
    metres along the camera's axis, face [N], bary [N,3], direction [N,3] of the ray, camera frame,
    z = 1."""

    pixel: np.ndarray
    z: np.ndarray
    face: np.ndarray
    bary: np.ndarray
    direction: np.ndarray


@dataclass(frozen=True)
class Surface:
    """What a camera sees at N hit points: albedo [N,3] in [0,1], normal [N,3] unit in the object
    frame, xyz [N,3] metres in the object frame."""

    albedo: np.ndarray
    normal: np.ndarray
    xyz: np.ndarray


def shade(mesh: Mesh, hits: Hits, T_cam_obj: np.ndarray, size: tuple[int, int]) -> Rendering:
    """The template images of B views from their hits: T_cam_obj [B,4,4], size (height, width)."""
    B, (height, width) = len(T_cam_obj), size
    surface = surface_at(mesh, hits.face, hits.bary)
    view = unit(hits.direction)
    normal = rotate_per_view(T_cam_obj[:, :3, :3], surface.normal, hits.pixel // (height * width))
    normal[row_dot(normal, view) > 0] *= -1
    values = np.zeros((B * height * width, 10), np.float32)
    values[hits.pixel] = np.concatenate([surface.albedo * template_light(normal, view), normal,
                                         surface.xyz, hits.z[:, None]], 1)
    image = torch.from_numpy(values).reshape(B, height, width, 10).permute(0, 3, 1, 2).contiguous()
    depth = image[:, 9]
    return Rendering(image[:, 0:3], depth, image[:, 3:6], image[:, 6:9], depth > 0)


def surface_at(mesh: Mesh, face: np.ndarray, bary: np.ndarray) -> Surface:
    """Interpolate a mesh at N hits: face [N] indices, bary [N,3] weights of the face's corners."""
    corners = corner_table(mesh).take(face, axis=0)
    values = np.einsum("nk,nkc->nc", bary.astype(np.float32, copy=False), corners)
    albedo, uv = values[:, 0:3], values[:, 9:11]
    for i, texture in enumerate(mesh.textures):
        hit = np.flatnonzero(mesh.face_texture[face] == i)
        albedo[hit] *= sample_texture(texture, uv[hit])
    return Surface(albedo, unit(values[:, 3:6]), values[:, 6:9])


_corner_tables: weakref.WeakKeyDictionary[Mesh, np.ndarray] = weakref.WeakKeyDictionary()


def corner_table(mesh: Mesh) -> np.ndarray:
    """What a mesh says at its triangles' corners, [F,3,11] float32: colour, normal, xyz, uv.

    One table, kept while the mesh lives, because one look-up per hit is three times as fast as four.
    """
    table = _corner_tables.get(mesh)
    if table is None:
        table = np.concatenate([mesh.colors, mesh.corner_normals, mesh.vertices[mesh.faces], mesh.uv],
                               2, dtype=np.float32)
        _corner_tables[mesh] = table
    return table


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear, repeating look-up: texture [h,w,3] uint8 at uv [N,2] (v upward) -> [N,3] in [0,1]."""
    h, w = texture.shape[:2]
    pixels = texture.reshape(-1, 3)
    x0, x1, fx = neighbours(uv[:, 0], w)
    y0, y1, fy = neighbours(1 - uv[:, 1], h)
    y0, y1 = y0 * w, y1 * w
    top = pixels.take(y0 + x0, axis=0) * (1 - fx) + pixels.take(y0 + x1, axis=0) * fx
    bottom = pixels.take(y1 + x0, axis=0) * (1 - fx) + pixels.take(y1 + x1, axis=0) * fx
    return (top * (1 - fy) + bottom * fy) / np.float32(255)


def neighbours(u: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two texels [N] beside u [N] on a ring of `count`, and the second one's weight [N,1]."""
    x = (u - np.floor(u)) * count - 0.5
    first = np.floor(x)
    weight = (x - first).astype(np.float32)[:, None]
    first = first.astype(np.int64)
    first[first < 0] = count - 1
    second = first + 1
    second[second == count] = 0
    return first, second, weight


def template_light(normal_cam: np.ndarray, view_cam: np.ndarray) -> np.ndarray:
    """Brightness [N,1] of a template: ambient plus a headlight at the camera.

    normal_cam, view_cam [N,3] unit vectors; view points from the camera to the surface.
    """
    facing = np.abs(row_dot(normal_cam, view_cam))[:, None]
    return TEMPLATE_AMBIENT + (1 - TEMPLATE_AMBIENT) * facing


def rotate_per_view(R: np.ndarray, vectors: np.ndarray, view: np.ndarray) -> np.ndarray:
    """vectors [N,3] turned by the rotations R [B,3,3] of their views [N], which rise."""
    out = np.empty_like(vectors)
    ends = np.searchsorted(view, np.arange(len(R) + 1))
    for R_one, start, end in zip(R, ends[:-1], ends[1:]):
        np.matmul(vectors[start:end], R_one.T, out=out[start:end])
    return out


def row_dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products [N] of rows [N,3]."""
    return np.einsum("ni,ni->n", a, b)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows [N,3] scaled to length one; a zero row stays zero."""
    return vectors / np.sqrt(np.maximum(row_dot(vectors, vectors), 1e-24))[:, None]
