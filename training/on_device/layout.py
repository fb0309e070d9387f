"""What stands where in many scenes at once, as training.perturb, training.pairs and training.scene say it of one: a few
hundred numbers a scene, drawn on the CPU, so that a GPU gets the same scenes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from flowpose_ros.geometry.crops import crop_for_poses
from flowpose_ros.geometry.rotations import random_rotations
from flowpose_ros.geometry.transforms import exp_so3
from training.on_device.shelf import Forms, Shelf
from training.pairs import FLAT_SHARE
from training.perturb import NOMINAL_ANGLE, NOMINAL_DEPTH, NOMINAL_LATERAL, WIDEST_ANGLE, StartMixture, Task

OCCLUDERS, NEIGHBOURS = 3, 4
SLOTS = 1 + OCCLUDERS + NEIGHBOURS

Record = TypeVar("Record")


def tensors(kind: type[Record], *values: np.ndarray | torch.Tensor) -> Record:
    """A record of tensors on the CPU."""
    return kind(*(torch.as_tensor(value) for value in values))


def on(record: Record, device: torch.device | str) -> Record:
    """A record of tensors on a device, real numbers as float32."""
    def moved(value: torch.Tensor) -> torch.Tensor:
        return value.to(device, torch.float32 if value.is_floating_point() else value.dtype)

    return replace(record, **{f.name: moved(getattr(record, f.name)) for f in fields(record)})


@dataclass(frozen=True)
class Starts:
    """N renders to be made, crop camera: known [N] entries of the shelf; T_init, T_gt [N,4,4]; K [N,3,3] of the crop;
    angle [N] radians between T_gt and T_init; center [N,3], radius [N], points [N,256,3] of the objects."""

    known: torch.Tensor
    T_init: torch.Tensor
    T_gt: torch.Tensor
    K: torch.Tensor
    angle: torch.Tensor
    center: torch.Tensor
    radius: torch.Tensor
    points: torch.Tensor


@dataclass(frozen=True)
class Scenes:
    """N scenes, crop camera, metres; slot 0 of each is its target.

    entry [N,SLOTS] of the shelf, where present [N,SLOTS]; T [N,SLOTS,4,4] places it, scale included; gain [N,SLOTS,3]
    on the albedo; gloss [N,SLOTS,2] (specular, shininess). middle [N,3], radius [N] of the target's bounding sphere.
    A table where tabled [N]: see `gbuffer.Plane`; cloth [N] is the picture on it. wall [N,4] as in `gbuffer.Scene`, its
    distance infinite where there is none. background [N] is a picture.
    """

    entry: torch.Tensor
    present: torch.Tensor
    T: torch.Tensor
    gain: torch.Tensor
    gloss: torch.Tensor
    middle: torch.Tensor
    radius: torch.Tensor
    tabled: torch.Tensor
    normal: torch.Tensor
    offset: torch.Tensor
    foot: torch.Tensor
    reach: torch.Tensor
    period: torch.Tensor
    cloth: torch.Tensor
    wall: torch.Tensor
    background: torch.Tensor


def draw_layout(count: int, shelf: Shelf, pictures: int, size: int, task: Task, late: bool,
                rng: np.random.Generator) -> tuple[Starts, Scenes]:
    """`count` starts of a task, early or late, in crops of `size` pixels, and the scenes that their queries show."""
    forms, thing = shelf.forms, shelf.draw(count, rng)
    known = 2 * thing + (rng.random(count) < FLAT_SHARE)
    real = np.where(rng.random(count) < 0.5, 2 * thing, known)
    center, radius, points = forms.center[known], forms.radius[known], forms.points[known]
    T_real = random_poses(center, radius, rng)
    T_init = perturbed(T_real, center, 2 * radius, task.late if late else task.early, rng)
    T_gt = nearest(forms, known, T_real, T_init)
    padding = torch.from_numpy(task.draw_padding(count, rng))
    crop = crop_for_poses(torch.from_numpy(points), torch.from_numpy(T_init), size, padding)
    T_real, T_gt, T_init = (crop.to_crop(torch.from_numpy(T)).numpy() for T in (T_real, T_gt, T_init))
    angle = Rotation.from_matrix(T_gt[:, :3, :3].swapaxes(1, 2) @ T_init[:, :3, :3]).magnitude()
    starts = tensors(Starts, known, T_init, T_gt, crop.K, angle, center, radius, points)
    return starts, _scenes(real, T_real, shelf, pictures, rng)


# --- the target and its start


def random_poses(center: np.ndarray, radius: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """T_cam_obj [N,4,4] as `pairs.random_pose` has them, of objects with center [N,3] and radius [N]."""
    z = radius * np.exp(rng.uniform(np.log(3.5), np.log(25), len(radius)))
    return _placed(random_rotations(len(radius), rng), center,
                   np.column_stack([rng.uniform(-0.4, 0.4, (len(z), 2)) * z[:, None], z]))


def perturbed(T_cam_obj: np.ndarray, center: np.ndarray, diameter: np.ndarray, mixture: StartMixture,
              rng: np.random.Generator) -> np.ndarray:
    """Poses [N,4,4] near T_cam_obj [N,4,4] as `perturb.perturb_pose` has them."""
    n = len(T_cam_obj)
    mode = rng.choice(3, n, p=(mixture.nominal, mixture.wide, mixture.near))
    reach = np.where(mode == 2, rng.uniform(*mixture.near_reach, n), 1.0)
    axis = rng.normal(size=(n, 3))
    axis *= (rng.uniform(0, WIDEST_ANGLE, n) / np.linalg.norm(axis, axis=1))[:, None]
    narrow = Rotation.from_euler("xyz", rng.normal(0, NOMINAL_ANGLE, (n, 3)) * reach[:, None]).as_matrix()
    turn = np.where((mode == 1)[:, None, None], Rotation.from_rotvec(axis).as_matrix(), narrow)
    reach = np.where(mode == 1, 1.5, reach)
    middle = _middle(T_cam_obj, center)
    middle[:, :2] += rng.normal(0, NOMINAL_LATERAL, (n, 2)) * (reach * diameter)[:, None]
    ratio = np.clip(1 + rng.normal(0, NOMINAL_DEPTH, n) * reach, 0.6, 1.6)
    return _placed(turn @ T_cam_obj[:, :3, :3], center, middle * ratio[:, None])


def nearest(forms: Forms, entry: np.ndarray, T_cam_obj: np.ndarray, T_reference: np.ndarray) -> np.ndarray:
    """The equivalents [N,4,4] of T_cam_obj [N,4,4] of entries [N] nearest to T_reference [N,4,4]: as
    `SymmetryGroup.nearest`."""
    candidates = T_cam_obj[:, None] @ forms.discrete[entry]
    direction, offset = forms.axis[entry].swapaxes(0, 1)[:, :, None]
    x, y, z = np.moveaxis(direction, -1, 0)
    M = T_reference[:, None, :3, :3].swapaxes(-1, -2) @ candidates[..., :3, :3]
    # As in SymmetryGroup: trace(M [a]x), and trace M - a' M a.
    sin = x * (M[..., 1, 2] - M[..., 2, 1]) + y * (M[..., 2, 0] - M[..., 0, 2]) + z * (M[..., 0, 1] - M[..., 1, 0])
    cos = np.trace(M, axis1=-2, axis2=-1) - (direction * (M @ direction[..., None])[..., 0]).sum(-1)
    turn = exp_so3(torch.from_numpy(np.arctan2(sin, cos)[..., None] * direction)).numpy()
    S = np.tile(np.eye(4), (*turn.shape[:2], 1, 1))
    S[..., :3, :3], S[..., :3, 3] = turn, offset - (turn @ offset[..., None])[..., 0]
    candidates = candidates @ S
    alike = (candidates[..., :3, :3] * T_reference[:, None, :3, :3]).sum((-2, -1))
    return candidates[np.arange(len(entry)), alike.argmax(1)]


def _placed(R: np.ndarray, center: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """T [...,4,4] with R [...,3,3], scale included, that bring center [...,3] to middle [...,3]."""
    T = np.zeros((*R.shape[:-2], 4, 4))
    T[..., :3, :3], T[..., 3, 3] = R, 1
    T[..., :3, 3] = middle - (R @ center[..., None])[..., 0]
    return T


def _middle(T: np.ndarray, center: np.ndarray) -> np.ndarray:
    return (T[:, :3, :3] @ center[..., None])[..., 0] + T[:, :3, 3]


# --- the scene around it


def _scenes(real: np.ndarray, T_real: np.ndarray, shelf: Shelf, pictures: int, rng: np.random.Generator) -> Scenes:
    """Scenes around the entries real [N] at T_real [N,4,4], as `scene.compose_scene` has them."""
    forms, n = shelf.forms, len(real)
    middle, radius = _middle(T_real, forms.center[real]), forms.radius[real]
    entry = 2 * shelf.draw((n, SLOTS), rng)
    entry[:, 0] = real
    occluders = rng.choice(OCCLUDERS + 1, n, p=(0.45, 0.3, 0.15, 0.1))
    neighbours = rng.integers(0, NEIGHBOURS + 1, n)
    present = np.column_stack([np.ones(n, bool), np.arange(OCCLUDERS) < occluders[:, None],
                               np.arange(NEIGHBOURS) < neighbours[:, None]])
    spots, radii = (np.concatenate(parts, 1) for parts in zip(
        _occluder_spots(middle, radius, rng), _neighbour_spots(middle, radius, rng)))
    T = np.concatenate([T_real[:, None], _placed(
        random_rotations(spots[..., 0].size, rng).reshape(n, SLOTS - 1, 3, 3)
        * (radii / forms.radius[entry[:, 1:]])[..., None, None], forms.center[entry[:, 1:]], spots)], 1)
    gain = rng.uniform(0.8, 1.2, (n, SLOTS, 1)) * rng.uniform(0.85, 1.15, (n, SLOTS, 3))
    specular = rng.uniform(0, 0.6, (n, SLOTS)) * (rng.random((n, SLOTS)) < 0.5)
    gloss = np.stack([specular, rng.uniform(5, 60, (n, SLOTS))], -1)
    normal, offset = _tables(forms.support[real] @ T_real[:, :3, :3].swapaxes(1, 2) + T_real[:, None, :3, 3], rng)
    foot = middle + normal * (offset - (middle * normal).sum(1))[:, None]
    distance = np.where(rng.random(n) < 0.2, np.inf, middle[:, 2] + radius * rng.uniform(1.5, 12, n))
    wall = np.column_stack([rng.normal(0, 0.2, (n, 2)), np.ones(n), distance])
    return tensors(Scenes, entry, present, T, gain, gloss, middle, radius, rng.random(n) < 0.5, normal, offset, foot,
                   radius * rng.uniform(3, 15, n), radius * rng.uniform(3, 8, n), rng.integers(0, pictures, n), wall,
                   rng.integers(0, pictures, n))


def _occluder_spots(middle: np.ndarray, radius: np.ndarray,
                    rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where [N,OCCLUDERS,3] things nearer to the camera stand that cut into the target from a side, and their radii."""
    shape = len(radius), OCCLUDERS
    own = radius[:, None] * rng.uniform(0.25, 0.7, shape)
    z = np.maximum((middle[:, 2] - radius)[:, None] - own * rng.uniform(1, 2, shape), 2.5 * own)
    off = radius[:, None] * rng.uniform(0.5, 1.1, shape) + 0.3 * own
    beside = middle[:, None, :2] + off[..., None] * _around(shape, rng)
    return np.concatenate([beside * (z / middle[:, 2:])[..., None], z[..., None]], -1), own


def _neighbour_spots(middle: np.ndarray, radius: np.ndarray,
                     rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where [N,NEIGHBOURS,3] things beside or behind the target stand, and their radii."""
    shape = len(radius), NEIGHBOURS
    own = radius[:, None] * rng.uniform(0.4, 1.3, shape)
    both = radius[:, None] + own
    beside = middle[:, None, :2] + (both * rng.uniform(0.8, 1.3, shape))[..., None] * _around(shape, rng)
    z = np.maximum(middle[:, None, 2] + rng.uniform(-0.3, 2.0, shape) * both, 2.0 * own)
    return np.concatenate([beside, z[..., None]], -1), own


def _around(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi, shape)
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def _tables(support: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Normal [N,3] and offset [N] of tables that the lower sides of the targets touch; support [N,M,3], camera."""
    tilt, roll = np.radians(rng.uniform(15, 80, len(support))), rng.normal(0, 0.15, len(support))
    normal = np.column_stack([np.sin(roll) * np.sin(tilt), -np.cos(roll) * np.sin(tilt), -np.cos(tilt)])
    return normal, (support @ normal[..., None])[..., 0].min(1)
