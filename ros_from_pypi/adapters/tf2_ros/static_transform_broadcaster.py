"""Publish fixed transforms on /tf_static, for late listeners too."""

from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage


class StaticTransformBroadcaster:
    """Sends all fixed transforms given so far, newest per child (reliable, transient local, depth 1)."""

    def __init__(self, node, qos=None):
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.pub_tf = node.create_publisher(TFMessage, "/tf_static", qos or latched)
        self._by_child = {}

    def sendTransform(self, transform):
        """Add one TransformStamped or a list of them, and publish the whole set."""
        transforms = transform if hasattr(transform, "__iter__") else [transform]
        self._by_child.update({t.child_frame_id: t for t in transforms})
        self.pub_tf.publish(TFMessage(transforms=list(self._by_child.values())))
