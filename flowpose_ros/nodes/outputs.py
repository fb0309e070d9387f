"""The publishers of the estimator node: poses, TF, markers, points, overlay."""

from __future__ import annotations

import threading

from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image, PointCloud2
from tf2_ros import TransformBroadcaster
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from flowpose_ros.evaluation.contour import draw_pose
from flowpose_ros.nodes.messages.frames import image_message
from flowpose_ros.nodes.messages.markers import MarkerMaker
from flowpose_ros.nodes.messages.points import PointsMaker
from flowpose_ros.nodes.messages.poses import detections_out, name_of, transforms_out
from flowpose_ros.nodes.pipeline import Processed
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.runtime.node_options import NodeOptions

DEPTH = 5


class Outputs:
    """Publishes a frame's answer under the image's own stamp and frame; markers, points and overlay on demand."""

    def __init__(self, node: LifecycleNode, catalogue: Catalogue, broadcaster: TransformBroadcaster) -> None:
        """broadcaster: the node's own, for it cannot be taken back."""
        self._node, self._catalogue, self._broadcaster = node, catalogue, broadcaster
        self._poses = self._advertise(Detection3DArray, "~/poses")
        self._markers = self._advertise(MarkerArray, "~/markers")
        self._points = self._advertise(PointCloud2, "~/points")
        self._overlay = self._advertise(Image, "~/overlay", ReliabilityPolicy.BEST_EFFORT)
        self._marker_maker = MarkerMaker(catalogue)
        self._points_maker = PointsMaker(catalogue)
        self._renderer = RaycastRenderer()
        self._lock = threading.Lock()

    def publish(self, processed: Processed, options: NodeOptions) -> None:
        """Send one frame's answer; `~/poses` last, so that who has it finds the rest already sent."""
        header, estimates = processed.header, processed.estimates
        if options.publish_tf and estimates and header.frame_id:
            self._broadcaster.sendTransform(transforms_out(header, estimates, options.tf_prefix))
        if self._markers.get_subscription_count():
            with self._lock:
                self._markers.publish(self._marker_maker.markers(header, estimates))
        if self._points.get_subscription_count():
            self._points.publish(self._points_maker.cloud(header, estimates))
        if self._overlay.get_subscription_count():
            self._overlay.publish(self._draw(processed))
        self._poses.publish(detections_out(header, estimates, self._catalogue))

    def clear(self) -> None:
        """Take the markers away, for what they show is no longer known; any thread may ask for it."""
        with self._lock:
            gone = self._marker_maker.deletions()
            if gone.markers:
                self._markers.publish(gone)

    def close(self) -> None:
        """Take the markers away and end the publishers."""
        self.clear()
        for publisher in (self._poses, self._markers, self._points, self._overlay):
            self._node.destroy_publisher(publisher)

    def _advertise(self, message_type: type, topic: str, reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE
                   ) -> Publisher:
        # A profile of its own: overrides are written into it.
        return self._node.create_publisher(message_type, topic, QoSProfile(depth=DEPTH, reliability=reliability),
                                           qos_overriding_options=QoSOverridingOptions.with_default_policies())

    def _draw(self, processed: Processed) -> Image:
        picture = processed.frame.image
        for estimate in processed.estimates:
            mesh = self._catalogue[estimate.label].mesh
            picture = draw_pose(picture, mesh, estimate.T_cam_obj, processed.frame.K, self._renderer,
                                text=name_of(estimate))
        return image_message(processed.header, picture)
