"""What is validated on: objects in frames whose truth is known, synthetic or of a BOP dataset.

A case is the same on every run: synthetic scene i of seed s by its two numbers, an annotated instance by its place in
the dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.evaluation.metrics import VSD_DELTA, mssd
from flowpose_ros.evaluation.view import Window, depth_in_window
from flowpose_ros.geometry.camera import CropCamera
from flowpose_ros.geometry.crops import crop_for_poses
from flowpose_ros.objects.catalogue import ObjectModel
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.records import Frame
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.shading import surface_at
from training.pairs import PairMaker

IMAGE_SIZE = 256
ROOM = 2.5
"""Half side of a synthetic image over half the longer side of the object's projection."""

FLAT = 0.05
"""An object is flat when its colour, sRGB in [0,1], spreads by less than this over its surface (standard deviation)."""
LEVELS = {"over 0.9 seen": 0.9, "0.6 to 0.9 seen": 0.6, "under 0.6 seen": 0.0}
"""Levels of occlusion: the least share of the silhouette that is seen."""
ALL = "all"
GROUPS = (ALL, "textured", "flat", *LEVELS)


@dataclass(frozen=True)
class Case:
    """An object that is seen in a frame: its true pose T_cam_obj [4,4]; seen [H,W] bool, where the image shows it, or
    None where nothing tells; visible in [0,1], the share of its silhouette that is seen."""

    frame: Frame
    model: ObjectModel
    T_cam_obj: np.ndarray
    seen: np.ndarray | None
    visible: float

    @cached_property
    def groups(self) -> tuple[str, str, str]:
        """Those of GROUPS that the case is in."""
        look = "flat" if colour_spread(self.model.mesh) < FLAT else "textured"
        return ALL, look, next(name for name, least in LEVELS.items() if self.visible >= least)


class ImageMaker(PairMaker):
    """Pairs whose query is a small camera image around the truth, with room for any start."""

    def _crop(self, points: torch.Tensor, T_gt: torch.Tensor, T_init: torch.Tensor, padding: float) -> CropCamera:
        return crop_for_poses(points, T_gt[None], self.size, ROOM)


def synthetic_cases(family: str, count: int, seed: int) -> Iterator[Case]:
    """Synthetic scenes of objects of a family: "train", or "held_out" for those that are never trained on."""
    maker = ImageMaker(seed, IMAGE_SIZE, family)
    yield from (synthetic_case(maker, index) for index in range(count))


def synthetic_case(maker: ImageMaker, index: int) -> Case:
    """Synthetic scene `index` of a maker, always the same."""
    pair, thing = maker.sample_with_object(index)
    image = (pair.query_rgb[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    depth, seen = pair.query_depth[0].numpy(), pair.target_depth[0].numpy() > 0
    frame = Frame(image, pair.K[0].double().numpy(), depth if depth.any() else None)
    model = ObjectModel(f"object_{index}", None, thing.mesh, thing.symmetries, Path())
    alone = maker.renderer.render(thing.mesh, pair.T_gt, pair.K, image.shape[:2]).mask
    return Case(frame, model, pair.T_gt[0].double().numpy(), seen, min(1.0, float(seen.sum() / alone.sum())))


def dataset_cases(dataset: BopDataset) -> Iterator[Case]:
    """The annotated instances of a dataset; where it has no masks, an object is seen where the depth image says so."""
    renderer = RaycastRenderer()
    for sample in dataset.samples():
        masks = dataset.masks(sample.image_id)
        for index, truth in enumerate(sample.ground_truth):
            model = dataset.catalogue[truth.label]
            seen = masks[index] if masks else seen_in_depth(sample.frame, model.mesh, truth.T_cam_obj, renderer)
            yield Case(sample.frame, model, truth.T_cam_obj, seen, truth.visib_fract)


def seen_in_depth(frame: Frame, mesh: Mesh, T_cam_obj: np.ndarray, renderer: RaycastRenderer) -> np.ndarray | None:
    """Where [H,W] bool a frame's depth image has nothing in front of an object at T_cam_obj [4,4], by the tolerance of
    VSD; None without depth."""
    if frame.depth is None:
        return None
    height, width = frame.depth.shape
    depth = depth_in_window(renderer, mesh, T_cam_obj, frame.K, Window(0, 0, width, height))
    return (depth > 0) & ((depth - frame.depth <= VSD_DELTA) | (frame.depth == 0))


def farthest(model: ObjectModel, T: np.ndarray, T_gt: np.ndarray) -> float:
    """MSSD of a pose [4,4] of an object against its truth, as a share of the diameter."""
    mesh = model.mesh
    return mssd(T, T_gt, mesh.surface_points(500), model.symmetries.transforms(0.1)) / mesh.diameter


def colour_spread(mesh: Mesh, count: int = 1000) -> float:
    """Standard deviation of a mesh's colour over its surface, sRGB in [0,1], mean over the channels."""
    rng = np.random.default_rng(0)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    face = rng.choice(len(area), count, p=area / area.sum())
    return float(surface_at(mesh, face, rng.dirichlet((1, 1, 1), count)).albedo.std(0).mean())
