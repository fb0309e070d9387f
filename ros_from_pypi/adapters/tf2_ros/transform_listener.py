"""Fill a Buffer from /tf and /tf_static."""

import threading

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from tf2_ros.exceptions import InvalidArgumentException


class TransformListener:
    """Subscribes for the buffer's sake; with `spin_thread` it also spins the node in a thread of its own."""

    def __init__(self, buffer, node, *, spin_thread=False, qos=None, static_qos=None):
        self.buffer, self.node = buffer, node
        self.group = ReentrantCallbackGroup()
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf_sub = node.create_subscription(
            TFMessage, "/tf", self.callback, qos or QoSProfile(depth=100), callback_group=self.group
        )
        self.tf_static_sub = node.create_subscription(
            TFMessage, "/tf_static", self.static_callback, static_qos or latched, callback_group=self.group
        )
        self.executor = None
        if spin_thread:
            self.executor = SingleThreadedExecutor(context=node.context)
            self.executor.add_node(node)
            self.dedicated_listener_thread = threading.Thread(target=self._spin, daemon=True)
            self.dedicated_listener_thread.start()

    def unregister(self):
        """Stop listening."""
        if self.executor is not None:
            self.executor.shutdown()
            self.dedicated_listener_thread.join()
        self.node.destroy_subscription(self.tf_sub)
        self.node.destroy_subscription(self.tf_static_sub)

    def callback(self, data):
        """Take over moving transforms."""
        self._take(data, self.buffer.set_transform)

    def static_callback(self, data):
        """Take over fixed transforms."""
        self._take(data, self.buffer.set_transform_static)

    def _take(self, data, setter):
        for transform in data.transforms:
            try:
                setter(transform, "default_authority")
            except InvalidArgumentException as error:
                self.node.get_logger().error(f"Transform ignored: {error}")

    def _spin(self):
        try:
            self.executor.spin()
        except ExternalShutdownException:
            pass
