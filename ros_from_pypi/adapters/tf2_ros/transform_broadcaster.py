"""Publish moving transforms on /tf."""

from rclpy.qos import QoSProfile
from tf2_msgs.msg import TFMessage


class TransformBroadcaster:
    """Sends TransformStamped messages to every listener (reliable, depth 100)."""

    def __init__(self, node, qos=None):
        self.pub_tf = node.create_publisher(TFMessage, "/tf", qos or QoSProfile(depth=100))

    def sendTransform(self, transform):
        """Publish one TransformStamped, or a list of them in one message."""
        transforms = transform if hasattr(transform, "__iter__") else [transform]
        self.pub_tf.publish(TFMessage(transforms=list(transforms)))
