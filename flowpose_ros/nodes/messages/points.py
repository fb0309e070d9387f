"""The objects' surfaces at their poses, as a point cloud: to be laid over the sensor's own."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from sensor_msgs_py.point_cloud2 import create_cloud
from std_msgs.msg import Header

from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.records import PoseEstimate

POINTS = 2000
"""Points of each object."""
FIELDS = [PointField(name=name, offset=4 * i, datatype=datatype, count=1) for i, (name, datatype) in enumerate(
    [*((axis, PointField.FLOAT32) for axis in "xyz"), ("instance", PointField.UINT32)])]


class PointsMaker:
    """Makes the cloud of a frame; draws each object's points once."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._drawn: dict[str, np.ndarray] = {}

    def cloud(self, header: Header, estimates: tuple[PoseEstimate, ...]) -> PointCloud2:
        """Evenly spread surface points of each estimate's mesh in the image's frame, metres, with the estimate's
        number."""
        cloud = np.zeros((len(estimates), POINTS), [("x", "f4"), ("y", "f4"), ("z", "f4"), ("instance", "u4")])
        for part, estimate in zip(cloud, estimates):
            if estimate.label not in self._drawn:
                self._drawn[estimate.label] = self._catalogue[estimate.label].mesh.surface_points(POINTS)
            T = estimate.T_cam_obj
            part["x"], part["y"], part["z"] = (self._drawn[estimate.label] @ T[:3, :3].T + T[:3, 3]).T
            part["instance"] = estimate.instance
        return create_cloud(header, FIELDS, cloud.reshape(-1))
