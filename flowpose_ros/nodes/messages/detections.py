"""vision_msgs/Detection2DArray into detections: the unusable are left out and counted, the others clipped."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from flowpose_ros.estimation.checks import visible_box
from flowpose_ros.nodes.messages.camera import Calibration
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.records import Detection
from flowpose_ros.runtime.drop_log import DropLog

MAX_INSTANCE = 2**31 - 1


def detections_in(message, catalogue: Catalogue, camera: Calibration, limit: int, drops: DropLog,
                  labels: np.ndarray | None = None) -> tuple[Detection, ...]:
    """The usable detections of a vision_msgs/Detection2DArray, at most `limit`, best scores first kept.

    Boxes are centre and size in pixels of the raw image; they come out rectified and clipped to it.
    class_id is a label of the catalogue. labels [H,W], rectified: the first detection's mask is where it is 1, the
    second's where it is 2, and so on. What is left out or clipped is counted in `drops` by reason.
    """
    read = ((number, _read(item, catalogue, camera, drops)) for number, item in enumerate(message.detections, start=1))
    usable = {number: detection for number, detection in read if detection is not None}
    if len(usable) > limit:
        drops.add("over_limit", f"expected at most {limit} detections, got {len(usable)}", len(usable) - limit)
        best = sorted(usable, key=lambda number: -usable[number].score)[:limit]
        usable = {number: usable[number] for number in sorted(best)}
    if labels is None:
        return tuple(usable.values())
    return tuple(_with_mask(detection, labels == number, drops) for number, detection in usable.items())


def _with_mask(detection: Detection, mask: np.ndarray, drops: DropLog) -> Detection:
    if mask.any():
        return replace(detection, mask=mask)
    drops.add("empty_mask", f"{detection.label}: no pixel of the label image has its number; used without a mask")
    return detection


def _read(item, catalogue: Catalogue, camera: Calibration, drops: DropLog) -> Detection | None:
    if not item.results:
        drops.add("no_class", "a detection without results")
        return None
    best = max(item.results, key=lambda result: _order(result.hypothesis.score)).hypothesis
    if best.class_id not in catalogue:
        drops.add("unknown_class", f"expected one of {', '.join(catalogue.labels)}, got {best.class_id!r:.100}")
        return None
    raw = _corners(item.bbox)
    if not np.isfinite([*raw, best.score]).all():
        drops.add("not_finite", f"{best.class_id}: box {raw.tolist()}, score {best.score}")
        return None
    whole = camera.rectify_box(raw)
    box = visible_box(whole, camera.width, camera.height)
    if box is None:
        drops.add("outside_image", f"{best.class_id}: box {raw.tolist()}")
        return None
    if (box != whole).any():
        drops.add("clipped", f"{best.class_id}: box {raw.tolist()} was clipped to the image")
    return Detection(catalogue[best.class_id].label, box, min(1.0, max(0.0, best.score)), instance=_instance(item.id))


def _order(score: float) -> float:
    return score if math.isfinite(score) else -math.inf


def _corners(bbox) -> np.ndarray:
    """Box [4] (left, top, right, bottom) of a vision_msgs/BoundingBox2D."""
    # vision_msgs 3 and older have the centre's x and y directly in `center`
    centre = getattr(bbox.center, "position", bbox.center)
    with np.errstate(invalid="ignore", over="ignore"):
        half = np.array([bbox.size_x, bbox.size_y]) / 2
        middle = np.array([centre.x, centre.y])
        return np.concatenate([middle - half, middle + half])


def _instance(identifier: str) -> int | None:
    """The detector's own number of an instance; other ids are not names of a TF frame."""
    if identifier.isascii() and identifier.isdigit() and int(identifier[:12]) <= MAX_INSTANCE:
        return int(identifier[:12])
    return None

