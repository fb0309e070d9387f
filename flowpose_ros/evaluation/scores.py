"""The BOP scores of a result file: localisation AR (2019-2023) and detection AP (2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import MIN_VISIBILITY, BopDataset, ImageId
from flowpose_ros.evaluation.eval_models import EvalModel, load_eval_models
from flowpose_ros.evaluation.matching import average_precision, match_greedily
from flowpose_ros.evaluation.metrics import VSD_TAUS, add, add_s, pose_difference
from flowpose_ros.evaluation.pose_errors import ObjectErrors, pose_errors
from flowpose_ros.evaluation.results import ResultRow
from flowpose_ros.evaluation.targets import Target

SHARE_THRESHOLDS = VSD_TAUS
"""Thresholds of VSD (a share of pixels) and of MSSD (a share of the diameter)."""
PIXEL_THRESHOLDS = tuple(range(5, 55, 5))
"""Thresholds of MSPD, pixels of an image 640 wide."""

SHARE_OF_DIAMETER = 0.1
"""An error below this share of the object's diameter counts as found."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """One estimate against the instance it is nearest to (by MSSD).

    rotation radians and translation metres after the best symmetry; add, add_s metres;
    mssd a share of the diameter; mspd pixels at an image width of 640.
    """

    row: ResultRow
    label: str
    T_cam_obj_true: np.ndarray
    diameter: float
    rotation: float
    translation: float
    add: float
    add_s: float
    mssd: float
    mspd: float


@dataclass(frozen=True)
class Scores:
    """Average recall per error (localisation) and average precision (detection), all in [0,1]."""

    target_count: int
    ar_vsd: float
    ar_mssd: float
    ar_mspd: float
    ap_mssd: float
    ap_mspd: float

    @property
    def ar(self) -> float:
        """BOP's average recall: the mean over VSD, MSSD and MSPD."""
        return (self.ar_vsd + self.ar_mssd + self.ar_mspd) / 3

    @property
    def ar_mssd_mspd(self) -> float:
        """Average recall without VSD."""
        return (self.ar_mssd + self.ar_mspd) / 2

    @property
    def ap(self) -> float:
        """BOP's average precision of detection: the mean over MSSD and MSPD."""
        return (self.ap_mssd + self.ap_mspd) / 2


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of all objects together and of each (by label), and every estimate compared.

    unknown: how many rows name an image or an object that the dataset does not have.
    """

    total: Scores
    objects: dict[str, Scores]
    comparisons: tuple[Comparison, ...]
    unknown: int = 0


def evaluate(dataset: BopDataset, rows: Sequence[ResultRow], targets: Sequence[Target],
             progress: Callable[[ImageId], None] | None = None) -> Evaluation:
    """Score the poses of a result file against the ground truth of the targets' images.

    `progress` is called after each image. Raises DatasetError when ground truth or a model is missing.
    Source: BOP toolkit, `eval_bop19_pose.py` and `eval_bop24_pose.py`.
    """
    models = load_eval_models(dataset)
    for target in targets:
        if target.obj_id not in models:
            raise DatasetError(f"{dataset.root}: image {target.image_id}: expected an object of "
                               f"{sorted(models)}, got {target.obj_id}")
    images = set(dataset.images)
    unknown = sum(row.image_id not in images or row.obj_id not in models for row in rows)
    errors: list[ObjectErrors] = []
    for image_id, found in pose_errors(dataset, models, rows, targets):
        errors += found
        if progress is not None:
            progress(image_id)
    by_object = {obj_id: [e for e in errors if e.obj_id == obj_id]
                 for obj_id in sorted({e.obj_id for e in errors})}
    return Evaluation(total_scores(errors),
                      {models[obj_id].model.label: total_scores(own) for obj_id, own in by_object.items()},
                      tuple(c for e in errors for c in _comparisons(e, models[e.obj_id])), unknown)


def found_share(target_count: int, good: Sequence[Comparison]) -> float | None:
    """Share of the targets that a good estimate belongs to, None where there are none; two estimates of one target
    count once."""
    found = {(c.row.image_id, c.T_cam_obj_true.tobytes()) for c in good}
    return min(1.0, len(found) / target_count) if target_count else None


def mean_recall(distances: np.ndarray) -> np.ndarray:
    """Share of errors [N,...] in diameters that are under a threshold of MSSD, the mean over the thresholds: [...]."""
    return np.mean([(distances < threshold).mean(0) for threshold in SHARE_THRESHOLDS], 0)


def total_scores(errors: Sequence[ObjectErrors]) -> Scores:
    """Scores over the objects and images of `errors`."""
    mssd, mspd = [e.mssd for e in errors], [e.mspd for e in errors]
    ar_vsd = np.mean([average_recall(errors, [e.vsd[..., i] for e in errors], SHARE_THRESHOLDS)
                      for i in range(len(VSD_TAUS))])
    return Scores(sum(e.inst_count for e in errors), float(ar_vsd),
                  average_recall(errors, mssd, SHARE_THRESHOLDS), average_recall(errors, mspd, PIXEL_THRESHOLDS),
                  mean_precision(errors, mssd, SHARE_THRESHOLDS), mean_precision(errors, mspd, PIXEL_THRESHOLDS))


def average_recall(errors: Sequence[ObjectErrors], values: Sequence[np.ndarray],
                   thresholds: Sequence[float]) -> float:
    """Mean over the thresholds of the share of valid instances that are found.

    values: one error [E,G] per entry of `errors`. Of each object in an image, the `inst_count`
    best-scored estimates count, and the `inst_count` most visible instances are valid.
    """
    found = valid_count = 0
    for e, value in zip(errors, values):
        valid = np.argsort(-e.visib_fracts, kind="stable")[:e.inst_count]
        valid_count += len(valid)
        considered = value[:e.inst_count][:, valid]
        for threshold in thresholds:
            found += np.count_nonzero(match_greedily(considered, e.scores[:e.inst_count], threshold) >= 0)
    return found / (valid_count * len(thresholds)) if valid_count else 0.0


def mean_precision(errors: Sequence[ObjectErrors], values: Sequence[np.ndarray],
                   thresholds: Sequence[float]) -> float:
    """Mean over thresholds, then over objects, of the average precision.

    Estimates matched to instances that are hardly visible count neither for nor against. Of an image's estimates only
    the best count (MAX_ESTIMATES_PER_IMAGE); localisation counts those of each object that targets ask for.
    """
    per_object = []
    for obj_id in sorted({e.obj_id for e in errors}):
        own = [(e, value) for e, value in zip(errors, values) if e.obj_id == obj_id]
        target_count = sum(np.count_nonzero(e.visib_fracts >= MIN_VISIBILITY) for e, _ in own)
        if target_count:
            per_object.append(np.mean([_precision_at(own, threshold, target_count) for threshold in thresholds]))
    return float(np.mean(per_object)) if per_object else 0.0


def _precision_at(own: Sequence[tuple[ObjectErrors, np.ndarray]], threshold: float, target_count: int) -> float:
    scores, hits = [], []
    for e, value in own:
        counted = e.scores[e.counted]
        matched = match_greedily(value[e.counted], counted, threshold)
        hit = matched >= 0
        ignored = np.append(e.visib_fracts, 1.0)[matched] < MIN_VISIBILITY  # -1, unmatched, is never ignored
        scores.append(counted[~ignored])
        hits.append(hit[~ignored])
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return average_precision(np.concatenate(hits)[order], target_count)


def _comparisons(e: ObjectErrors, eval_model: EvalModel) -> list[Comparison]:
    if not e.truths:
        return []
    comparisons = []
    for index, row in enumerate(e.rows):
        nearest = int(e.mssd[index].argmin())
        T_true = e.truths[nearest].T_cam_obj
        difference = pose_difference(row.T_cam_obj, T_true, eval_model.model.symmetries)
        comparisons.append(Comparison(
            row, eval_model.model.label, T_true, eval_model.diameter, difference.rotation, difference.translation,
            add(row.T_cam_obj, T_true, eval_model.vertices), add_s(row.T_cam_obj, T_true, eval_model.vertices),
            float(e.mssd[index, nearest]), float(e.mspd[index, nearest])))
    return comparisons
