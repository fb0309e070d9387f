"""The subscriptions of one camera, up to complete bundles of messages."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Callable

from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from flowpose_ros.nodes.messages.frames import stamp_ns
from flowpose_ros.runtime.frame_assembler import EXTRAS, IMAGE_LEFT_OUT, AssemblerOptions, Bundle, FrameAssembler, Stream
from flowpose_ros.runtime.watchdog import InputStatus

POLICIES = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
"""What parameters can override of each subscription: durability for a camera_info that is published once, and kept."""
SENSOR_DEPTH = 5
DETECTIONS_DEPTH = 10


class CameraInputs:
    """Subscribes to the topics of one camera and hands each newest complete bundle to `on_bundle`.

    With `on_detections`, images go to `on_bundle` without waiting for detections, and to `on_detections` again,
    later, with them. Subscriptions are best effort, so that they match publishers of either kind. Nothing here
    looks into a message beyond its stamp; all of it runs in the executor's thread.
    """

    def __init__(self, node: Node, assembler: AssemblerOptions, depth: str, masks: str, image_transport: str,
                 on_bundle: Callable[[Bundle], None],
                 on_detections: Callable[[Bundle], None] | None = None, info: CameraInfo | None = None,
                 epoch: int = 0) -> None:
        """info: a camera_info that came before, for some publish it once; epoch: jumps back of the stamps before."""
        whole = FrameAssembler(assembler, depth, masks=masks)
        self._lanes = [(whole, on_bundle)]
        if on_detections is not None:
            self._lanes = [(FrameAssembler(assembler, depth, detections=False), on_bundle), (whole, on_detections)]
        self._assembler = self._lanes[0][0]
        for lane, _ in self._lanes:
            lane.info, lane.epoch = info, epoch
        self._node = node
        self._heard: dict[Stream, float] = {}
        raw = image_transport == "raw"
        self._subscriptions = {
            Stream.IMAGE: self._subscribe(Stream.IMAGE, Image if raw else CompressedImage,
                                          "image" if raw else "image/compressed"),
            Stream.INFO: self._subscribe(Stream.INFO, CameraInfo, "camera_info"),
            Stream.DETECTIONS: self._subscribe(Stream.DETECTIONS, Detection2DArray, "detections", DETECTIONS_DEPTH),
        }
        self._modes = {Stream.DEPTH: depth, Stream.MASKS: masks}
        for extra, mode in self._modes.items():
            if mode != "off":
                self._subscriptions[extra] = self._subscribe(extra, Image, extra.value)
        self._started = time.monotonic()

    def status(self) -> tuple[InputStatus, ...]:
        """What has been heard on each topic, and who publishes there."""
        now = time.monotonic()
        return tuple(
            InputStatus(topic=subscription.topic_name,
                        needed=self._modes.get(stream, "on") == "on",
                        received=self._lanes[-1][0].received[stream],
                        silent_s=now - self._heard.get(stream, self._started),
                        publishers=self._publishers(subscription.topic_name))
            for stream, subscription in self._subscriptions.items())

    @property
    def images(self) -> int:
        """How many images have come."""
        return self._assembler.received[Stream.IMAGE]

    @property
    def info(self) -> CameraInfo | None:
        """The latest camera_info."""
        return self._assembler.info

    @property
    def epoch(self) -> int:
        """How often the images' stamps have jumped back."""
        return self._assembler.epoch

    def change(self, assembler: AssemblerOptions) -> None:
        """Put frames together by other options from now on."""
        for lane, _ in self._lanes:
            lane.options = assembler

    def drops(self) -> Counter[str]:
        """What did not become part of a frame, by reason. Images count where they need no detections, all else where
        detections are awaited."""
        others = {reason: count for reason, count in self._lanes[-1][0].drops.items() if reason not in IMAGE_LEFT_OUT}
        return Counter({**self._assembler.drops, **others})

    def close(self) -> Counter[str]:
        """End the subscriptions; `drops`, with the images that still waited as "stopped"."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        return self.drops() + Counter(stopped=self._assembler.queued(Stream.IMAGE))

    def _subscribe(self, stream: Stream, message_type: type, topic: str, depth: int = SENSOR_DEPTH):
        # A profile of its own: overrides are written into it.
        return self._node.create_subscription(
            message_type, topic, lambda message: self._take(stream, message),
            QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=QoSOverridingOptions(POLICIES))

    def _take(self, stream: Stream, message) -> None:
        self._heard[stream] = time.monotonic()
        if stream is Stream.IMAGE:
            published = {extra for extra in EXTRAS if extra in self._subscriptions
                         and self._node.count_publishers(self._subscriptions[extra].topic_name)}
            for assembler, _ in self._lanes:
                assembler.published = published
        for assembler, on_bundle in self._lanes:
            bundle = assembler.add(stream, stamp_ns(message), message)
            if bundle is not None:
                on_bundle(replace(bundle, epoch=self._assembler.epoch))

    def _publishers(self, topic: str) -> tuple[str, ...]:
        return tuple(
            f"{info.node_name} ({info.topic_type}, {info.qos_profile.reliability.name.lower()})"
            for info in self._node.get_publishers_info_by_topic(topic))
