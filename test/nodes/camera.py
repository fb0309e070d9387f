"""A camera and a detector in the test's own hands."""

import time

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.nodes.messages.frames import (
    camera_info_message,
    depth_message,
    detections_message,
    header_at,
    image_message,
    masks_message,
)

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
        self.image = client.create_publisher(Image, f"{namespace}/image", RELIABLE)
        self.info = client.create_publisher(CameraInfo, f"{namespace}/camera_info", RELIABLE)
        self.depth = client.create_publisher(Image, f"{namespace}/depth", RELIABLE)
        self.detections = client.create_publisher(Detection2DArray, f"{namespace}/detections", RELIABLE)
        self.masks, self._masks_size = None, None
        client.create_subscription(Detection3DArray, f"{namespace}/flowpose/poses", self._take, RELIABLE)

    def keep(self, listener):
        """Hand each answer to `listener` too."""
        self._listener = listener

    def publish_masks(self, size):
        """From now on send a label image of the detections' masks, of that size (height, width)."""
        self.masks = self.masks or self._client.create_publisher(Image, f"{self._namespace}/masks", RELIABLE)
        self._masks_size = size

    def connected(self):
        """Whether the node listens to everything and its answers will be heard."""
        topics = [self.image, self.info, self.depth, self.detections] + ([self.masks] if self.masks else [])
        return (all(topic.get_subscription_count() for topic in topics)
                and self._client.count_publishers(f"{self._namespace}/flowpose/poses") > 0)

    def show(self, index, stamp_ns, depth=True, change_image=None, detections=True):
        """Publish one frame; change_image may spoil the image message."""
        sample = self.samples[index]
        header = header_at(stamp_ns, FRAME_ID)
        image = image_message(header, sample.frame.image)
        if change_image is not None:
            change_image(image)
        self.info.publish(camera_info_message(header, sample.frame))
        if depth:
            self.depth.publish(depth_message(header, sample.frame.depth))
        if self.masks:
            self.masks.publish(masks_message(header, sample.detections, self._masks_size))
        self.image.publish(image)
        if detections:
            self.detections.publish(detections_message(header, sample.detections))

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
        stamp = message.header.stamp
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        self.answers[stamp_ns], self.arrived[stamp_ns] = message, time.monotonic()
        self._listener(message)
