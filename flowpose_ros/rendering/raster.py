"""The renderer in torch, on the device where the poses are: no OpenGL, and no way back to the CPU."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.rasterise import Visible, visible_triangles
from flowpose_ros.rendering.renderer import Rendering, check_meshes, check_shapes, joined
from flowpose_ros.rendering.shading import TEMPLATE_AMBIENT, corner_table

TRIANGLES = 1 << 20
"""Triangles set up together, over all views; each takes about 400 bytes."""


@dataclass(frozen=True)
class MeshTable:
    """A mesh on a device: table [F,3,11] of its corners (colour, normal, xyz, uv), texture [F] of each triangle or -1;
    texels [T,3] uint8 of all textures, one after the other, and of each its first texel, height and width [n,3]."""

    table: torch.Tensor
    texture: torch.Tensor
    texels: torch.Tensor
    pages: torch.Tensor

    @classmethod
    def of(cls, mesh: Mesh, device: torch.device) -> MeshTable:
        """The table of a mesh."""
        sizes = np.array([t.shape[:2] for t in mesh.textures], np.int64).reshape(-1, 2)
        first = np.concatenate([[0], sizes.prod(1).cumsum()])[:-1]
        texels = np.concatenate([np.zeros((0, 3), np.uint8), *(t.reshape(-1, 3) for t in mesh.textures)])
        arrays = corner_table(mesh), mesh.face_texture.astype(np.int64), texels, np.column_stack([first, sizes])
        return cls(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))

    @classmethod
    def join(cls, tables: Sequence[MeshTable]) -> MeshTable:
        """The tables of several meshes as one, their triangles one mesh after the other."""
        texels, pages = (np.cumsum([0] + [len(getattr(table, name)) for table in tables])[:-1].tolist()
                         for name in ("texels", "pages"))
        moved = [cls(t.table, torch.where(t.texture >= 0, t.texture + page, -1), t.texels,
                     t.pages + t.pages.new_tensor([texel, 0, 0])) for t, texel, page in zip(tables, texels, pages)]
        return cls(*(torch.cat([getattr(t, name) for t in moved]) for name in ("table", "texture", "texels", "pages")))


@dataclass(frozen=True)
class Together:
    """The tables of meshes as one, and which of them [F] each triangle is of."""

    meshes: tuple[Mesh, ...]
    table: MeshTable
    owner: torch.Tensor


class RasterRenderer:
    """Renderer protocol by rasterising in torch, on a device or, None, on that of the poses; keeps the tables of meshes
    while they live."""

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device
        self._tables: weakref.WeakKeyDictionary[Mesh, dict[torch.device, MeshTable]] = weakref.WeakKeyDictionary()
        self._last: Together | None = None

    def table(self, mesh: Mesh, device: torch.device) -> MeshTable:
        """The mesh on a device; made at the first call."""
        on = self._tables.setdefault(mesh, {})
        if device not in on:
            on[device] = MeshTable.of(mesh, device)
        return on[device]

    def render(self, mesh: Mesh, T_cam_obj: torch.Tensor, K: torch.Tensor,
               size: tuple[int, int]) -> Rendering:
        """Render B template views (see rendering.renderer.Renderer)."""
        check_shapes(T_cam_obj, K, size)
        T, K = (x.detach().to(self._device or x.device, torch.float32) for x in (T_cam_obj, K))
        table = self.table(mesh, T.device)
        views = max(1, TRIANGLES // max(1, len(table.table)))
        triangle = torch.arange(len(table.table), device=T.device)

        def part(first: int) -> Rendering:
            poses = T[first:first + views]
            view = torch.arange(len(poses), device=T.device).repeat_interleave(len(triangle))
            return _render(table, view, triangle.repeat(len(poses)), poses, K[first:first + views], size)

        return joined([part(first) for first in range(0, max(1, len(T)), views)])

    def render_each(self, meshes: Sequence[Mesh], T_cam_obj: torch.Tensor, K: torch.Tensor,
                    size: tuple[int, int]) -> Rendering:
        """Render view i of meshes[i] (see rendering.renderer.render_each)."""
        check_shapes(T_cam_obj, K, size)
        check_meshes(meshes, K)
        if sum(len(mesh.faces) for mesh in meshes) > TRIANGLES:
            return joined([self.render(mesh, T_cam_obj[i:i + 1], K[i:i + 1], size) for i, mesh in enumerate(meshes)])
        T, K = (x.detach().to(self._device or x.device, torch.float32) for x in (T_cam_obj, K))
        whole = self._together(tuple(meshes), T.device)
        return _render(whole.table, whole.owner, torch.arange(len(whole.owner), device=T.device), T, K, size)

    def _together(self, meshes: tuple[Mesh, ...], device: torch.device) -> Together:
        """The tables of meshes as one; the last ones asked for are kept."""
        last = self._last
        if last is None or last.meshes != meshes or last.owner.device != device:
            tables = [self.table(mesh, device) for mesh in meshes]
            owner = np.repeat(np.arange(len(tables)), [len(table.table) for table in tables])
            last = self._last = Together(meshes, MeshTable.join(tables), torch.from_numpy(owner).to(device))
        return last


def _render(mesh: MeshTable, view: torch.Tensor, face: torch.Tensor, T_cam_obj: torch.Tensor, K: torch.Tensor,
            size: tuple[int, int]) -> Rendering:
    """B views of N triangles, each face [N] of the table in the pose of its view [N]."""
    R, t = T_cam_obj[:, :3, :3].double(), T_cam_obj[:, :3, 3].double()
    corners = torch.einsum("nij,nkj->nki", R[view], mesh.table[face, :, 6:9].double()) + t[view][:, None]
    return render_triangles(mesh, corners, view, face, T_cam_obj[:, :3, :3], K, size)


def render_triangles(mesh: MeshTable, corners: torch.Tensor, view: torch.Tensor, face: torch.Tensor, R: torch.Tensor,
                     K: torch.Tensor, size: tuple[int, int]) -> Rendering:
    """Template views of N triangles: corners [N,3,3] double in the camera frame of their view [N], metres; face [N] in
    the mesh's table; R [B,3,3], K [B,3,3] of the views."""
    B, (height, width) = len(K), size
    seen = visible_triangles(corners, view, K, size)
    image = torch.zeros(B * height * width, 10, device=corners.device)
    image[seen.pixel] = _shaded(mesh, seen, face[seen.triangle], R, K, size)
    image = image.reshape(B, height, width, 10).permute(0, 3, 1, 2).contiguous()
    depth = image[:, 9]
    return Rendering(image[:, 0:3], depth, image[:, 3:6], image[:, 6:9], depth > 0)


def _shaded(mesh: MeshTable, seen: Visible, face: torch.Tensor, R: torch.Tensor, K: torch.Tensor,
            size: tuple[int, int]) -> torch.Tensor:
    """Colour, normal, xyz and depth [M,10] as `shading.shade` gives them."""
    height, width = size
    values = torch.einsum("mk,mkc->mc", seen.bary, mesh.table[face])
    view = seen.pixel // (height * width)
    pixel = torch.stack([seen.pixel % width, seen.pixel // width % height], 1)
    ray = (pixel - K[:, :2, 2][view]) / K[:, [0, 1], [0, 1]][view]
    ray = F.normalize(F.pad(ray, (0, 1), value=1.0), dim=1)
    normal = torch.einsum("mij,mj->mi", R[view], F.normalize(values[:, 3:6], dim=1))
    along = (normal * ray).sum(1, keepdim=True)
    normal = torch.where(along > 0, -normal, normal)
    light = TEMPLATE_AMBIENT + (1 - TEMPLATE_AMBIENT) * along.abs()
    albedo = values[:, 0:3] * texture_colour(mesh, face, values[:, 9:11])
    return torch.cat([albedo * light, normal, values[:, 6:9], seen.z[:, None]], 1)


def texture_colour(mesh: MeshTable, face: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """Bilinear, repeating look-up [M,3] in [0,1] of the texture of each face [M] at uv [M,2]; 1 without a texture."""
    texture = mesh.texture[face]
    if not len(mesh.pages):
        return torch.ones_like(uv[:, :1])
    first, height, width = mesh.pages[texture.clamp_min(0)].unbind(1)
    x0, x1, fx = _neighbours(uv[:, 0], width)
    y0, y1, fy = _neighbours(1 - uv[:, 1], height)

    def texel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return mesh.texels[first + y * width + x].float()

    top = texel(x0, y0) * (1 - fx) + texel(x1, y0) * fx
    bottom = texel(x0, y1) * (1 - fx) + texel(x1, y1) * fx
    return torch.where(texture[:, None] >= 0, (top * (1 - fy) + bottom * fy) / 255, 1.0)


def _neighbours(u: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The two texels [M] beside u [M] on rings of `count` [M], and the second one's weight [M,1]."""
    x = (u - u.floor()) * count - 0.5
    first = x.floor()
    return first.long() % count, (first.long() + 1) % count, (x - first)[:, None]
