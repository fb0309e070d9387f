"""sensor_msgs_py.point_cloud2, the adapter or the real one: clouds to arrays and back."""

import numpy as np
import pytest

pytest.importorskip("sensor_msgs_py", reason="sensor_msgs_py is not installed: `make setup` installs it")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header

HEADER = Header(frame_id="camera")
POINTS = np.array([[1, 2, 3], [np.nan, 5, 6], [7, 8, 9]], np.float32)


def received(cloud):
    return deserialize_message(serialize_message(cloud), PointCloud2)


def test_points_survive_the_way_through_a_message():
    cloud = received(point_cloud2.create_cloud_xyz32(HEADER, POINTS))
    assert (cloud.header.frame_id, cloud.height, cloud.width, cloud.point_step) == ("camera", 1, 3, 12)
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), POINTS)


def test_points_with_nan_are_skipped_on_request():
    cloud = point_cloud2.create_cloud_xyz32(HEADER, POINTS)
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud, skip_nans=True), POINTS[[0, 2]])


def test_fields_of_several_types_keep_their_layout():
    fields = [
        PointField(name="x", offset=0, datatype=PointField.FLOAT32, count=1),
        PointField(name="label", offset=8, datatype=PointField.UINT16, count=1),
    ]
    points = np.array([(0.5, 7), (1.5, 8)], point_cloud2.dtype_from_fields(fields, 16))
    cloud = received(point_cloud2.create_cloud(HEADER, fields, points, point_step=16))
    assert cloud.point_step == 16
    read = point_cloud2.read_points(cloud, field_names=["label", "x"])
    np.testing.assert_array_equal(read["label"], [7, 8])
    np.testing.assert_array_equal(read["x"], [0.5, 1.5])
