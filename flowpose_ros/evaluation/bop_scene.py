"""One scene folder of a BOP dataset: its files, read when they are asked for.

    000000/scene_camera.json  scene_gt.json  scene_gt_info.json
           rgb/ or gray/  depth/  mask_visib/
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.images import find_image, read_color, read_depth, read_mask
from flowpose_ros.evaluation.json_input import read_json, take_int, take_number, take_numbers
from flowpose_ros.evaluation.visibility import Visibility, visibility_of_mask
from flowpose_ros.geometry.transforms import nearest_rotation
from flowpose_ros.records import Frame

MM = 1e-3
ROUNDED_ROTATION = 0.05
"""Largest entry of R R^T - I of a published rotation that is taken for rounding and mended."""


@dataclass(frozen=True)
class BopScene:
    """Reads one scene folder; every method raises DatasetError naming the file and the image."""

    folder: Path

    @cached_property
    def cameras(self) -> dict[int, dict]:
        """scene_camera.json by image number."""
        return _per_image(self.folder / "scene_camera.json", dict)

    @cached_property
    def _annotations(self) -> dict[int, list]:
        path = self.folder / "scene_gt.json"
        return _per_image(path, list) if path.is_file() else {}

    @cached_property
    def _infos(self) -> dict[int, list]:
        path = self.folder / "scene_gt_info.json"
        return _per_image(path, list) if path.is_file() else {}

    @property
    def has_ground_truth(self) -> bool:
        """Whether the scene has annotations at all."""
        return (self.folder / "scene_gt.json").is_file()

    def frame(self, im_id: int, with_depth: bool = True) -> Frame:
        """The image, its intrinsics and, where there is one, its depth image."""
        camera, where = self._camera(im_id)
        K = take_numbers(camera, "cam_K", 9, where).reshape(3, 3)
        path = find_image(self.folder, ("rgb", "gray"), im_id)
        if path is None:
            raise DatasetError(f"{self.folder}: image {im_id}: expected it in rgb/ or gray/, got none")
        depth_path = find_image(self.folder, ("depth",), im_id) if with_depth else None
        depth = None
        if depth_path is not None:
            depth = read_depth(depth_path, take_number(camera, "depth_scale", 1.0, where) * MM)
        return Frame(read_color(path), K, depth)

    def poses(self, im_id: int) -> list[tuple[int, np.ndarray]]:
        """(obj_id, T_cam_obj [4,4] metres) of each annotated instance, in the file's order."""
        self._camera(im_id)  # refuses an unknown image
        where = f"{self.folder / 'scene_gt.json'}: image {im_id}"
        return [(take_int(entry, "obj_id", where), _read_pose(entry, where))
                for entry in self._annotations.get(im_id, [])]

    def visibilities(self, im_id: int) -> list[Visibility] | None:
        """How each annotated instance is seen: from scene_gt_info.json, else from mask_visib/;
        None where neither tells."""
        count = len(self._annotations.get(im_id, []))
        if not count:
            return []
        info = self._infos.get(im_id)
        if info is None:
            masks = self.masks(im_id)
            return None if masks is None else [visibility_of_mask(mask) for mask in masks]
        where = f"{self.folder / 'scene_gt_info.json'}: image {im_id}"
        if len(info) != count:
            raise DatasetError(f"{where}: expected {count} entries as in scene_gt.json, got {len(info)}")
        return [Visibility(take_number(entry, "visib_fract", 1.0, where),
                           box_of_bop(take_numbers(entry, "bbox_visib", 4, where))) for entry in info]

    def masks(self, im_id: int) -> list[np.ndarray] | None:
        """The visible pixels [H,W] bool of each annotated instance, from mask_visib/; None where any is missing."""
        count = len(self._annotations.get(im_id, []))
        paths = [self.folder / "mask_visib" / f"{im_id:06d}_{index:06d}.png" for index in range(count)]
        return [read_mask(path) for path in paths] if all(path.is_file() for path in paths) else None

    def _camera(self, im_id: int) -> tuple[dict, str]:
        where = f"{self.folder / 'scene_camera.json'}: image {im_id}"
        if im_id not in self.cameras:
            raise DatasetError(f"{where}: expected an entry, got none")
        return self.cameras[im_id], where


def box_of_bop(bbox: np.ndarray) -> np.ndarray | None:
    """(left, top, right, bottom) of BOP's (x, y, width, height); None when it is empty.

    BOP counts both from pixel indices, its width being the difference of the outermost ones.
    """
    x, y, width, height = bbox
    return np.array([x, y, x + width, y + height]) if width > 0 and height > 0 else None


def _per_image(path: Path, kind: type) -> dict[int, list | dict]:
    """A scene file's entries by image number."""
    entries = {}
    for key, value in read_json(path, dict).items():
        if not key.isdigit():
            raise DatasetError(f"{path}: expected image numbers as keys, got {key!r}")
        if not isinstance(value, kind):
            raise DatasetError(f"{path}: image {key}: expected a {kind.__name__}, got {type(value).__name__}")
        entries[int(key)] = value
    return entries


def _read_pose(entry: dict, where: str) -> np.ndarray:
    """T_cam_obj [4,4] metres of a scene_gt entry, its rotation made exact."""
    R = take_numbers(entry, "cam_R_m2c", 9, where).reshape(3, 3)
    if np.abs(R @ R.T - np.eye(3)).max() > ROUNDED_ROTATION or np.linalg.det(R) < 0:
        raise DatasetError(f"{where}: cam_R_m2c: expected a rotation, got {R.ravel().tolist()}")
    T = np.eye(4)
    T[:3, :3] = nearest_rotation(torch.from_numpy(R)).numpy()
    T[:3, 3] = take_numbers(entry, "cam_t_m2c", 3, where) * MM
    return T
