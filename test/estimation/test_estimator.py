"""What the estimator refuses at its border, whatever the weights are."""

import numpy as np
import pytest
import torch
import trimesh

from flowpose_ros.errors import DetectionError
from flowpose_ros.estimation.checks import check_detection, check_in_front
from flowpose_ros.estimation.views import FrameTensors
from flowpose_ros.objects.load import load_mesh
from flowpose_ros.records import Detection, Frame

K = np.array([[600.0, 0, 320], [0, 600.0, 240], [0, 0, 1]])
IMAGE = np.zeros((480, 640, 3), np.uint8)


@pytest.mark.parametrize("box, clipped", [
    ([10, 20, 50, 60], [10, 20, 50, 60]), ([-1e5, -1e5, 1e5, 1e5], [-0.5, -0.5, 639.5, 479.5]),
    ([600, -40, 700, 30], [600, -0.5, 639.5, 30])])
def test_a_box_is_clipped_to_the_image(box, clipped):
    detection = Detection("mug", np.array(box), 0.5)
    seen = check_detection(detection, Frame(IMAGE, K))
    assert seen.box.tolist() == clipped and (seen.label, seen.score) == ("mug", 0.5)
    assert detection.box.tolist() == box


@pytest.mark.parametrize("box", [[639, 10, 739, 50], [10, -90, 50, 7], [50, 50, 10, 10]])
def test_a_box_with_too_little_inside_is_refused(box):
    with pytest.raises(DetectionError, match="mug: box: expected at least 8 pixels a side inside the 640 x 480 image"):
        check_detection(Detection("mug", np.array(box)), Frame(IMAGE, K))


@pytest.mark.parametrize("z, good", [(0.2, True), (0.0, False), (-0.5, False), (np.nan, False)])
def test_a_pose_that_is_not_in_front_of_the_camera_is_refused(tmp_path, z, good):
    trimesh.creation.box((0.1, 0.1, 0.1)).apply_translation((0, 0, 1)).export(tmp_path / "cube.ply")
    mesh, T = load_mesh(tmp_path / "cube.ply", "m"), np.eye(4)
    T[2, 3] = z - 1  # the cube's centre is 1 m along z from its origin
    if good:
        check_in_front(T, mesh, "cube")
    else:
        with pytest.raises(DetectionError, match="cube: pose: expected its centre .* in front of the camera"):
            check_in_front(T, mesh, "cube")


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_depth_without_a_valid_pixel_is_no_depth(value):
    depth = np.full((480, 640), value, np.float32)
    assert FrameTensors.of(Frame(IMAGE, K, depth), True, torch.device("cpu")).depth is None
    depth[3, 4] = 1.5
    assert FrameTensors.of(Frame(IMAGE, K, depth), True, torch.device("cpu")).depth.sum() == 1.5
