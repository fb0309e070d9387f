"""What the cameras of many scenes see, before any light: one rasterisation for all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from flowpose_ros.geometry.camera import back_project, pixel_grid
from flowpose_ros.rendering.raster import render_triangles, texture_colour
from flowpose_ros.rendering.rasterise import Visible, visible_triangles
from flowpose_ros.rendering.renderer import Rendering
from training.gbuffer import TABLE
from training.on_device.layout import SLOTS, Scenes, Starts, on
from training.on_device.shelf import Shelf

TABLE_GLOSS = 0.05, 10.0


@dataclass(frozen=True)
class Triangles:
    """T triangles of placed entries: corners [T,3,3] float64 metres in the camera frame of their picture [T]; face [T]
    in the shelf's table; slot [T], counted through all scenes."""

    corners: torch.Tensor
    picture: torch.Tensor
    face: torch.Tensor
    slot: torch.Tensor


@dataclass(frozen=True)
class Views:
    """The nearest surfaces of B scenes, H x W: z [B,H,W] metres, infinite where nothing is; owner [B,H,W] slot of the
    scene, -1 for nothing, `gbuffer.TABLE`; rays [B,H,W,3] with z = 1."""

    z: torch.Tensor
    owner: torch.Tensor
    rays: torch.Tensor


@dataclass(frozen=True)
class Surfaces:
    """What light falls on, of the same pixels: albedo, normal [B,H,W,3] facing the camera, gloss [B,H,W,2]."""

    albedo: torch.Tensor
    normal: torch.Tensor
    gloss: torch.Tensor


def triangles_of(shelf: Shelf, entry: torch.Tensor, slot: torch.Tensor, T: torch.Tensor) -> Triangles:
    """The triangles of P entries [P] in slots [P], placed by T [P,4,4]: all on the CPU, the triangles where the shelf's
    table is."""
    device = shelf.mesh.table.device
    count = torch.from_numpy(shelf.forms.count)[entry]
    start = torch.from_numpy(shelf.forms.first)[entry] - (count.cumsum(0) - count)
    total = int(count.sum())
    placed = torch.repeat_interleave(torch.arange(len(entry), device=device), count.to(device), output_size=total)
    face = start.to(device)[placed] + torch.arange(total, device=device)
    corners, T, slot = shelf.mesh.table[:, :, 6:9][face].double(), T.to(device)[placed], slot.to(device)[placed]
    # Not as a product of matrices: millions of small ones are slow.
    corners = sum(T[:, None, :3, k] * corners[..., k, None] for k in range(3)) + T[:, None, :3, 3]
    return Triangles(corners, slot // SLOTS, face, slot)


def scene_triangles(shelf: Shelf, scenes: Scenes) -> Triangles:
    """The triangles of scenes on the CPU."""
    there = scenes.present.flatten()
    return triangles_of(shelf, scenes.entry.flatten()[there], there.nonzero()[:, 0], scenes.T.flatten(0, 1)[there])


def render_starts(shelf: Shelf, starts: Starts, size: int) -> Rendering:
    """The template views of starts on the CPU at T_init, size x size."""
    part = triangles_of(shelf, starts.known, SLOTS * torch.arange(len(starts.known)), starts.T_init)
    here = on(starts, part.corners.device)
    return render_triangles(shelf.mesh, part.corners, part.picture, part.face, here.T_init[:, :3, :3], here.K,
                            (size, size))


def look(scenes: Scenes, part: Triangles, K: torch.Tensor, size: int) -> tuple[Views, Visible]:
    """Views [B,size,size] of scenes with these triangles, all on a device, and the triangles seen where no table is in
    front; K [B,3,3]."""
    B, device = len(K), K.device
    seen = visible_triangles(part.corners, part.picture, K, (size, size))
    z = torch.full((B * size * size,), torch.inf, device=device)
    owner = torch.full((B * size * size,), -1, device=device)
    z[seen.pixel], owner[seen.pixel] = seen.z, part.slot[seen.triangle] % SLOTS
    pixels = pixel_grid(size, size, device).reshape(1, -1, 2)
    rays = back_project(pixels, torch.ones(B, size * size, device=device), K).reshape(B, size, size, 3)
    z, owner = z.reshape(B, size, size), owner.reshape(B, size, size)
    table = _table_depth(scenes, rays)
    return Views(z.minimum(table), torch.where(table < z, TABLE, owner), rays), seen


def with_walls(views: Views, wall: torch.Tensor) -> torch.Tensor:
    """Depth [B,H,W] with the walls [B,4] behind it; 0 where there is neither."""
    facing = (views.rays * wall[:, None, None, :3]).sum(-1)
    behind = torch.where(facing > 1e-3, wall[:, 3, None, None] / facing.clamp_min(1e-3), torch.inf)
    depth = views.z.minimum(behind)
    return torch.where(depth.isfinite(), depth, 0)


def surfaces_of(shelf: Shelf, scenes: Scenes, pictures: torch.Tensor, part: Triangles, views: Views,
                seen: Visible) -> Surfaces:
    """Albedo, normal and gloss of what `look` saw; pictures [n,h,w,3] uint8 lie on the tables."""
    face, slot = part.face[seen.triangle], part.slot[seen.triangle]
    values = (seen.bary[..., None] * shelf.mesh.table[face]).sum(1)
    gain, gloss, T = (value.flatten(0, 1)[slot] for value in (scenes.gain, scenes.gloss, scenes.T))
    albedo = (values[:, :3] * texture_colour(shelf.mesh, face, values[:, 9:11]) * gain).clamp(0, 1)
    normal = F.normalize((T[:, :3, :3] * values[:, None, 3:6]).sum(-1), dim=1)
    away = (normal * views.rays.reshape(-1, 3)[seen.pixel]).sum(1, keepdim=True) > 0
    values = torch.cat([albedo, torch.where(away, -normal, normal), gloss], 1)
    image = torch.zeros(views.z.numel(), 8, device=values.device)
    image[seen.pixel] = values
    image = image.reshape(*views.z.shape, 8)
    image = torch.where((views.owner == TABLE)[..., None], _table_surface(scenes, pictures, views), image)
    return Surfaces(*image.split([3, 3, 2], -1))


def _table_depth(scenes: Scenes, rays: torch.Tensor) -> torch.Tensor:
    """Depth [B,H,W] of the tables alone, infinite beside them."""
    facing = torch.einsum("bhwc,bc->bhw", rays, scenes.normal)
    depth = scenes.offset[:, None, None] / torch.where(facing.abs() < 1e-6, 1e-6, facing)
    away = (rays * depth[..., None] - scenes.foot[:, None, None]).norm(dim=-1)
    there = scenes.tabled[:, None, None] & (depth > 0.02) & (away < scenes.reach[:, None, None])
    return torch.where(there, depth, torch.inf)


def _table_surface(scenes: Scenes, pictures: torch.Tensor, views: Views) -> torch.Tensor:
    """Albedo, normal and gloss [B,H,W,8] as if all were tables."""
    normal = scenes.normal
    other = F.one_hot((normal[:, 0].abs() >= 0.9).long(), 3).float()
    across = F.normalize(torch.linalg.cross(normal, other), dim=1)
    axes = torch.stack([across, torch.linalg.cross(normal, across)], 2)
    points = views.rays * views.z.nan_to_num(posinf=0)[..., None] - scenes.foot[:, None, None]
    h, w = pictures.shape[1:3]
    cell = (torch.einsum("bhwc,bcd->bhwd", points, axes) * (w / scenes.period)[:, None, None, None]).floor().long()
    albedo = pictures[scenes.cloth[:, None, None], cell[..., 1] % h, cell[..., 0] % w].float() / 255
    facing = torch.einsum("bhwc,bc->bhw", views.rays, normal).sign()
    normal = -facing[..., None] * normal[:, None, None]
    gloss = normal.new_tensor(TABLE_GLOSS).expand(*views.z.shape, 2)
    return torch.cat([albedo, normal, gloss], -1)
