"""Light on many queries at once: the batched twin of training.lighting, its shadows from a map of depths that the lamp
sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from flowpose_ros.estimation.batches import take
from flowpose_ros.geometry.camera import crop_around, project
from flowpose_ros.geometry.transforms import make_transform, transform_points
from flowpose_ros.rendering.rasterise import visible_triangles
from training.lighting import SHADOW_SHARE
from training.on_device.layout import Scenes, on, tensors
from training.on_device.resample import blurring, separable
from training.on_device.shelf import Shelf
from training.on_device.surfaces import Surfaces, Views, scene_triangles

LAMPS = 3
MAP = 256
"""Pixels along a side of a lamp's map of depths."""
MAP_REACH = 4.0
"""Radii of the target around its middle that the map shows; beyond, all is lit."""
FAR = 40.0
"""Radii from which a lamp shines that has only a direction."""
LIFT = 0.06
"""Radii that a surface lies nearer to the lamp than its shadow: two pixels of the map."""


@dataclass(frozen=True)
class Lights:
    """Of N scenes: ambient [N,3], gamma [N]; place [N,LAMPS,3] a point (metres, camera frame) or, if not near
    [N,LAMPS], a direction towards the lamp; colour [N,LAMPS,3], 0 for no lamp; shadow [N] is how much a caster takes
    away of the first lamp; softness [N] in pixels per 100 pixels of picture."""

    ambient: torch.Tensor
    gamma: torch.Tensor
    place: torch.Tensor
    near: torch.Tensor
    colour: torch.Tensor
    shadow: torch.Tensor
    softness: torch.Tensor


def draw_lights(scenes: Scenes, rng: np.random.Generator) -> Lights:
    """One to three lamps around each scene on the CPU, as `lighting.random_lighting` has them."""
    n, middle, reach = len(scenes.radius), scenes.middle.numpy(), 3 * scenes.radius.numpy()
    direction = rng.normal(size=(n, LAMPS, 3))
    in_front = rng.random((n, LAMPS)) < 0.85
    direction[..., 2] = np.where(in_front, -np.abs(direction[..., 2]), direction[..., 2])
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    near = rng.random((n, LAMPS)) < 0.5
    point = middle[:, None] + direction * (reach[:, None] * rng.uniform(2, 8, (n, LAMPS)))[..., None]
    colour = rng.uniform(0.2, 1.0, (n, LAMPS, 1)) * (1 + rng.uniform(-0.2, 0.2, (n, LAMPS, 3)))
    colour *= (np.arange(LAMPS) < rng.integers(1, LAMPS + 1, (n, 1)))[..., None]
    shadow = rng.uniform(0.5, 1.0, n) * (rng.random(n) < SHADOW_SHARE)
    ambient = rng.uniform(0.1, 0.7, (n, 1)) * (1 + rng.uniform(-0.1, 0.1, (n, 3)))
    return tensors(Lights, ambient, rng.uniform(1.0, 2.2, n), np.where(near[..., None], point, direction), near, colour,
                   shadow, rng.uniform(0.3, 3.0, n))


def shade(shelf: Shelf, scenes: Scenes, lights: Lights, views: Views, surfaces: Surfaces) -> torch.Tensor:
    """The pictures [B,H,W,3] of lit scenes before exposure, anything where nothing is; scenes and lights on the CPU."""
    device = views.z.device
    here = on(lights, device)
    points = views.rays * views.z.nan_to_num(posinf=1.0)[..., None]
    view = -F.normalize(views.rays, dim=-1)
    specular, shininess = surfaces.gloss.unbind(-1)
    light = here.ambient[:, None, None].expand_as(points)
    highlight = torch.zeros_like(points)
    for k in range(LAMPS):
        place = here.place[:, k, None, None]
        unit = F.normalize(torch.where(here.near[:, k, None, None, None], place - points, place), dim=-1)
        facing = (surfaces.normal * unit).sum(-1).clamp_min(0)
        lit = _lit_share(shelf, scenes, lights, points, surfaces.normal) if k == 0 else 1.0
        colour = here.colour[:, k, None, None]
        light = light + (facing * lit)[..., None] * colour
        half = F.normalize(unit + view, dim=-1)
        lobe = (surfaces.normal * half).sum(-1).clamp_min(0) ** shininess * specular * (facing > 0)
        highlight = highlight + (lobe * lit)[..., None] * colour
    return surfaces.albedo * light ** (1 / here.gamma)[:, None, None, None] + highlight


def _lit_share(shelf: Shelf, scenes: Scenes, lights: Lights, points: torch.Tensor,
               normal: torch.Tensor) -> torch.Tensor:
    """Share [B,H,W] of the first lamp's light that arrives at points [B,H,W,3], penumbras blurred in the picture."""
    B, size = points.shape[:2]
    share = points.new_ones(B, size, size)
    shadowed = lights.shadow.nonzero()[:, 0]
    if not len(shadowed):
        return share
    scenes, lights, where = take(scenes, shadowed), take(lights, shadowed), shadowed.to(points.device)
    lifted = points[where] + normal[where] * (LIFT / 2 * scenes.radius).to(points)[:, None, None, None]
    dark = _in_shadow(shelf, scenes, lights, lifted.flatten(1, 2)).reshape(len(where), size, size).float()
    here = on(lights, points.device)
    widths = torch.full((len(where),), size, device=points.device)
    soft = separable(blurring(here.softness * size / 100, widths, size), dark[:, None])[:, 0]
    return share.index_copy(0, where, 1 - here.shadow[:, None, None] * soft)


def _in_shadow(shelf: Shelf, scenes: Scenes, lights: Lights, points: torch.Tensor) -> torch.Tensor:
    """Whether [N,P] something stands between points [N,P,3] and the first lamp, of scenes and lights on the CPU."""
    device = points.device
    direction = lights.place[:, 0]
    far = scenes.middle + FAR * scenes.radius[:, None] * direction
    lamp = torch.where(lights.near[:, :1], direction, far)
    ray = scenes.middle - lamp
    widest = torch.tan(torch.arcsin((MAP_REACH * scenes.radius / ray.norm(dim=1)).clamp_max(0.9)))
    camera = crop_around(ray, widest, MAP)
    T_lamp_cam = make_transform(camera.R_crop_cam, -(camera.R_crop_cam @ lamp[..., None])[..., 0])
    part = scene_triangles(shelf, replace(scenes, T=T_lamp_cam[:, None] @ scenes.T))
    K = camera.K.to(device)
    seen = visible_triangles(part.corners, part.picture, K, (MAP, MAP))
    depth = torch.full((len(ray) * MAP * MAP,), torch.inf, device=device)
    depth[seen.pixel] = seen.z
    there = transform_points(T_lamp_cam.to(device).float(), points)
    pixel = project(there, K.float()).round()
    inside = ((pixel >= 0) & (pixel < MAP)).all(-1) & (there[..., 2] > 0)
    pixel = pixel.clamp(0, MAP - 1).long()
    nearest = depth.reshape(len(ray), -1).gather(1, pixel[..., 1] * MAP + pixel[..., 0])
    return inside & (nearest < there[..., 2] - (LIFT * scenes.radius).to(there)[:, None])
