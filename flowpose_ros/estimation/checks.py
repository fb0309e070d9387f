"""What is refused: detections that show too little, and poses that no camera can see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flowpose_ros.errors import DetectionError
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.records import Detection, Frame

MIN_BOX = 8.0
"""Boxes with a shorter side, in pixels, show too little of an object."""


def check_detection(detection: Detection, frame: Frame) -> Detection:
    """The detection with its box clipped to the image; raises DetectionError where too little is left of it, or its
    mask is not of the image's size."""
    box = np.asarray(detection.box, dtype=np.float64)
    height, width = frame.image.shape[:2]
    if box.shape != (4,) or not np.isfinite(box).all():
        raise DetectionError(f"{detection.label}: box: expected 4 finite numbers, got {box.tolist()}")
    if detection.mask is not None and detection.mask.shape != (height, width):
        raise DetectionError(f"{detection.label}: mask: expected {width} x {height} pixels as the image has, got "
                             f"{' x '.join(map(str, reversed(detection.mask.shape)))}")
    clipped = visible_box(box, width, height)
    if clipped is None:
        raise DetectionError(f"{detection.label}: box: expected at least {MIN_BOX:.0f} pixels a side inside the "
                             f"{width} x {height} image, got {box.tolist()}")
    return replace(detection, box=clipped)


def visible_box(box: np.ndarray, width: int, height: int) -> np.ndarray | None:
    """The part of a box [4] that is inside an image, pixels; None where too little is."""
    clipped = box.clip(-0.5, np.array([width, height, width, height]) - 0.5)
    return clipped if (clipped[2:] - clipped[:2] >= MIN_BOX).all() else None


def check_in_front(T_cam_obj: np.ndarray, mesh: Mesh, label: str) -> None:
    """Raise DetectionError unless a posed object [4,4] has its centre farther than its radius before the camera."""
    z = T_cam_obj[2, :3] @ mesh.center + T_cam_obj[2, 3]
    if not z > mesh.radius:
        raise DetectionError(f"{label}: pose: expected its centre farther than its radius of {mesh.radius:.3f} m "
                             f"in front of the camera, got z = {z:.3f} m")
