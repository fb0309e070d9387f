"""sensor_msgs/CameraInfo into a calibration, and the rectification that it asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from flowpose_ros.errors import FrameError, GeometryError
from flowpose_ros.geometry.camera import check_intrinsics

COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""Distortion models that can be undone, with the numbers of coefficients they may have."""

BOX_EDGE_POINTS = 8


@dataclass(frozen=True, eq=False)
class Calibration:
    """A camera's size, K [3,3] and lens distortion; model is None where the image needs no rectifying.

    K is also the rectified image's: rectifying keeps size and focal length.
    """

    width: int
    height: int
    K: np.ndarray
    model: str | None = None
    D: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def rectify(self, image: np.ndarray) -> np.ndarray:
        """The undistorted colour image [H,W,3], linearly interpolated; where nothing was seen its border goes on."""
        return image if self.model is None else cv2.remap(image, *self._maps, cv2.INTER_LINEAR,
                                                          borderMode=cv2.BORDER_REPLICATE)

    def rectify_nearest(self, pixels: np.ndarray) -> np.ndarray:
        """The undistorted depth or labels [H,W]: the nearest reading, since a mean across an edge is no point and no
        label."""
        if self.model is None:
            return pixels
        # OpenCV moves no int32, and every label a message can number is exact in float.
        return cv2.remap(pixels.astype(np.float32), *self._maps, cv2.INTER_NEAREST).astype(pixels.dtype)

    def rectify_box(self, box: np.ndarray) -> np.ndarray:
        """The box [4] in the undistorted image around the outline of a box in the raw one."""
        if self.model is None:
            return box
        left, top, right, bottom = box
        s = np.linspace(0, 1, BOX_EDGE_POINTS)
        x, y = left + s * (right - left), top + s * (bottom - top)
        outline = np.concatenate([
            np.stack([x, np.full_like(x, top)], 1), np.stack([x, np.full_like(x, bottom)], 1),
            np.stack([np.full_like(y, left), y], 1), np.stack([np.full_like(y, right), y], 1)])
        undo = cv2.fisheye.undistortPoints if self.model == "equidistant" else cv2.undistortPoints
        points = undo(outline[:, None], self.K, self.D, P=self.K)[:, 0]
        return np.concatenate([points.min(0), points.max(0)])

    @cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        make = (cv2.fisheye.initUndistortRectifyMap if self.model == "equidistant"
                else cv2.initUndistortRectifyMap)
        return make(self.K, self.D, np.eye(3), self.K, (self.width, self.height), cv2.CV_32FC1)


class CalibrationReader:
    """Reads CameraInfo messages; keeps the last calibration, and its maps, while it does not change.

    rectified: the images come undistorted (image_rect), so P holds their intrinsics and D is history.
    """

    def __init__(self, rectified: bool = False) -> None:
        self._rectified = rectified
        # One value, as two threads may read.
        self._last: tuple[bytes, Calibration] | None = None

    def read(self, message, height: int, width: int) -> Calibration:
        """The calibration of a height x width image.

        Raises FrameError when the message is of another size, its numbers are unusable, or its
        distortion model is unknown.
        """
        key = repr((message.height, message.width, message.distortion_model, list(message.d), list(message.k),
                    list(message.p), message.binning_x, message.binning_y, message.roi)).encode()
        last = self._last
        if last is None or key != last[0]:
            last = self._last = key, calibration(message, self._rectified)
        camera = last[1]
        if (camera.height, camera.width) != (height, width):
            raise FrameError(f"camera_info: expected the image's size {width} x {height}, "
                             f"got {camera.width} x {camera.height}")
        return camera


def calibration(message, rectified: bool = False) -> Calibration:
    """The calibration in a sensor_msgs/CameraInfo, for the part of the sensor and the binning that it tells of;
    raises FrameError (see CalibrationReader)."""
    matrix = np.array(message.p).reshape(3, 4)[:, :3] if rectified else np.array(message.k).reshape(3, 3)
    try:
        check_intrinsics(matrix, message.width, message.height)
    except GeometryError as error:
        raise FrameError(f"camera_info: {'P: ' if rectified else ''}{error}") from error
    D = np.array(message.d, dtype=np.float64)
    width, height, matrix = _window(message, matrix)
    if rectified or not D.any():
        return Calibration(width, height, matrix)
    return Calibration(width, height, matrix, *_distortion(message.distortion_model, D))


def _window(message, K: np.ndarray) -> tuple[int, int, np.ndarray]:
    """Width, height and intrinsics [3,3] of the image: the region of interest of the sensor, then binned.

    The middle of a binned pixel lies between those of the pixels that it sums up.
    """
    roi = message.roi
    left, top = roi.x_offset, roi.y_offset
    width, height = roi.width or message.width - left, roi.height or message.height - top
    if width < 1 or height < 1 or left + width > message.width or top + height > message.height:
        raise FrameError(f"camera_info: roi: expected to lie within {message.width} x {message.height}, got "
                         f"{roi.width} x {roi.height} at ({left}, {top})")
    bins = np.array([max(1, message.binning_x), max(1, message.binning_y)])
    K = K.astype(np.float64)
    K[:2, 2] = (K[:2, 2] - (left, top) + 0.5) / bins - 0.5
    K[:2, :2] /= bins[:, None]
    return width // int(bins[0]), height // int(bins[1]), K


def _distortion(model: str, D: np.ndarray) -> tuple[str, np.ndarray]:
    if model not in COEFFICIENTS:
        raise FrameError(f"camera_info: distortion_model: expected {', '.join(COEFFICIENTS)}, got '{model}'")
    if len(D) not in COEFFICIENTS[model] or not np.isfinite(D).all():
        raise FrameError(f"camera_info: D: expected {' or '.join(map(str, COEFFICIENTS[model]))} finite "
                         f"coefficients for {model}, got {D.tolist()}")
    return model, D
