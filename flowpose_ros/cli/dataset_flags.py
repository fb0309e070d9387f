"""The flags that say which BOP dataset, and what in it, a command works on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.evaluation.targets import Target, images_of, read_targets, targets_from_ground_truth
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.objects.load import METRES_PER_UNIT


def add_dataset_flags(parser: argparse.ArgumentParser) -> None:
    """Add DATASET, --split, --targets, --objects and --report."""
    parser.add_argument("dataset", metavar="DATASET", type=Path, help="folder of a dataset in BOP layout")
    parser.add_argument("--split", default="test", help="folder of scenes in DATASET (default: %(default)s)")
    parser.add_argument("--targets", metavar="FILE.json", type=Path,
                        help="what to find, such as test_targets_bop19.json (default: all annotated instances)")
    parser.add_argument("--objects", metavar="FOLDER", type=Path,
                        help="meshes of the objects (default: DATASET/models)")
    add_unit_flag(parser)
    parser.add_argument("--report", metavar="DIR", type=Path, help="write a page with pictures, scores and times")


def add_unit_flag(parser: argparse.ArgumentParser) -> None:
    """Add --unit, which a folder of objects may need."""
    parser.add_argument("--unit", "--units", choices=tuple(METRES_PER_UNIT),
                        help="unit of the meshes, where their folder says none")


def open_dataset(args: argparse.Namespace) -> BopDataset:
    """The dataset that the flags name; raises DatasetError, also when it has no image, or CatalogueError."""
    dataset = BopDataset(args.dataset, args.split, Catalogue.load(args.objects, args.unit) if args.objects else None)
    if not dataset.images:
        raise DatasetError(f"{dataset.root / dataset.split}: expected images in scene_camera.json, got none")
    return dataset


def targets_of(args: argparse.Namespace, dataset: BopDataset) -> tuple[Target, ...] | None:
    """The targets that the flags name, else those of the ground truth, else None; raises DatasetError for no target."""
    if args.targets is not None:
        targets = read_targets(args.targets)
        need_images(dataset, targets)
        return targets
    if not dataset.has_ground_truth:
        return None
    targets = targets_from_ground_truth(dataset)
    if not targets:
        raise DatasetError(f"{dataset.root / dataset.split}: expected visible objects in scene_gt.json, got none")
    return targets


def need_images(dataset: BopDataset, targets: Sequence[Target]) -> None:
    """Raise DatasetError unless the dataset has the images of all targets."""
    missing = sorted(set(images_of(targets)) - set(dataset.images))
    if missing:
        raise DatasetError(f"{dataset.root / dataset.split}: expected image {missing[0]} of the targets, got none")


def need_objects(dataset: BopDataset, targets: Sequence[Target]) -> None:
    """Raise DatasetError unless the dataset has meshes of the objects of all targets."""
    for target in targets:
        if target.obj_id is not None and str(target.obj_id) not in dataset.catalogue:
            raise DatasetError(f"{dataset.root}: image {target.image_id} of the targets: expected one of the objects "
                               f"{', '.join(dataset.catalogue.labels)}, got {target.obj_id}")


def need_ground_truth(dataset: BopDataset, what_for: str) -> None:
    """Raise DatasetError unless the dataset's split is annotated."""
    if not dataset.has_ground_truth:
        raise DatasetError(f"{dataset.root / dataset.split}: {what_for}: expected scene_gt.json in every "
                           "scene, got a scene without")
