"""What is to be found in which image: a BOP targets file, or the ground truth itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import MIN_VISIBILITY, BopDataset, ImageId
from flowpose_ros.evaluation.json_input import read_json, take_int


@dataclass(frozen=True)
class Target:
    """`inst_count` instances of one object are to be found in one image; whatever there is where obj_id is None."""

    image_id: ImageId
    obj_id: int | None
    inst_count: int


def read_targets(path: Path | str) -> tuple[Target, ...]:
    """The targets of a file such as test_targets_bop19.json, or, for detection, test_targets_bop24.json, which names
    images alone; raises DatasetError."""
    targets = []
    for index, entry in enumerate(read_json(Path(path), list)):
        where = f"{path}: entry {index}"
        image_id = ImageId(take_int(entry, "scene_id", where), take_int(entry, "im_id", where))
        if not {"obj_id", "inst_count"} & entry.keys():
            targets.append(Target(image_id, None, 0))
            continue
        obj_id, count = (take_int(entry, key, where) for key in ("obj_id", "inst_count"))
        if count < 1:
            raise DatasetError(f"{where}: inst_count: expected at least 1, got {count}")
        targets.append(Target(image_id, obj_id, count))
    if not targets:
        raise DatasetError(f"{path}: expected at least one target, got an empty list")
    return tuple(targets)


def targets_from_ground_truth(dataset: BopDataset, images: Iterable[ImageId] | None = None) -> tuple[Target, ...]:
    """Every sufficiently visible instance of some images (by default of the split), counted per image and object."""
    targets = []
    for image_id in dataset.images if images is None else images:
        counts = Counter(truth.obj_id for truth in dataset.ground_truth(image_id)
                         if truth.visib_fract >= MIN_VISIBILITY)
        targets += [Target(image_id, obj_id, count) for obj_id, count in sorted(counts.items())]
    return tuple(targets)


def with_objects(targets: Sequence[Target], dataset: BopDataset) -> tuple[Target, ...]:
    """The targets, with what the ground truth has in place of those that name images alone."""
    alone = [target.image_id for target in targets if target.obj_id is None]
    return (*(target for target in targets if target.obj_id is not None), *targets_from_ground_truth(dataset, alone))


def images_of(targets: Iterable[Target]) -> tuple[ImageId, ...]:
    """The images that have targets, in order."""
    return tuple(sorted({target.image_id for target in targets}))
