"""Plays a scene in BOP layout as a camera and a detector would publish it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import ImageId, detections_of
from flowpose_ros.evaluation.detections import ImageDetections, read_detections
from flowpose_ros.nodes.bop_stream import BopStream, StreamOptions
from flowpose_ros.nodes.discovery import RESEND_S, SETTLE_S
from flowpose_ros.nodes.messages.frames import frame_messages, header_at, stamp_ns
from flowpose_ros.nodes.parameters import declare_options, read_options
from flowpose_ros.nodes.spin import run
from flowpose_ros.options import Options, option
from flowpose_ros.records import Detection, Frame

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
TICK_S = 0.005
RECENT = 4
"""Images whose detections, and masks, are kept: one is sent again until it is answered."""


@dataclass(frozen=True)
class PlayerOptions(Options):
    """How the scene is played."""

    detections: str = option("gt", "'gt' for the ground truth's boxes, or a detections file in BOP's format",
                             runtime=False)
    depth: bool = option(True, "publish depth images where the scene has them", runtime=False)
    masks: bool = option(False, "publish label images of the detections' masks: the file's, or with 'gt' those of "
                         "mask_visib/", runtime=False)
    frame_id: str = option("camera_color_optical_frame", "optical frame of the images", runtime=False)
    loop: bool = option(False, "begin again after the last image; stamps count on", runtime=False)
    lockstep: bool = option(False, "wait for the answer to an image before the next one", runtime=False)
    answer_timeout_s: float = option(60.0, "with lockstep: give an image up after so long, seconds",
                                     low=0.1, high=3600.0, runtime=False)
    introduce: bool = option(False, "show the first image, before its time, until all its detections have poses or "
                             "answer_timeout_s is over: for a node that tracks", runtime=False)
    subscribers: int = option(1, "wait until so many listen to every topic", low=0, high=100, runtime=False)


class BopPlayerNode(Node):
    """Publishes image, camera_info, depth, detections and masks of each image at one stamp, and /clock.

    It begins once every topic has its subscribers. With lockstep the next image waits for the
    message on `poses` with the last one's stamp, so that a slow machine answers every image.
    """

    def __init__(self) -> None:
        super().__init__("bop_player")
        declare_options(self, StreamOptions, PlayerOptions)
        self._options = read_options(self, PlayerOptions)
        stream_options = read_options(self, StreamOptions)
        self._stream, self._rate = BopStream(stream_options), stream_options.rate
        self._detections_of = self._detector()
        self._clock_publisher = self.create_publisher(ClockMessage, "/clock", 10)
        # Reliable, so that nothing is lost on the way to a reliable listener; best-effort ones match too.
        types = {"image": Image, "camera_info": CameraInfo, "detections": Detection2DArray}
        types |= {"depth": Image} if self._has_depth() else {}
        types |= {"masks": Image} if self._options.masks else {}
        self._topics = {topic: self.create_publisher(kind, topic, RELIABLE) for topic, kind in types.items()}
        self._poses = self.create_subscription(Detection3DArray, "poses", self._take_answer, RELIABLE)
        self._index = 0
        self._introductions, self._introduced = 0, not self._options.introduce
        self._poses_found = 0
        self._answered_ns = 0
        self._first_sent: float | None = None
        self._last_sent = 0.0
        self._ready_at = float("inf")
        self.finished = False

    def begin(self, stopping: Callable[[], bool]) -> None:
        """Start the clock that decides when the next image is due."""
        self.get_logger().info(f"{len(self._stream)} images, waiting for {self._options.subscribers} subscriber(s)")
        self.create_timer(TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> bool:
        """Nothing runs beside the executor."""
        return True

    def _tick(self) -> None:
        if self._ready_at == float("inf") and self._everybody_listens():
            self._ready_at = time.monotonic() + SETTLE_S
        if time.monotonic() < self._ready_at or not self._due():
            return
        if not self._introduced:
            self._introduce()
            return
        if self._index == len(self._stream) and not self._options.loop:
            self.get_logger().info(f"played {self._index} images")
            self.finished = True
            return
        self._play(self._index)
        self._first_sent = self._last_sent
        self._index += 1

    def _introduce(self) -> None:
        """Show the first image once more, unless all that is in it has been found."""
        first = self._stream.images[0]
        wanted, waited = len(self._detections_of(first)), self._introductions / self._rate
        if self._poses_found >= wanted or waited >= self._options.answer_timeout_s:
            self.get_logger().info(f"{self._poses_found} of {wanted} objects found in {waited:.1f} s")
            self._introduced = True
        elif time.monotonic() - self._last_sent >= 1 / self._rate:
            self._show(first, self._stream.stamp_before(self._introductions))
            self._introductions += 1

    def _everybody_listens(self) -> bool:
        listening = all(topic.get_subscription_count() >= self._options.subscribers for topic in self._topics.values())
        answering = not self._options.lockstep or self.count_publishers(self._poses.topic_name) > 0
        return listening and answering

    def _due(self) -> bool:
        """Whether the last image has had its time and, with lockstep, its answer."""
        if self._first_sent is None:
            return True
        waited = time.monotonic() - self._first_sent
        if not self._options.lockstep or self._answered_ns >= self._stream.stamp_ns(self._index - 1):
            return waited >= 1 / self._rate
        if waited >= self._options.answer_timeout_s:
            self.get_logger().warning(f"no answer to image {self._index} of {len(self._stream)} "
                                      f"within {waited:.1f} s; going on")
            return True
        if time.monotonic() - self._last_sent >= RESEND_S:
            self._play(self._index - 1)
        return False

    def _play(self, index: int) -> None:
        self._show(self._stream.images[index % len(self._stream)], self._stream.stamp_ns(index))

    def _show(self, image_id: ImageId, stamp: int) -> None:
        frame = self._frame(image_id)
        header = header_at(stamp, self._options.frame_id)
        self._clock_publisher.publish(ClockMessage(clock=header.stamp))
        masks_size = frame.image.shape[:2] if self._options.masks else None
        for topic, message in frame_messages(header, frame, self._detections_of(image_id), masks_size).items():
            self._topics[topic].publish(message)
        self._last_sent = time.monotonic()

    def _frame(self, image_id: ImageId) -> Frame:
        return self._stream.dataset.frame(image_id, with_depth="depth" in self._topics)

    def _has_depth(self) -> bool:
        first = self._stream.dataset.frame(self._stream.images[0])
        return self._options.depth and first.depth is not None

    def _detector(self) -> Callable[[ImageId], tuple[Detection, ...]]:
        dataset = self._stream.dataset
        if self._options.detections == "gt":
            return lru_cache(maxsize=RECENT)(self._true_detections)
        found = read_detections(self._options.detections, dataset.label_of)
        return lambda image_id: found.get(image_id, ImageDetections()).detections

    def _true_detections(self, image_id: ImageId) -> tuple[Detection, ...]:
        dataset = self._stream.dataset
        masks = dataset.masks(image_id) if self._options.masks else None
        if self._options.masks and masks is None:
            raise DatasetError(f"{dataset.root}: image {image_id}: expected a mask of each instance in mask_visib/, "
                               "as masks are to be published")
        return detections_of(dataset.ground_truth(image_id), masks)

    def _take_answer(self, message: Detection3DArray) -> None:
        self._poses_found = len(message.detections)
        self._answered_ns = max(self._answered_ns, stamp_ns(message))


def main(args: list[str] | None = None) -> int:
    """Run the player; see docs/node.md for its parameters."""
    return run(BopPlayerNode, args)


if __name__ == "__main__":
    sys.exit(main())
