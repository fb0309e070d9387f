"""Feeds a bag to the estimator node frame by frame, and records what it answers."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray

from flowpose_ros.errors import BagError
from flowpose_ros.nodes.bags import BagReader, BagWriter, Recorded, type_name
from flowpose_ros.nodes.diagnostics import FRAME_LOST
from flowpose_ros.nodes.discovery import RESEND_S, SETTLE_S
from flowpose_ros.nodes.messages.frames import stamp_ns
from flowpose_ros.nodes.parameters import declare_options, read_options
from flowpose_ros.nodes.spin import run_program
from flowpose_ros.runtime.frame_assembler import IMAGE_LEFT_OUT, AssemblerOptions, FrameAssembler, Stream
from flowpose_ros.runtime.replay_options import ReplayOptions

POSES, TF = "/flowpose/poses", "/tf"
RESULTS = {POSES: Detection3DArray, TF: TFMessage}
QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
TF_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
TF_PATIENCE_S = 2.0


@dataclass(frozen=True)
class _Input:
    """One input of the node: its stream, its message class and the node's topic."""

    stream: Stream
    message_type: type
    topic: str


def replay(node: Node, options: ReplayOptions, assembly: AssemblerOptions, stop: Callable[[], bool]) -> None:
    """Write a copy of the bag with the estimator's poses and transforms added.

    Frames go in one after the other, each when the last one is answered, so that none is lost; `assembly` is what the
    estimator puts them together by. Raises BagError when the bag or a topic is unusable.
    """
    reader = BagReader(Path(options.bag))
    try:
        inputs = _inputs(reader, options)
        session = _Session(node, inputs, assembly, options.answer_timeout_s, stop)
        old = names_of_answers(reader)
        session.connect()
        with BagWriter(Path(options.output), reader, RESULTS) as writer:
            for count, message in enumerate(reader.messages(), start=1):
                if not is_answer(message, old):
                    writer.copy(message)
                for topic, data in session.feed(message):
                    writer.add(topic, message.time_ns, data)
                node.get_logger().info(f"{count} of {reader.message_count} messages", throttle_duration_sec=0.5)
        for reason, count in session.left_out().items():
            node.get_logger().warning(f"{reason}: {count} left out: stamps of one frame are {assembly.slop_s} s apart at most "
                                      "(slop_s)")
        print(f"{session.answered} of {session.frames} frames answered, {session.poses} poses")
    finally:
        reader.close()


def names_of_answers(reader: BagReader) -> set[str]:
    """The objects' names in answers that a bag already has, from a run before."""
    return {detection.id for message in reader.messages([POSES])
            for detection in deserialize_message(message.data, Detection3DArray).detections}


def is_answer(message: Recorded, names: set[str]) -> bool:
    """Whether a message is an answer of a run before: poses, or the transforms of these objects alone."""
    if message.connection.topic == POSES:
        return True
    if message.connection.topic != TF or not names:
        return False
    try:
        children = [transform.child_frame_id for transform in deserialize_message(message.data, TFMessage).transforms]
    except Exception:  # what the type support raises is not documented; what cannot be read is not ours
        return False
    return all(child.endswith(tuple(names)) for child in children)


def _inputs(reader: BagReader, options: ReplayOptions) -> dict[str, _Input]:
    """The inputs by topic of the bag; raises BagError when one is missing or of another type."""
    wanted = {Stream.IMAGE: (options.image_topic, (Image, CompressedImage)),
              Stream.INFO: (options.camera_info_topic, (CameraInfo,)),
              Stream.DETECTIONS: (options.detections_topic, (Detection2DArray,))}
    for extra, topic in ((Stream.DEPTH, options.depth_topic), (Stream.MASKS, options.masks_topic)):
        if topic or f"/{extra.value}" in reader.topics:
            wanted[extra] = (topic or f"/{extra.value}", (Image,))
    return {topic: _input(reader, stream, topic, types) for stream, (topic, types) in wanted.items()}


def _input(reader: BagReader, stream: Stream, topic: str, types: tuple[type, ...]) -> _Input:
    recorded = reader.topics.get(topic, "no such topic")
    for message_type in types:
        if recorded == type_name(message_type):
            return _Input(stream, message_type,
                          "image/compressed" if message_type is CompressedImage else stream.value)
    raise BagError(f"{reader.path}: expected {' or '.join(t.__name__ for t in types)} on {topic} "
                   f"({stream.value}), got {recorded}; the bag has "
                   + ", ".join(f"{name} ({kind})" for name, kind in sorted(reader.topics.items())))


class _Session:
    """Publishes recorded messages and collects the node's answers, as bytes."""

    def __init__(self, node: Node, inputs: dict[str, _Input], assembly: AssemblerOptions, answer_timeout_s: float,
                 stop: Callable[[], bool]) -> None:
        self.frames = self.answered = self.poses = 0
        self._node, self._inputs, self._timeout, self._stop = node, inputs, answer_timeout_s, stop
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._publishers = {topic: self._node.create_publisher(i.message_type, i.topic, QOS)
                            for topic, i in inputs.items()}
        self._node.create_subscription(Detection3DArray, POSES, self._take_poses, QOS, raw=True)
        self._node.create_subscription(TFMessage, TF, self._take_tf, TF_QOS, raw=True)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, QOS)
        self._assembler = FrameAssembler(assembly, masks="auto")
        self._assembler.published = {i.stream for i in inputs.values()}
        self._refused = self._refused_told = 0
        self._answers: dict[int, bytes] = {}
        self._transforms: dict[int, list[bytes]] = {}

    def connect(self) -> None:
        """Wait until the estimator is active and listens to everything."""
        packing = "compressed" if any(i.message_type is CompressedImage for i in self._inputs.values()) else "raw"
        self._node.get_logger().info(f"waiting for {POSES}; images are {packing}")
        self._spin_until(self._connected, float("inf"))
        self._spin_until(lambda: False, SETTLE_S)

    def feed(self, message: Recorded) -> list[tuple[str, bytes]]:
        """Publish a message; where it completes a frame, the (topic, bytes) that answer it."""
        topic = message.connection.topic
        if topic not in self._inputs:
            return []
        given = self._inputs[topic]
        try:
            stamp = stamp_ns(deserialize_message(message.data, given.message_type))
        except Exception as error:  # what the type support raises is not documented
            raise BagError(f"{topic}: expected a {given.message_type.__name__}, got {len(message.data)} bytes "
                           f"that are none: {error}") from error
        self._publishers[topic].publish(message.data)
        bundle = self._assembler.add(given.stream, stamp, message)
        if bundle is None:
            return []
        parts = (bundle.info, bundle.depth, bundle.masks, bundle.image, bundle.detections)
        return self._answer(bundle.stamp_ns, [part for part in parts if part is not None])

    def _answer(self, stamp: int, parts: list[Recorded]) -> list[tuple[str, bytes]]:
        self._await_poses(stamp, parts)
        data = self._answers.pop(stamp, None)
        poses = len(deserialize_message(data, Detection3DArray).detections) if data else 0
        if poses:
            self._spin_until(lambda: stamp in self._transforms, TF_PATIENCE_S)
        self.frames, self.answered, self.poses = self.frames + 1, self.answered + bool(data), self.poses + poses
        transforms = [(TF, transform) for transform in self._transforms.pop(stamp, [])]
        return transforms + ([(POSES, data)] if data else [])

    def _await_poses(self, stamp: int, parts: list[Recorded]) -> None:
        deadline = time.monotonic() + self._timeout
        while not self._spin_until(lambda: stamp in self._answers or self._refused_told > self._refused,
                                   min(RESEND_S, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                return
            for part in parts:
                self._publishers[part.connection.topic].publish(part.data)
        self._refused = self._refused_told

    def left_out(self) -> Counter[str]:
        """Images that became no frame, by reason."""
        drops = self._assembler.drops + self._assembler.missing()
        return Counter({reason: count for reason, count in drops.items() if reason in IMAGE_LEFT_OUT})

    def _connected(self) -> bool:
        return (all(publisher.get_subscription_count() for publisher in self._publishers.values())
                and self._node.count_publishers(POSES) > 0)

    def _spin_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Serve callbacks until the condition holds; whether it does within the timeout."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self._stop():
                raise BagError("the replay was interrupted")
            if time.monotonic() >= deadline:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def _take_poses(self, data: bytes) -> None:
        self._answers[stamp_ns(deserialize_message(data, Detection3DArray))] = data

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        values = {pair.key: pair.value for status in message.status for pair in status.values}
        self._refused_told = sum(int(values.get(f"dropped_{reason}", 0)) for reason in FRAME_LOST)

    def _take_tf(self, data: bytes) -> None:
        transforms = deserialize_message(data, TFMessage).transforms
        if transforms:
            self._transforms.setdefault(stamp_ns(transforms[0]), []).append(data)


def main(args: list[str] | None = None) -> int:
    """Run the node; `flowpose replay` starts it beside an estimator of its own."""
    def body(stop: Callable[[], bool]) -> None:
        node = Node("flowpose_replay")
        declare_options(node, ReplayOptions, AssemblerOptions)
        replay(node, read_options(node, ReplayOptions), read_options(node, AssemblerOptions), stop)
        node.destroy_node()

    return run_program(body, args)


if __name__ == "__main__":
    sys.exit(main())
