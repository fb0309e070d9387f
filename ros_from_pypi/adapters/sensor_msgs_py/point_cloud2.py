"""PointCloud2 messages to numpy arrays and back; source: the public API of sensor_msgs_py (ROS 2 Kilted)."""

import array

import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured, unstructured_to_structured
from sensor_msgs.msg import PointCloud2, PointField

DTYPES = {
    PointField.INT8: np.int8,
    PointField.UINT8: np.uint8,
    PointField.INT16: np.int16,
    PointField.UINT16: np.uint16,
    PointField.INT32: np.int32,
    PointField.UINT32: np.uint32,
    PointField.FLOAT32: np.float32,
    PointField.FLOAT64: np.float64,
}


def read_points(cloud, field_names=None, skip_nans=False, uvs=None):
    """The points of a cloud as a structured array (N), the named fields alone.

    `uvs` picks points by index, or by (u, v) pairs in an organised cloud.
    """
    dtype = dtype_from_fields(cloud.fields, cloud.point_step).newbyteorder(">" if cloud.is_bigendian else "<")
    rows = np.frombuffer(cloud.data, np.uint8).reshape(cloud.height, cloud.row_step)
    points = np.ascontiguousarray(rows[:, : cloud.width * cloud.point_step]).view(dtype).reshape(-1)
    points = points[list(field_names) if field_names is not None else [f.name for f in cloud.fields]]
    if uvs is not None:
        points = points[_indices(uvs, cloud.width)]
    if skip_nans:
        points = points[~_has_nan(points)]
    return points


def read_points_numpy(cloud, field_names=None, skip_nans=False, uvs=None):
    """The points of a cloud as a plain array (N x fields); all fields must have one type."""
    return structured_to_unstructured(read_points(cloud, field_names, skip_nans, uvs))


def create_cloud(header, fields, points, step=None, point_step=None):
    """A cloud of a structured array (N), a plain array (N x fields) or a list of tuples."""
    dtype = dtype_from_fields(fields, point_step or step)
    points = np.asarray(points)
    if points.dtype.names is None:
        dense = unstructured_to_structured(points, dtype=np.dtype([(f.name, DTYPES[f.datatype]) for f in fields]))
    else:
        dense = points
    laid_out = np.zeros(dense.shape, dtype)
    for field in fields:
        laid_out[field.name] = dense[field.name]
    return PointCloud2(
        header=header, height=1, width=len(laid_out), fields=fields, is_bigendian=False, is_dense=False,
        point_step=dtype.itemsize, row_step=laid_out.nbytes, data=array.array("B", laid_out.tobytes()),
    )  # fmt: skip


def create_cloud_xyz32(header, points, step=None, point_step=None):
    """A cloud of x, y, z as float32 (N x 3)."""
    fields = [PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate("xyz")]
    return create_cloud(header, fields, points, step, point_step)


def dtype_from_fields(fields, point_step=None):
    """The numpy layout of one point."""
    layout = {
        "names": [f.name for f in fields],
        "formats": [DTYPES[f.datatype] if f.count == 1 else (DTYPES[f.datatype], f.count) for f in fields],
        "offsets": [f.offset for f in fields],
    }
    if point_step is not None:
        layout["itemsize"] = point_step
    return np.dtype(layout)


def _indices(uvs, width):
    uvs = np.asarray(uvs)
    return uvs if uvs.ndim == 1 else uvs[:, 1] * width + uvs[:, 0]


def _has_nan(points):
    columns = [np.isnan(points[n]).reshape(len(points), -1).any(axis=1) for n in points.dtype.names]
    return np.any(columns, axis=0)
