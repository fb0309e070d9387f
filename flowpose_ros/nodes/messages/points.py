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


def points_out(header: Header, estimates: tuple[PoseEstimate, ...], catalogue: Catalogue) -> PointCloud2:
    """Evenly spread surface points of each estimate's mesh in the image's frame, metres, with the estimate's number."""
    cloud = np.zeros(POINTS * len(estimates), [("x", "f4"), ("y", "f4"), ("z", "f4"), ("instance", "u4")])
    for part, estimate in zip(np.split(cloud, len(estimates)) if estimates else [], estimates):
        T = estimate.T_cam_obj
        placed = catalogue[estimate.label].mesh.surface_points(POINTS) @ T[:3, :3].T + T[:3, 3]
        part["x"], part["y"], part["z"] = placed.T
        part["instance"] = estimate.instance
    return create_cloud(header, FIELDS, cloud)
