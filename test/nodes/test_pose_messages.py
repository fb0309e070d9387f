"""Poses into messages and back; nothing that is no pose gets out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

pytest.importorskip("vision_msgs", reason="ROS messages are not installed: `make setup` installs them")

from sensor_msgs_py.point_cloud2 import read_points
from visualization_msgs.msg import Marker

from flowpose_ros.nodes.messages.frames import header_at
from flowpose_ros.nodes.messages.markers import MarkerMaker, triangles
from flowpose_ros.nodes.messages.points import POINTS, PointsMaker
from flowpose_ros.nodes.messages.poses import (
    detections_out,
    pose_message,
    publishable,
    transform_matrix,
    transforms_out,
)
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.records import Detection, PoseEstimate

HEADER = header_at(12_000_000_034, "camera_optical")


@pytest.fixture(scope="module")
def catalogue(scene):
    return Catalogue.load(scene / "models")


def pose(rotation=(0.1, -0.2, 0.3), translation=(0.1, 0.2, 0.7)):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(rotation).as_matrix()
    T[:3, 3] = translation
    return T


def estimate(instance=0, T=None, score=0.8, covariance=None, label="obj_000001"):
    covariance = np.diag(np.arange(1.0, 7.0)) if covariance is None else covariance
    return PoseEstimate(label, instance, pose() if T is None else T, score, covariance,
                        Detection(label, np.array([0.0, 0, 9, 9])))


@given(st.tuples(*[st.floats(-3.1, 3.1)] * 3))
def test_a_pose_survives_the_message_and_its_quaternion_is_of_unit_length(rotation):
    message = pose_message(pose(rotation))
    q = message.orientation
    assert abs(q.x ** 2 + q.y ** 2 + q.z ** 2 + q.w ** 2 - 1) < 1e-12
    np.testing.assert_allclose(transform_matrix(message), pose(rotation), atol=1e-9)


def test_the_message_carries_the_images_header_and_everything_known(catalogue):
    message = detections_out(HEADER, (estimate(3),), catalogue)
    (detection,) = message.detections
    (result,) = detection.results
    assert message.header == HEADER and detection.header == HEADER
    assert (detection.id, result.hypothesis.class_id, result.hypothesis.score) == ("obj_000001_3", "obj_000001", 0.8)
    assert np.reshape(result.pose.covariance, (6, 6)).diagonal().tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(transform_matrix(result.pose.pose), pose(), atol=1e-9)


def test_the_bounding_box_is_the_meshes_own_in_metres(catalogue):
    box = detections_out(HEADER, (estimate(),), catalogue).detections[0].bbox
    vertices = catalogue["obj_000001"].mesh.vertices
    low, high = vertices.min(0), vertices.max(0)
    np.testing.assert_allclose([box.size.x, box.size.y, box.size.z], high - low, atol=1e-6)
    np.testing.assert_allclose(transform_matrix(box.center)[:3, 3], (pose() @ [*(low + high) / 2, 1])[:3], atol=1e-6)


def test_an_empty_frame_gives_an_empty_message(catalogue):
    assert detections_out(HEADER, (), catalogue).detections == []


def test_tf_children_are_named_by_class_and_instance():
    (transform,) = transforms_out(HEADER, (estimate(2),), "cam1/")
    assert (transform.header, transform.child_frame_id) == (HEADER, "cam1/obj_000001_2")
    np.testing.assert_allclose(transform_matrix(transform.transform), pose(), atol=1e-9)


def broken(T_change):
    T = pose()
    T[T_change[0]] = T_change[1]
    return T


@pytest.mark.parametrize("bad", [
    estimate(T=broken(((0, 3), np.nan))), estimate(T=broken(((0, 0), 5.0))), estimate(T=np.zeros((4, 4))),
    estimate(T=-np.eye(4)), estimate(score=np.nan), estimate(score=1.5),
    estimate(covariance=np.full((6, 6), np.inf)), estimate(T=pose(translation=(0.1, 0.2, -0.7)))])
def test_what_is_no_pose_is_not_publishable(catalogue, bad):
    mesh = catalogue["obj_000001"].mesh
    assert publishable(estimate(), mesh)
    assert not publishable(bad, mesh)


def test_an_origin_behind_the_camera_is_publishable_while_its_mesh_is_before_it(catalogue):
    mesh = catalogue["obj_000001"].mesh
    far = replace(mesh, vertices=mesh.vertices + np.float32([0, 0, 2]))
    behind = estimate(T=pose(rotation=(0, 0, 0), translation=(0, 0, -1)))
    assert publishable(behind, far) and not publishable(behind, mesh)


def test_stale_markers_are_deleted(catalogue):
    maker = MarkerMaker(catalogue)
    maker.markers(HEADER, (estimate(0), estimate(1)))
    markers = maker.markers(HEADER, (estimate(1),)).markers
    assert [(m.ns, m.id, m.action) for m in markers] == [
        ("obj_000001", 0, Marker.DELETE), ("obj_000001", 1, Marker.ADD)]
    assert maker.markers(HEADER, ()).markers[0].action == Marker.DELETE
    assert maker.markers(HEADER, ()).markers == []


def test_a_marker_is_the_mesh_in_its_colours(catalogue):
    mesh = catalogue["obj_000001"].mesh
    (marker,) = MarkerMaker(catalogue).markers(HEADER, (estimate(),)).markers
    points = np.array([(p.x, p.y, p.z) for p in marker.points])
    assert len(marker.points) == len(marker.colors) and len(points) % 3 == 0
    np.testing.assert_allclose([points.min(0), points.max(0)], [mesh.vertices.min(0), mesh.vertices.max(0)], atol=1e-3)
    assert len({(c.r, c.g, c.b) for c in marker.colors}) > 50


def test_large_meshes_are_decimated(catalogue):
    mesh = catalogue["obj_000001"].mesh
    points, colors = triangles(mesh, faces=100)
    assert len(mesh.faces) > 100 and 0 < len(points) <= 300 and len(colors) == len(points)


def test_points_lie_on_the_posed_mesh_and_carry_the_number(catalogue):
    estimates = estimate(3), estimate(7, pose((0, 0, 1), (0, 0, 1)), label="obj_000002")
    cloud = PointsMaker(catalogue).cloud(HEADER, estimates)
    points = read_points(cloud)
    assert cloud.header == HEADER and len(points) == 2 * POINTS
    for e in estimates:
        own = points[points["instance"] == e.instance]
        local = (np.stack([own["x"], own["y"], own["z"]], 1) - e.T_cam_obj[:3, 3]) @ e.T_cam_obj[:3, :3]
        vertices = catalogue[e.label].mesh.vertices
        assert len(own) == POINTS
        np.testing.assert_allclose(local.min(0), vertices.min(0), atol=0.1 * np.ptp(vertices))
        np.testing.assert_allclose(local.max(0), vertices.max(0), atol=0.1 * np.ptp(vertices))


def test_without_estimates_the_cloud_is_empty(catalogue):
    assert PointsMaker(catalogue).cloud(HEADER, ()).width == 0
