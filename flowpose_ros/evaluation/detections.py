"""Detections files in BOP's default format: a list of COCO-like entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import ImageId
from flowpose_ros.evaluation.bop_scene import box_of_bop
from flowpose_ros.evaluation.json_input import read_json, take_int, take_number, take_numbers
from flowpose_ros.evaluation.run_length import decode_run_length
from flowpose_ros.records import Detection


@dataclass(frozen=True)
class ImageDetections:
    """What a detector saw in one image, best first; time: its seconds, 0 where not stated."""

    detections: tuple[Detection, ...] = ()
    time: float = 0.0


def read_detections(path: Path | str, label_of: Callable[[int], str]) -> dict[ImageId, ImageDetections]:
    """The detections of a file by image.

    Entries: scene_id, image_id, category_id, bbox (x, y, width, height), score, and optionally
    segmentation (COCO run lengths) and time. label_of names an object id.
    Raises DatasetError naming file and entry.
    """
    by_image: dict[ImageId, list[tuple[Detection, float]]] = {}
    for index, entry in enumerate(read_json(Path(path), list)):
        where = f"{path}: entry {index}"
        scene_id, im_id, obj_id = (take_int(entry, key, where)
                                   for key in ("scene_id", "image_id", "category_id"))
        detection = Detection(label_of(obj_id), _box(entry, where), take_number(entry, "score", 1.0, where),
                              _mask(entry, where))
        time = max(take_number(entry, "time", 0.0, where), 0.0)  # -1 stands for unknown
        by_image.setdefault(ImageId(scene_id, im_id), []).append((detection, time))
    return {image_id: ImageDetections(tuple(sorted((d for d, _ in found), key=lambda d: -d.score)),
                                      max(time for _, time in found))
            for image_id, found in by_image.items()}


def best_per_target(detections: Sequence[Detection], counts: dict[str, int]) -> tuple[Detection, ...]:
    """The best `counts[label]` detections of each label, in their order; others are left out."""
    left, kept = dict(counts), []
    for detection in detections:
        if left.get(detection.label, 0) > 0:
            left[detection.label] -= 1
            kept.append(detection)
    return tuple(kept)


def _box(entry: dict, where: str) -> np.ndarray:
    box = box_of_bop(take_numbers(entry, "bbox", 4, where))
    if box is None:
        raise DatasetError(f"{where}: bbox: expected a positive width and height, got {entry['bbox']}")
    return box


def _mask(entry: dict[str, Any], where: str) -> np.ndarray | None:
    segmentation = entry.get("segmentation")
    if segmentation is None:
        return None
    if not isinstance(segmentation, dict):
        raise DatasetError(f"{where}: segmentation: expected run lengths {{size, counts}}, "
                           f"got {type(segmentation).__name__}")
    return decode_run_length(segmentation.get("size"), segmentation.get("counts"), where)
