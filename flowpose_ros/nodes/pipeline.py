"""The way of one bundle of messages to named, publishable poses; runs in the worker's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cv_bridge import CvBridge
from std_msgs.msg import Header

from flowpose_ros.errors import FrameError
from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.estimation.estimator_options import EstimatorOptions
from flowpose_ros.nodes.messages.camera import Calibration, CalibrationReader
from flowpose_ros.nodes.messages.detections import detections_in
from flowpose_ros.nodes.messages.images import color_image, compressed_color_image, depth_image, label_image
from flowpose_ros.nodes.messages.poses import publishable
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.records import Detection, Dropped, Frame, FrameResult, PoseEstimate
from flowpose_ros.runtime.drop_log import DropLog
from flowpose_ros.runtime.frame_assembler import Bundle
from flowpose_ros.runtime.node_options import NodeOptions
from flowpose_ros.tracking.association import InstanceNames
from flowpose_ros.tracking.tracker import Tracker, TrackerOptions


@dataclass(frozen=True)
class Processed:
    """One frame's answer: the image's own header, the frame, and estimates that may be published; memory_short: an
    object got no pose because the device's memory did not suffice."""

    header: Header
    frame: Frame
    estimates: tuple[PoseEstimate, ...]
    timings: dict[str, float]
    memory_short: bool = False


class FramePipeline:
    """Converts, estimates or follows, and names; what is left out is counted in `drops`, by reason."""

    def __init__(self, catalogue: Catalogue, estimator: Estimator, options: NodeOptions,
                 drops: DropLog, depth: str = "auto", tracking: TrackerOptions = TrackerOptions()) -> None:
        self.catalogue, self.estimator, self.options, self.drops = catalogue, estimator, options, drops
        self.tracker = Tracker(estimator, tracking)
        self._names = InstanceNames({label: catalogue[label].symmetries for label in catalogue.labels},
                                    {label: catalogue[label].mesh.center for label in catalogue.labels})
        self._depth = depth
        self._bridge = CvBridge()
        self._calibrations = CalibrationReader(options.rectified)
        self._epoch = 0

    def change(self, options: NodeOptions, estimation: EstimatorOptions, tracking: TrackerOptions) -> None:
        """Use other options from the next frame on."""
        self.options, self.estimator.options, self.tracker.options = options, estimation, tracking

    def forget(self) -> None:
        """Number the instances anew, and forget what is followed."""
        self._names.reset()
        self.tracker.reset()

    def track_counts(self) -> tuple[int, int]:
        """How many objects are followed, and how many of them the last image confirmed."""
        tracks = self.tracker.tracks
        return len(tracks), sum(track.confirmed for track in tracks)

    def process(self, bundle: Bundle) -> Processed:
        """The answer for one bundle, by estimating its detections or by following the tracks; raises FrameError
        when its image or calibration is unusable."""
        if bundle.epoch != self._epoch:
            self._epoch = bundle.epoch
            self.forget()
        start = time.perf_counter()
        frame, camera = self._frame(bundle, self.drops)
        if not frame.frame_id:
            self.drops.add("no_frame_id", "image: header.frame_id: expected the camera's frame, got an empty name; its "
                                          "poses are not on TF")
        converted = time.perf_counter()
        if self.options.mode == "track":
            result = self.tracker.follow(frame)
            estimates, stage = self._publishable(result), {"follow": time.perf_counter() - converted}
        else:
            detections = self._detections(bundle, camera)
            result = self.estimator.estimate(frame, detections) if detections else FrameResult(())
            estimates, stage = self._names.name(self._publishable(result), bundle.stamp_ns), result.timings
        timings = {"convert": converted - start, **stage, "total": time.perf_counter() - start}
        return Processed(bundle.image.header, frame, estimates, timings,
                         memory_short(result.dropped))

    def absorb(self, bundle: Bundle) -> bool:
        """Begin tracks for what is detected and not followed yet; whether the device's memory did not suffice for one.
        May run beside `process`, where what is wrong with the image itself is told. Raises as that does."""
        if bundle.epoch < self._epoch:  # the stamps have jumped back since
            return False
        frame, camera = self._frame(bundle, DropLog())
        try:
            detections = self._detections(bundle, camera)
        except FrameError as error:
            self.drops.add("masks_unusable", f"{error}; the detections were left out")
            return False
        found = self.tracker.absorb(frame, detections)
        for dropped in found:
            self.drops.add(dropped.reason, dropped.detail)
        return memory_short(found)

    def _detections(self, bundle: Bundle, camera: Calibration) -> tuple[Detection, ...]:
        return detections_in(bundle.detections, self.catalogue, camera, self.options.max_detections, self.drops,
                             self._read_labels(bundle, camera))

    def _frame(self, bundle: Bundle, drops: DropLog) -> tuple[Frame, Calibration]:
        """The frame of a bundle and its calibration; what it goes on without is counted in `drops`."""
        image = (color_image(bundle.image, self._bridge) if hasattr(bundle.image, "encoding")
                 else compressed_color_image(bundle.image))
        camera = self._calibrations.read(bundle.info, *image.shape[:2])
        frame = Frame(camera.rectify(image), camera.K, self._read_depth(bundle, camera, drops),
                      bundle.stamp_ns, bundle.image.header.frame_id)
        return frame, camera

    def _read_depth(self, bundle: Bundle, camera: Calibration, drops: DropLog) -> np.ndarray | None:
        """Depth in metres, or None where the frame must do without; then the reason is counted."""
        depth = self._read_extra(bundle.depth, depth_image, camera, "depth", self._depth, drops)
        if depth is not None and not depth.any():
            drops.add("depth_all_invalid", "the frame went on without depth")
            return None
        return depth

    def _read_labels(self, bundle: Bundle, camera: Calibration) -> np.ndarray | None:
        """The label image of the detections' masks, or None where they must do without; then the reason is counted."""
        return self._read_extra(bundle.masks, label_image, camera, "masks", self.options.masks, self.drops)

    def _read_extra(self, message: Any, read: Callable[[Any, CvBridge], np.ndarray], camera: Calibration, what: str,
                    mode: str, drops: DropLog) -> np.ndarray | None:
        """The rectified pixels [H,W] of a message, or None where there is none or it is unusable; raises FrameError when
        it is unusable and the mode is "on"."""
        if message is None:
            return None
        try:
            pixels = read(message, self._bridge)
            if pixels.shape != (camera.height, camera.width):
                raise FrameError(f"{what}: expected the image's size {camera.width} x {camera.height}, "
                                 f"got {pixels.shape[1]} x {pixels.shape[0]}")
        except FrameError as error:
            if mode == "on":
                raise
            drops.add(f"{what}_unusable", f"{error}; the frame went on without {what}")
            return None
        return camera.rectify_nearest(pixels)

    def _publishable(self, result: FrameResult) -> tuple[PoseEstimate, ...]:
        for dropped in result.dropped:
            self.drops.add(dropped.reason, dropped.detail)
        good = tuple(estimate for estimate in result.estimates
                     if publishable(estimate, self.catalogue[estimate.label].mesh))
        if len(good) < len(result.estimates):
            self.drops.add("not_publishable", "a pose was not finite, no rotation, or behind the camera",
                           len(result.estimates) - len(good))
        return good


def memory_short(dropped: Sequence[Dropped]) -> bool:
    """Whether something got no pose because the device's memory did not suffice."""
    return any(each.reason == "out_of_memory" for each in dropped)
