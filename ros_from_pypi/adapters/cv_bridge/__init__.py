"""cv_bridge for machines without a ROS 2 distribution; source: the public API of cv_bridge (ROS 2 Kilted)."""

from cv_bridge.core import CvBridge, CvBridgeError

__all__ = ["CvBridge", "CvBridgeError"]
