"""Every estimate of an object in an image against every annotated instance of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import BopDataset, GroundTruth, ImageId
from flowpose_ros.evaluation.eval_models import EvalModel
from flowpose_ros.evaluation.metrics import VSD_DELTA, VSD_DELTAS, VSD_TAUS, distance_image, mspd, mssd, vsd
from flowpose_ros.evaluation.results import ResultRow
from flowpose_ros.evaluation.targets import Target
from flowpose_ros.evaluation.view import Window, depth_in_window, window_of
from flowpose_ros.records import Frame
from flowpose_ros.rendering.raycast import RaycastRenderer

MAX_ESTIMATES_PER_IMAGE = 100
"""Of an image so many, the best, count in detection."""
MSPD_IMAGE_WIDTH = 640
"""MSPD is stated in pixels of an image this wide."""


@dataclass(frozen=True, eq=False)
class ObjectErrors:
    """E estimates (best first) and G instances of one object in one image.

    mssd [E,G] shares of the diameter; mspd [E,G] pixels at an image width of 640;
    vsd [E,G,10] one per tau, computed for the estimates that localisation counts and 1 elsewhere;
    counted [E] bool: the estimates that detection counts; inst_count: how many instances the targets ask for.
    """

    image_id: ImageId
    obj_id: int
    inst_count: int
    rows: tuple[ResultRow, ...]
    truths: tuple[GroundTruth, ...]
    mssd: np.ndarray
    mspd: np.ndarray
    vsd: np.ndarray
    counted: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Scores [E] of the estimates."""
        return np.array([row.score for row in self.rows])

    @property
    def visib_fracts(self) -> np.ndarray:
        """Visible shares [G] of the instances."""
        return np.array([truth.visib_fract for truth in self.truths])


def pose_errors(dataset: BopDataset, models: dict[int, EvalModel], rows: Iterable[ResultRow],
                targets: Iterable[Target]) -> Iterator[tuple[ImageId, list[ObjectErrors]]]:
    """Yield, image by image of the targets, the errors of each annotated object.

    Estimates of objects that are not annotated in an image are left out, as in the BOP toolkit.
    Raises DatasetError or CatalogueError when an image or a model is missing.
    """
    by_image = _rows_by_image(rows)
    counts: dict[ImageId, dict[int, int]] = defaultdict(dict)
    for target in targets:
        counts[target.image_id][target.obj_id] = target.inst_count
    renderer = RaycastRenderer()
    for image_id in sorted(counts):
        frame, truths = dataset.frame(image_id), dataset.ground_truth(image_id)
        scene = _SceneView(renderer, frame, VSD_DELTAS.get(dataset.name, VSD_DELTA))
        asked = {truth.obj_id for truth in truths} | set(counts[image_id])
        if asked - models.keys():
            raise DatasetError(f"image {image_id}: expected models of objects {sorted(asked)}, got none of "
                               f"{sorted(asked - models.keys())}")
        yield image_id, [
            _object_errors(scene, models[obj_id], counts[image_id].get(obj_id, 0),
                           [(row, rank) for rank, row in enumerate(by_image.get(image_id, ())) if row.obj_id == obj_id],
                           [truth for truth in truths if truth.obj_id == obj_id], image_id)
            for obj_id in sorted(asked)]


def _rows_by_image(rows: Iterable[ResultRow]) -> dict[ImageId, list[ResultRow]]:
    by_image: dict[ImageId, list[ResultRow]] = defaultdict(list)
    for row in rows:
        by_image[row.image_id].append(row)
    return {image_id: sorted(found, key=lambda row: -row.score) for image_id, found in by_image.items()}


def _object_errors(scene: _SceneView, model: EvalModel, inst_count: int, ranked: Sequence[tuple[ResultRow, int]],
                   truths: Sequence[GroundTruth], image_id: ImageId) -> ObjectErrors:
    """ranked: the object's estimates, best first, and the rank of each among all of the image."""
    rows = tuple(row for row, _ in ranked)
    counted = np.array([rank < MAX_ESTIMATES_PER_IMAGE for _, rank in ranked], dtype=bool)
    shape = (len(rows), len(truths))
    mssds, mspds = np.zeros(shape), np.zeros(shape)
    vsds = np.ones((*shape, len(VSD_TAUS)))
    to_640 = MSPD_IMAGE_WIDTH / scene.frame.image.shape[1]
    for e, row in enumerate(rows):
        for g, truth in enumerate(truths):
            poses = (row.T_cam_obj, truth.T_cam_obj)
            mssds[e, g] = mssd(*poses, model.vertices, model.symmetries) / model.diameter
            mspds[e, g] = mspd(*poses, model.vertices, model.symmetries, scene.frame.K) * to_640
            if e < inst_count:
                vsds[e, g] = scene.vsd(model, *poses)
    return ObjectErrors(image_id, model.model.obj_id, inst_count, rows, tuple(truths), mssds, mspds, vsds, counted)


class _SceneView:
    """One image for VSD; depth renders of a pose are kept, as each truth meets several estimates."""

    def __init__(self, renderer: RaycastRenderer, frame: Frame, delta: float) -> None:
        self._renderer, self._delta = renderer, delta
        self.frame = frame
        self._size = frame.image.shape[:2]
        # Without a depth image nothing is measured, so nothing hides the object.
        self._depth = frame.depth if frame.depth is not None else np.zeros(self._size, np.float32)
        self._rendered: dict[tuple[int, bytes], tuple[Window, np.ndarray]] = {}

    def vsd(self, model: EvalModel, T_est: np.ndarray, T_gt: np.ndarray) -> np.ndarray:
        """VSD for each tau, over the part of the image that either pose covers."""
        (window_est, depth_est), (window_gt, depth_gt) = self._render(model, T_est), self._render(model, T_gt)
        window = window_est.union(window_gt)
        K = self.frame.K
        images = (_pasted(depth_est, window_est, window), _pasted(depth_gt, window_gt, window),
                  self._depth[window.slices])
        return vsd(*(distance_image(image, K, window.left, window.top) for image in images),
                   model.diameter, delta=self._delta)

    def _render(self, model: EvalModel, T: np.ndarray) -> tuple[Window, np.ndarray]:
        key = (model.model.obj_id, T.tobytes())
        if key not in self._rendered:
            window = window_of(model.model.mesh, T, self.frame.K, self._size)
            self._rendered[key] = (window, depth_in_window(self._renderer, model.model.mesh, T,
                                                           self.frame.K, window))
        return self._rendered[key]


def _pasted(depth: np.ndarray, window: Window, into: Window) -> np.ndarray:
    """A window's depth in a larger window around it, 0 elsewhere."""
    out = np.zeros((into.height, into.width), depth.dtype)
    moved = Window(window.left - into.left, window.top - into.top, window.width, window.height)
    if window.area:
        out[moved.slices] = depth
    return out
