"""A camera and a detector in the test's own hands."""

import time

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.nodes.messages.frames import frame_messages, header_at, stamp_ns

RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
FRAME_ID = "camera_optical"


class Camera:
    """Publishes frames of a scene one by one, and keeps the answers by stamp in nanoseconds, with the
    seconds of their arrival."""

    def __init__(self, client, root, namespace=""):
        self.samples = list(BopDataset(root).samples())
        self.answers, self.arrived, self._listener = {}, {}, lambda message: None
        self._client = client
        self._namespace = namespace
        self._masks_size = None
        self.topics = {topic: client.create_publisher(kind, f"{namespace}/{topic}", RELIABLE) for topic, kind in (
            ("image", Image), ("camera_info", CameraInfo), ("depth", Image), ("detections", Detection2DArray))}
        client.create_subscription(Detection3DArray, f"{namespace}/flowpose/poses", self._take, RELIABLE)

    def keep(self, listener):
        """Hand each answer to `listener` too."""
        self._listener = listener

    def publish_masks(self, size):
        """From now on send a label image of the detections' masks, of that size (height, width)."""
        if "masks" not in self.topics:
            self.topics["masks"] = self._client.create_publisher(Image, f"{self._namespace}/masks", RELIABLE)
        self._masks_size = size

    def connected(self):
        """Whether the node listens to everything and its answers will be heard."""
        return (all(topic.get_subscription_count() for topic in self.topics.values())
                and self._client.count_publishers(f"{self._namespace}/flowpose/poses") > 0)

    def show(self, index, stamp_ns, depth=True, change_image=None, detections=True):
        """Publish one frame; change_image may spoil the image message."""
        sample = self.samples[index]
        messages = self.messages(sample.frame, sample.detections, stamp_ns)
        if change_image is not None:
            change_image(messages["image"])
        self.publish({topic: message for topic, message in messages.items()
                      if (topic != "depth" or depth) and (topic != "detections" or detections)})

    def messages(self, frame, detections, stamp_ns):
        """The messages of a frame by topic, masks included where they are published."""
        return frame_messages(header_at(stamp_ns, FRAME_ID), frame, detections, self._masks_size)

    def publish(self, messages):
        """Send messages by topic."""
        for topic, message in messages.items():
            self.topics[topic].publish(message)

    def ask(self, index, stamp_ns, wait_until, node, done=None, **how):
        """Publish a frame until it is answered, or `done` says so: what a best-effort listener hears
        before discovery has gone both ways is lost, and a frame that it has heard twice is stale."""
        shown = -1.0

        def answered():
            nonlocal shown
            if time.monotonic() - shown > 1:
                self.show(index, stamp_ns, **how)
                shown = time.monotonic()
            return done() if done else stamp_ns in self.answers

        wait_until(self.connected, "connection", node)
        wait_until(answered, f"answer to image {index}", node)
        return self.answers.get(stamp_ns)

    def _take(self, message):
        stamp = stamp_ns(message)
        self.answers[stamp], self.arrived[stamp] = message, time.monotonic()
        self._listener(message)
