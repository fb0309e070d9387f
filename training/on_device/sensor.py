"""What real cameras do to many pictures and depths at once: the batched twin of training.sensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from flowpose_ros.geometry.camera import pixel_grid
from training.on_device.jpeg import as_jpeg
from training.on_device.layout import on, tensors
from training.on_device.resample import blurring, resizing, separable
from training.pairs import LEAST_OWN_SIZE
from training.sensor import DEPTH_ABSENT_SHARE

KERNEL = 9
MOST_CELLS = 40
HOLES = 5


def largest_own_size(size: int) -> int:
    """Pixels along a side of the clean pictures of crops of `size` pixels: no less than of any camera's own image of
    them, and whole blocks of JPEG."""
    return -(-3 * size // 32) * 16


@dataclass(frozen=True)
class ImageSensors:
    """Of N pictures; own [N] is how many pixels the crop spans in the camera's own image. level, weight [N]: how
    bright, and how much the object counts in that; sigma [N] pixels of blur; kernel [N,9,9] of motion where moved [N];
    gamma [N]; gain, offset [N,3]; saturation [N]; a patch where patched [N]: middle, axes [N,2] in sizes, angle [N],
    its grey value [N], whether it is a glare [N]; noise [N]; quality [N] of JPEG, 0 for none."""

    own: torch.Tensor
    level: torch.Tensor
    weight: torch.Tensor
    sigma: torch.Tensor
    moved: torch.Tensor
    kernel: torch.Tensor
    gamma: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor
    saturation: torch.Tensor
    patched: torch.Tensor
    middle: torch.Tensor
    axes: torch.Tensor
    angle: torch.Tensor
    grey: torch.Tensor
    glare: torch.Tensor
    noise: torch.Tensor
    quality: torch.Tensor


def draw_image_sensors(count: int, size: int, rng: np.random.Generator) -> ImageSensors:
    """Sensors of `count` crops of `size` pixels, as `sensor.sense_image` has them."""
    def chance(share: float) -> np.ndarray:
        return rng.random(count) < share

    own = np.exp(rng.uniform(*np.log([LEAST_OWN_SIZE, 1.5 * size]), count)).astype(np.int64)
    sigma = rng.uniform(0, 1.5, count) * chance(0.6)
    gamma = np.where(chance(0.5), np.exp(rng.normal(0, 0.2, count)), 1)
    gain = np.exp(rng.normal(0, 0.06, (count, 3)) + rng.normal(0, 0.15, (count, 1)))
    offset = 0.45 * (1 - gain) + rng.normal(0, 0.04, (count, 1))
    saturation = np.where(chance(0.3), rng.uniform(0.3, 1.4, count), 1)
    glare = chance(0.5)
    return tensors(
        ImageSensors, own, rng.uniform(0.25, 0.6, count), rng.uniform(0, 0.7, count), sigma, chance(0.1),
        _motions(count, rng), gamma, gain, offset, saturation, chance(0.06), rng.random((count, 2)),
        rng.uniform(0.05, 0.2, (count, 2)), rng.uniform(0, np.pi, count), np.where(glare, 1, rng.random(count)), glare,
        0.04 * rng.random(count) ** 2 * chance(0.8), rng.integers(30, 96, count) * chance(0.3))


def _motions(count: int, rng: np.random.Generator) -> np.ndarray:
    """Kernels [N,9,9] of straight motion over 2 to 6 pixels."""
    length, angle = rng.uniform(2, 6, (count, 1)), rng.uniform(0, np.pi, (count, 1))
    steps = length * np.linspace(-0.5, 0.5, 13)
    v, u = (np.round(KERNEL // 2 + steps * part(angle)).astype(int) for part in (np.sin, np.cos))
    kernel = np.zeros((count, KERNEL, KERNEL))
    np.add.at(kernel, (np.arange(count)[:, None], v, u), 1 / steps.shape[1])
    return kernel


def sense_images(pictures: torch.Tensor, target: torch.Tensor, sensors: ImageSensors, size: int,
                 generator: torch.Generator) -> torch.Tensor:
    """The crops [B,3,size,size] in [0,1] that real cameras would give of clean pictures [B,3,Q,Q]; target [B,Q,Q] is
    where the object is, sensors are on the CPU. Q is `largest_own_size`."""
    full, device = pictures.shape[-1], pictures.device
    here = on(sensors, device)
    whole = torch.full_like(here.own, full)
    lines = blurring(here.sigma, here.own, full) @ resizing(whole, here.own, full, full)
    pictures = separable(lines, _exposed(pictures, target, here))
    pictures = _of_some(_filtered, pictures, sensors.moved, here.kernel)
    pictures = _covered(_toned(pictures, here), here)
    noise = torch.randn(pictures.shape, generator=generator, device=device)
    pictures = (pictures + here.noise[:, None, None, None] * noise).clamp(0, 1)
    pictures = _of_some(as_jpeg, pictures, sensors.quality > 0, here.quality)
    return separable(resizing(here.own, torch.full_like(here.own, size), full, size), pictures)


def _of_some(work: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], pictures: torch.Tensor, which: torch.Tensor,
             how: torch.Tensor) -> torch.Tensor:
    """Pictures [B,3,S,S] of which some, which [B] on the CPU, have become work(picture, how)."""
    where = which.nonzero()[:, 0].to(pictures.device)
    return pictures.index_copy(0, where, work(pictures[where], how[where])) if len(where) else pictures


def _exposed(pictures: torch.Tensor, target: torch.Tensor, sensors: ImageSensors) -> torch.Tensor:
    level = pictures.mean((1, 2, 3))
    shown = target[:, None].float()
    of_target = (pictures * shown).sum((1, 2, 3)) / (3 * shown.sum((1, 2, 3)).clamp_min(1))
    level = level + sensors.weight * (of_target - level) * target.flatten(1).any(1)
    return pictures * (sensors.level / level.clamp_min(1e-3)).clamp(0.5, 2.0)[:, None, None, None]


def _filtered(pictures: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Pictures [B,3,S,S], each under its own kernel [B,9,9]."""
    B, channels, size, _ = pictures.shape
    padded = F.pad(pictures, (KERNEL // 2,) * 4, mode="replicate").reshape(1, -1, *(size + KERNEL - 1,) * 2)
    kernel = kernel[:, None].repeat_interleave(channels, 0)
    return F.conv2d(padded, kernel, groups=B * channels).reshape(pictures.shape)


def _toned(pictures: torch.Tensor, sensors: ImageSensors) -> torch.Tensor:
    pictures = pictures.clamp(1e-4, 1).pow(sensors.gamma[:, None, None, None])
    pictures = pictures * sensors.gain[..., None, None] + sensors.offset[..., None, None]
    grey = pictures.mean(1, keepdim=True)
    return grey + (pictures - grey) * sensors.saturation[:, None, None, None]


def _covered(pictures: torch.Tensor, sensors: ImageSensors) -> torch.Tensor:
    """A glare spot or a flat patch on some of the pictures."""
    own = sensors.own.float()
    axes = sensors.axes * own[:, None] + 1
    within = _ellipses(sensors.middle * own[:, None], axes, sensors.angle, pictures.shape[-1])
    # A glare's edge is as soft as one that was blurred by 3 % of the picture's size.
    width = torch.where(sensors.glare, 0.05 * own / axes.mean(1), 1e-3)
    cover = torch.sigmoid((1 - within.sqrt()) / width[:, None, None]) * sensors.patched[:, None, None]
    return pictures + (sensors.grey[:, None, None, None] - pictures) * cover[:, None]


def _ellipses(middle: torch.Tensor, axes: torch.Tensor, angle: torch.Tensor, size: int) -> torch.Tensor:
    """Square [...,size,size] of how far pixels are from middle [...,2] in half axes [...,2] turned by angle [...]."""
    away = pixel_grid(size, size, middle.device) - middle[..., None, None, :]
    cos, sin = angle.cos()[..., None, None], angle.sin()[..., None, None]
    along, across = away[..., 0] * cos + away[..., 1] * sin, away[..., 1] * cos - away[..., 0] * sin
    return (along / axes[..., 0, None, None]).square() + (across / axes[..., 1, None, None]).square()


@dataclass(frozen=True)
class DepthSensors:
    """Of N depths: present [N]; noise [N] as a share of the distance; cells [N] of its correlated part; by_disparity
    [N]: steps grow with the square of the distance; steepest [N] slope in typical distances, of whose pixels a share
    lost [N] is missing, as are scattered ones, share sparse [N]; holes: middle, axes [N,HOLES,2] in sizes, angle
    [N,HOLES], open [N,HOLES]; shift [N,2] pixels."""

    present: torch.Tensor
    noise: torch.Tensor
    cells: torch.Tensor
    by_disparity: torch.Tensor
    steepest: torch.Tensor
    lost: torch.Tensor
    sparse: torch.Tensor
    middle: torch.Tensor
    axes: torch.Tensor
    angle: torch.Tensor
    open: torch.Tensor
    shift: torch.Tensor


def draw_depth_sensors(count: int, rng: np.random.Generator) -> DepthSensors:
    """Sensors as `sensor.sense_depth` has them."""
    def chance(share: float) -> np.ndarray:
        return rng.random(count) < share

    return tensors(
        DepthSensors, ~chance(DEPTH_ABSENT_SHARE), 0.7 * rng.uniform(0.001, 0.005, count),
        rng.integers(8, MOST_CELLS, count), ~chance(0.7), rng.uniform(0.01, 0.04, count),
        np.where(chance(0.5), rng.uniform(0.3, 1, count), 1), rng.uniform(0, 0.03, count),
        rng.random((count, HOLES, 2)), rng.uniform(0.01, 0.12, (count, HOLES, 2)),
        rng.uniform(0, np.pi, (count, HOLES)), np.arange(HOLES) < rng.poisson(1.5, (count, 1)),
        rng.integers(-1, 2, (count, 2)) * chance(0.5)[:, None])


def sense_depths(depth: torch.Tensor, own: torch.Tensor, sensors: DepthSensors,
                 generator: torch.Generator) -> torch.Tensor:
    """Sensor depths [B,S,S] of clean ones [B,S,S], metres, 0 where invalid; own [B] and sensors on the device."""
    B, size, _ = depth.shape
    known = torch.where(depth > 0, depth, torch.nan).flatten(1)
    typical = known.nanmedian(1).values.nan_to_num(0.5)[:, None, None]
    random = torch.rand(2, *depth.shape, generator=generator, device=depth.device)
    noise = torch.randn(depth.shape, generator=generator, device=depth.device)
    coarse = torch.randn(B, 1, MOST_CELLS, MOST_CELLS, generator=generator, device=depth.device)
    lines = resizing(sensors.cells, torch.full_like(sensors.cells, size), MOST_CELLS, size)
    noise = noise + separable(lines, coarse)[:, 0]
    sensed = depth * (1 + sensors.noise[:, None, None] * noise)
    step = torch.where(sensors.by_disparity[:, None, None], 0.0015 * typical.square() + 1e-4, 0.001)
    valid = (depth > 0) & ~_lost(depth, typical, sensors, random)
    sensed = torch.where(valid, (sensed / step).round() * step, 0)
    return _coarsened(sensed, own.clamp_max(size), sensors.shift) * sensors.present[:, None, None]


def _coarsened(depth: torch.Tensor, own: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """The nearest of own [B] x own pixels of depth [B,S,S] at each, shift [B,2] pixels down and right."""
    size = depth.shape[-1]
    place = (torch.arange(size, device=depth.device) - shift[..., None]) % size
    own = own[:, None, None]
    nearest = ((place * own // size * size + size // 2) // own).clamp(0, size - 1)
    rows = depth.gather(1, nearest[:, 0, :, None].expand_as(depth))
    return rows.gather(2, nearest[:, 1, None].expand_as(depth))


def _lost(depth: torch.Tensor, typical: torch.Tensor, sensors: DepthSensors, random: torch.Tensor) -> torch.Tensor:
    """Pixels [B,S,S] that sensors give no depth for; random [2,B,S,S] in [0,1)."""
    beside = F.pad(depth[:, None], (1, 1, 1, 1), mode="reflect")[:, 0]
    slope = torch.maximum(_sobel(beside).abs(), _sobel(beside.mT).mT.abs())
    steep = slope > sensors.steepest[:, None, None] * typical
    size = depth.shape[-1]
    holes = _ellipses(sensors.middle * size, sensors.axes * size + 1, sensors.angle, size) < 1
    return (steep & (random[0] < sensors.lost[:, None, None]) | (holes & sensors.open[..., None, None]).any(1)
            | (random[1] < sensors.sparse[:, None, None]))


def _sobel(depth: torch.Tensor) -> torch.Tensor:
    """Slopes [B,S,S] along rows of depths [B,S+2,S+2], per pixel."""
    step = depth[..., 2:] - depth[..., :-2]
    return (step[:, :-2] + 2 * step[:, 1:-1] + step[:, 2:]) / 8
