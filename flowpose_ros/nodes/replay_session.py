"""Feeds a bag to the estimator node, a process of its own, frame by frame over DDS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray

from flowpose_ros.errors import BagError, FlowposeError
from flowpose_ros.nodes.bags import BagReader, BagWriter, Recorded
from flowpose_ros.nodes.discovery import RESEND_S, SETTLE_S
from flowpose_ros.runtime.environment import local_ros_environment
from flowpose_ros.runtime.frame_assembler import FrameAssembler, Stream
from flowpose_ros.runtime.node_process import NodeProcess

POSES, TF = "/flowpose/poses", "/tf"
RESULTS = {POSES: Detection3DArray, TF: TFMessage}
QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
TF_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
START_TIMEOUT_S = 300.0
TF_PATIENCE_S = 2.0


@dataclass(frozen=True)
class ReplayTopics:
    """Where the inputs lie in the bag; depth may be absent unless it is required."""

    image: str = "/image"
    camera_info: str = "/camera_info"
    depth: str = "/depth"
    detections: str = "/detections"
    require_depth: bool = False


@dataclass(frozen=True)
class ReplaySummary:
    """Frames that were complete in the bag, those answered, and the poses in the answers."""

    frames: int
    answered: int
    poses: int


@dataclass(frozen=True)
class _Input:
    """One input of the node: its stream, its message class and the node's topic."""

    stream: Stream
    message_type: type
    topic: str


def replay(bag: Path, output: Path, topics: ReplayTopics, parameters: Mapping[str, object],
           answer_timeout_s: float, progress: Callable[[float], None]) -> ReplaySummary:
    """Write a copy of the bag with the node's poses and transforms added.

    Frames go in one after the other, each when the last one is answered, so that none is lost.
    parameters are the node's, by name; progress is told the share of messages read. What the node
    prints goes to a file beside the output.
    Raises BagError when the bag or a topic is unusable, FlowposeError when the node ends.
    """
    reader = BagReader(bag)
    try:
        inputs = _inputs(reader, topics)
        transport = "compressed" if any(i.message_type is CompressedImage for i in inputs.values()) else "raw"
        log = output.with_name(f"{output.name}_log.txt")
        with BagWriter(output, reader, RESULTS) as writer, _ros_context():
            with NodeProcess("estimator_node", log, {**parameters, "image_transport": transport}) as process:
                session = _Session(inputs, process, answer_timeout_s)
                session.connect()
                for count, message in enumerate(reader.messages()):
                    writer.copy(message)
                    for topic, data in session.feed(message):
                        writer.add(topic, message.time_ns, data)
                    progress((count + 1) / max(1, reader.message_count))
                return session.summary
    finally:
        reader.close()


def _inputs(reader: BagReader, topics: ReplayTopics) -> dict[str, _Input]:
    """The inputs by topic of the bag; raises BagError when one is missing or of another type."""
    known = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage,
             "sensor_msgs/msg/CameraInfo": CameraInfo, "vision_msgs/msg/Detection2DArray": Detection2DArray}
    wanted = {Stream.IMAGE: (topics.image, (Image, CompressedImage)), Stream.INFO: (topics.camera_info, (CameraInfo,)),
              Stream.DETECTIONS: (topics.detections, (Detection2DArray,))}
    if topics.require_depth or topics.depth in reader.topics:
        wanted[Stream.DEPTH] = (topics.depth, (Image,))
    inputs = {}
    for stream, (topic, types) in wanted.items():
        message_type = known.get(reader.topics.get(topic, ""))
        if message_type not in types:
            raise BagError(f"{reader.path}: expected {' or '.join(t.__name__ for t in types)} on {topic} "
                           f"({stream.value}), got {reader.topics.get(topic, 'no such topic')}; the bag has "
                           + ", ".join(f"{name} ({kind})" for name, kind in sorted(reader.topics.items())))
        node_topic = "image/compressed" if message_type is CompressedImage else stream.value
        inputs[topic] = _Input(stream, message_type, node_topic)
    return inputs


class _Session:
    """Publishes recorded messages and collects the node's answers, as bytes."""

    def __init__(self, inputs: dict[str, _Input], process: NodeProcess, answer_timeout_s: float) -> None:
        self._inputs, self._process, self._timeout = inputs, process, answer_timeout_s
        self._node = Node("flowpose_replay")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._publishers = {topic: self._node.create_publisher(i.message_type, i.topic, QOS)
                            for topic, i in inputs.items()}
        self._node.create_subscription(Detection3DArray, POSES, self._take_poses, QOS, raw=True)
        self._node.create_subscription(TFMessage, TF, self._take_tf, TF_QOS, raw=True)
        self._assembler = FrameAssembler()
        self._assembler.depth_published = any(i.stream is Stream.DEPTH for i in inputs.values())
        self._poses: dict[int, bytes] = {}
        self._transforms: dict[int, list[bytes]] = {}
        self.summary = ReplaySummary(0, 0, 0)

    def connect(self) -> None:
        """Wait until the node is active and listens to everything."""
        def connected() -> bool:
            return all(p.get_subscription_count() for p in self._publishers.values()) and \
                self._node.count_publishers(POSES) > 0

        if not self._spin_until(connected, START_TIMEOUT_S):
            raise FlowposeError(f"the estimator was not ready within {START_TIMEOUT_S:.0f} s")
        self._spin_until(lambda: False, SETTLE_S)

    def feed(self, message: Recorded) -> list[tuple[str, bytes]]:
        """Publish a message; where it completes a frame, the (topic, bytes) that answer it."""
        topic = message.connection.topic
        if topic not in self._inputs:
            return []
        given = self._inputs[topic]
        try:
            stamp = _stamp_ns(deserialize_message(message.data, given.message_type))
        except Exception as error:  # what the type support raises is not documented
            raise BagError(f"{topic}: expected a {given.message_type.__name__}, got {len(message.data)} bytes "
                           f"that are none: {error}") from error
        self._publishers[topic].publish(message.data)
        bundle = self._assembler.add(given.stream, stamp, message)
        if bundle is None:
            return []
        parts = [part for part in (bundle.info, bundle.depth, bundle.image, bundle.detections) if part is not None]
        return self._answer(bundle.stamp_ns, parts)

    def _answer(self, stamp: int, parts: list[Recorded]) -> list[tuple[str, bytes]]:
        self._await_poses(stamp, parts)
        data = self._poses.pop(stamp, None)
        poses = len(deserialize_message(data, Detection3DArray).detections) if data else 0
        if poses:
            self._spin_until(lambda: stamp in self._transforms, TF_PATIENCE_S)
        s = self.summary
        self.summary = ReplaySummary(s.frames + 1, s.answered + (data is not None), s.poses + poses)
        transforms = [(TF, transform) for transform in self._transforms.pop(stamp, [])]
        return transforms + ([(POSES, data)] if data else [])

    def _await_poses(self, stamp: int, parts: list[Recorded]) -> None:
        deadline = time.monotonic() + self._timeout
        while not self._spin_until(lambda: stamp in self._poses, min(RESEND_S, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                return
            for part in parts:
                self._publishers[part.connection.topic].publish(part.data)

    def _spin_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Serve callbacks until the condition holds; raises FlowposeError when the node has ended."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self._process.ended():
                raise FlowposeError(f"the estimator ended before the bag did (log: {self._process.log})")
            if time.monotonic() >= deadline:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def _take_poses(self, data: bytes) -> None:
        self._poses[_stamp_ns(deserialize_message(data, Detection3DArray))] = data

    def _take_tf(self, data: bytes) -> None:
        transforms = deserialize_message(data, TFMessage).transforms
        if transforms:
            self._transforms.setdefault(_stamp_ns(transforms[0]), []).append(data)


def _stamp_ns(message) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


@contextmanager
def _ros_context():
    """ROS in this process, on a domain of its own: a replay must never move a robot's TF."""
    os.environ.update({**local_ros_environment(), "ROS_DOMAIN_ID": str(1 + os.getpid() % 100)})
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield
    finally:
        rclpy.try_shutdown()
