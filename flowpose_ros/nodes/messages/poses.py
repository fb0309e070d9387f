"""Pose estimates into vision_msgs/Detection3DArray and TF; nothing unusable gets past here."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Pose, TransformStamped
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

from flowpose_ros.errors import GeometryError
from flowpose_ros.geometry.transforms import check_transform
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.records import PoseEstimate


def publishable(estimate: PoseEstimate, mesh: Mesh) -> bool:
    """Whether pose, covariance and score are finite, the rotation is one, and the score is in [0,1].

    The middle of the mesh must lie before the camera; its origin need not, as it may be far from the mesh.
    """
    try:
        check_transform(estimate.T_cam_obj)
    except GeometryError:
        return False
    z = estimate.T_cam_obj[2, :3] @ mesh.center + estimate.T_cam_obj[2, 3]
    return bool(z > 0 and np.isfinite(estimate.covariance).all() and 0.0 <= estimate.score <= 1.0)


def name_of(estimate: PoseEstimate) -> str:
    """The instance's name, on TF (after the prefix) and as the id of its Detection3D."""
    return f"{estimate.label}_{estimate.instance}"


def detections_out(header: Header, estimates: tuple[PoseEstimate, ...],
                   catalogue: Catalogue) -> Detection3DArray:
    """The estimates as one message under the image's own header; poses place the mesh file's origin."""
    message = Detection3DArray(header=header)
    message.detections = [_detection(header, estimate, catalogue[estimate.label].mesh)
                          for estimate in estimates]
    return message


def transforms_out(header: Header, estimates: tuple[PoseEstimate, ...],
                   prefix: str) -> list[TransformStamped]:
    """One transform per estimate, from the image's frame to `<prefix><class>_<id>`, at the image's stamp."""
    transforms = []
    for estimate in estimates:
        pose = pose_message(estimate.T_cam_obj)
        transform = TransformStamped(header=header, child_frame_id=prefix + name_of(estimate))
        translation = transform.transform.translation
        translation.x, translation.y, translation.z = pose.position.x, pose.position.y, pose.position.z
        transform.transform.rotation = pose.orientation
        transforms.append(transform)
    return transforms


def pose_message(T: np.ndarray) -> Pose:
    """geometry_msgs/Pose of a rigid transform [4,4]; the quaternion is of unit length."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = map(float, T[:3, 3])
    q = Rotation.from_matrix(T[:3, :3]).as_quat()
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = map(float, q)
    return pose


def transform_matrix(pose) -> np.ndarray:
    """Rigid transform [4,4] of a geometry_msgs Pose or Transform."""
    position = pose.position if hasattr(pose, "position") else pose.translation
    q = pose.orientation if hasattr(pose, "orientation") else pose.rotation
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    T[:3, 3] = position.x, position.y, position.z
    return T


def _detection(header: Header, estimate: PoseEstimate, mesh: Mesh) -> Detection3D:
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = estimate.label, float(estimate.score)
    result.pose.pose = pose_message(estimate.T_cam_obj)
    result.pose.covariance = estimate.covariance.reshape(-1).astype(float)
    detection = Detection3D(header=header, id=name_of(estimate), results=[result])
    T_cam_box = estimate.T_cam_obj.copy()
    T_cam_box[:3, 3] += T_cam_box[:3, :3] @ mesh.center
    detection.bbox.center = pose_message(T_cam_box)
    size = detection.bbox.size
    size.x, size.y, size.z = map(float, np.ptp(mesh.vertices, axis=0))
    return detection
