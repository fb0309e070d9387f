"""A dataset in BOP layout: ROOT/models and ROOT/SPLIT/000000; images are streamed, not kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_scene import BopScene
from flowpose_ros.evaluation.visibility import Visibility, rendered_visibilities
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.records import Detection, Frame

MIN_VISIBILITY = 0.1
"""An instance of which less is visible need not be found (BOP)."""


@dataclass(frozen=True, order=True)
class ImageId:
    """One image of a split: number of the scene folder, number of the image in it."""

    scene_id: int
    im_id: int

    def __str__(self) -> str:
        return f"{self.scene_id:06d}/{self.im_id:06d}"


@dataclass(frozen=True)
class GroundTruth:
    """One annotated instance: T_cam_obj [4,4] float64 metres; visib_fract in [0,1]; box [4] float64
    (left, top, right, bottom) pixels around its visible part, None where nothing is visible."""

    obj_id: int
    label: str
    T_cam_obj: np.ndarray
    visib_fract: float
    box: np.ndarray | None


@dataclass(frozen=True)
class Sample:
    """One image with its annotations; `detections` are the ground truth's visible boxes."""

    image_id: ImageId
    frame: Frame
    detections: tuple[Detection, ...]
    ground_truth: tuple[GroundTruth, ...]


class BopDataset:
    """Reads one split of a dataset in BOP layout.

    Without a catalogue, objects are named as BOP names their mesh files ("obj_000008"), and
    ROOT/models is loaded when a mesh is needed.
    Raises DatasetError when the folder holds no scene, and later when a file in it is unusable.
    """

    def __init__(self, root: Path | str, split: str = "test", catalogue: Catalogue | None = None) -> None:
        self.root, self.split = Path(root), split
        self._given_catalogue = catalogue
        folder = self.root / split
        self._scenes = {int(path.parent.name): BopScene(path.parent)
                        for path in sorted(folder.glob("*/scene_camera.json")) if path.parent.name.isdigit()}
        if not self._scenes:
            raise DatasetError(f"{folder}: expected scene folders such as 000000/scene_camera.json, got none")

    @property
    def name(self) -> str:
        """The dataset's folder name, as in BOP's result files."""
        return self.root.resolve().name

    @cached_property
    def catalogue(self) -> Catalogue:
        """The objects: those given, else ROOT/models."""
        return self._given_catalogue or Catalogue.load(self.root / "models")

    @cached_property
    def images(self) -> tuple[ImageId, ...]:
        """All images of the split, in order."""
        return tuple(ImageId(scene_id, im_id) for scene_id in sorted(self._scenes)
                     for im_id in sorted(self._scenes[scene_id].cameras))

    @property
    def has_ground_truth(self) -> bool:
        """Whether every scene of the split is annotated."""
        return all(scene.has_ground_truth for scene in self._scenes.values())

    def label_of(self, obj_id: int) -> str:
        """The name of a BOP object id."""
        if self._given_catalogue is not None:
            return self._given_catalogue[str(obj_id)].label
        return f"obj_{obj_id:06d}"

    def frame(self, image_id: ImageId, with_depth: bool = True) -> Frame:
        """Read an image with its intrinsics and, where there is one, its depth image."""
        return self._scene(image_id).frame(image_id.im_id, with_depth)

    def ground_truth(self, image_id: ImageId) -> tuple[GroundTruth, ...]:
        """The annotated instances of an image, in the file's order; empty where none are published."""
        scene = self._scene(image_id)
        poses = scene.poses(image_id.im_id)
        visibilities = scene.visibilities(image_id.im_id)
        if visibilities is None:
            visibilities = self._rendered_visibilities(image_id, poses)
        return tuple(GroundTruth(obj_id, self.label_of(obj_id), T, seen.fract, seen.box)
                     for (obj_id, T), seen in zip(poses, visibilities))

    def masks(self, image_id: ImageId) -> list[np.ndarray] | None:
        """The visible pixels [H,W] bool of the annotated instances, in the file's order; None where there are none."""
        return self._scene(image_id).masks(image_id.im_id)

    def samples(self, images: Iterable[ImageId] | None = None, with_depth: bool = True) -> Iterator[Sample]:
        """Yield images (by default all of the split), each read when its turn comes."""
        for image_id in self.images if images is None else images:
            truths = self.ground_truth(image_id)
            yield Sample(image_id, self.frame(image_id, with_depth), detections_of(truths), truths)

    def _scene(self, image_id: ImageId) -> BopScene:
        scene = self._scenes.get(image_id.scene_id)
        if scene is None:
            raise DatasetError(f"{self.root / self.split}: expected one of the scenes "
                               f"{sorted(self._scenes)}, got {image_id.scene_id}")
        return scene

    def _rendered_visibilities(self, image_id: ImageId,
                               poses: list[tuple[int, np.ndarray]]) -> list[Visibility]:
        frame = self.frame(image_id, with_depth=False)
        return rendered_visibilities([self.catalogue[str(obj_id)].mesh for obj_id, _ in poses],
                                     [T for _, T in poses], frame.K, frame.image.shape[:2])


def detections_of(truths: Iterable[GroundTruth], masks: Sequence[np.ndarray] | None = None) -> tuple[Detection, ...]:
    """The visible boxes of annotated instances, and their masks where given, as detections; `instance` is the
    annotation's index."""
    return tuple(Detection(truth.label, truth.box, mask=None if masks is None else masks[index], instance=index)
                 for index, truth in enumerate(truths)
                 if truth.box is not None and truth.visib_fract >= MIN_VISIBILITY)
