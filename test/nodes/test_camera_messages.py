"""Calibrations: checked by name, and lens distortion undone."""

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="ROS messages are not installed: `make setup` installs them")

import cv2
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from flowpose_ros.errors import FrameError
from flowpose_ros.nodes.messages.camera import CalibrationReader

K = [300.0, 0, 159.5, 0, 300.0, 119.5, 0, 0, 1]
P = [200.0, 0, 150, 0, 0, 200.0, 110, 0, 0, 0, 1, 0]
DISTORTIONS = {
    "plumb_bob": [-0.25, 0.08, 0.001, -0.002, 0.01],
    "rational_polynomial": [0.3, 0.05, 0.001, -0.001, 0.01, 0.5, 0.1, 0.02],
    "equidistant": [-0.02, 0.01, -0.003, 0.001],
}


def info(**changes):
    return CameraInfo(**{"height": 240, "width": 320, "k": K, "p": P, **changes})


def read(message, rectified=False):
    return CalibrationReader(rectified).read(message, 240, 320)


def distorted(points, model):
    """Pixels in the raw image of pixels in the rectified one, by OpenCV's forward model."""
    rays = np.c_[(points - (159.5, 119.5)) / 300.0, np.ones(len(points))][:, None]
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    zero = np.zeros(3)
    return project(rays, zero, zero, np.reshape(K, (3, 3)), np.array(DISTORTIONS[model]))[0][:, 0]


def test_an_undistorted_camera_changes_nothing():
    image = np.zeros((240, 320, 3), np.uint8)
    for model, D in (("plumb_bob", [0.0] * 5), ("", []), ("whatever", [0.0])):
        camera = read(info(distortion_model=model, d=D))
        assert camera.rectify(image) is image
        assert camera.K.ravel().tolist() == K


@pytest.mark.parametrize("model", DISTORTIONS)
def test_rectifying_undoes_the_distortion(model):
    camera = read(info(distortion_model=model, d=DISTORTIONS[model]))
    spots = np.array([[60.0, 50.0], [250.0, 60.0], [80.0, 190.0], [160.0, 120.0]])
    raw = np.zeros((240, 320, 3), np.uint8)
    depth = np.zeros((240, 320), np.float32)
    for u, v in distorted(spots, model).round().astype(int):
        raw[v - 3:v + 4, u - 3:u + 4] = 255
        depth[v - 3:v + 4, u - 3:u + 4] = 1.5
    rectified, rectified_depth = camera.rectify(raw), camera.rectify_nearest(depth)
    for u, v in spots.astype(int):
        assert rectified[v, u].min() == 255
        assert rectified_depth[v, u] == 1.5
    assert set(np.unique(rectified_depth)) == {np.float32(0), np.float32(1.5)}


@pytest.mark.parametrize("model", DISTORTIONS)
def test_boxes_move_with_their_content(model):
    camera = read(info(distortion_model=model, d=DISTORTIONS[model]))
    inner = np.array([[100.0, 80.0], [200.0, 80.0], [100.0, 160.0], [200.0, 160.0]])
    raw = distorted(inner, model)
    box = camera.rectify_box(np.concatenate([raw.min(0), raw.max(0)]))
    assert (box[:2] <= inner.min(0) + 0.01).all() and (box[2:] >= inner.max(0) - 0.01).all()
    np.testing.assert_allclose(box, [100, 80, 200, 160], atol=4)


def test_rectified_images_use_the_projection_matrix():
    camera = read(info(distortion_model="plumb_bob", d=DISTORTIONS["plumb_bob"]), rectified=True)
    assert camera.model is None
    assert camera.K.ravel().tolist() == [200, 0, 150, 0, 200, 110, 0, 0, 1]


def test_a_calibration_is_read_once_while_it_stays_the_same():
    reader = CalibrationReader()
    first = reader.read(info(), 240, 320)
    assert reader.read(info(), 240, 320) is first
    assert reader.read(info(k=[301.0, *K[1:]]), 240, 320).K[0, 0] == 301.0


def test_a_refused_calibration_is_not_remembered():
    reader = CalibrationReader()
    reader.read(info(), 240, 320)
    with pytest.raises(FrameError):
        reader.read(info(k=[-1.0, *K[1:]]), 240, 320)
    with pytest.raises(FrameError):
        reader.read(info(k=[-1.0, *K[1:]]), 240, 320)


@pytest.mark.parametrize("changes, told", [
    ({"width": 640}, "camera_info: expected the image's size 320 x 240, got 640 x 240"),
    ({"k": [0.0] * 9}, "camera_info.*positive focal lengths, got fx=0"),
    ({"k": [-300.0, *K[1:]]}, "fx=-300"),
    ({"k": [float("nan"), *K[1:]]}, "finite"),
    ({"k": [300.0, 0, 5000, *K[3:]]}, "principal point"),
    ({"distortion_model": "kannala", "d": [0.1] * 4}, "distortion_model: expected .*got 'kannala'"),
    ({"distortion_model": "plumb_bob", "d": [0.1] * 3}, "D: expected 4 or 5 finite coefficients for plumb_bob"),
    ({"distortion_model": "equidistant", "d": [0.1, float("nan"), 0, 0]}, "D: expected 4 finite"),
    ({"binning_x": 2}, "camera_info: expected the image's size 320 x 240, got 160 x 240"),
    ({"roi": RegionOfInterest(x_offset=300, width=40, height=240)}, "roi: expected to lie within 320 x 240, got 40 x 240 "
                                                                   "at \\(300, 0\\)"),
    ({"roi": RegionOfInterest(y_offset=240)}, "roi: expected to lie within"),
])
def test_a_wrong_calibration_says_what_is_wrong(changes, told):
    with pytest.raises(FrameError, match=told):
        read(info(**changes))


@pytest.mark.parametrize("rectified", [False, True])
def test_a_part_of_the_sensor_that_is_binned_sees_the_same_rays(rectified):
    message = info(roi=RegionOfInterest(x_offset=40, y_offset=20, width=200, height=120), binning_x=2, binning_y=4)
    camera = CalibrationReader(rectified).read(message, 30, 100)
    whole = np.reshape(P, (3, 4))[:, :3] if rectified else np.reshape(K, (3, 3))
    # The first binned pixel is made of pixels 40, 41 and 20 to 23 of the sensor; the last of 238, 239 and 136 to 139.
    for pixel, sensor in (((0, 0), (40.5, 21.5)), ((99, 29), (238.5, 137.5))):
        assert np.allclose(np.linalg.solve(camera.K, [*pixel, 1]), np.linalg.solve(whole, [*sensor, 1]))


@pytest.mark.parametrize("model, d", [("plumb_bob", [0.5, 0, 0, 0, 0]), ("equidistant", [1.5, 0, 0, 0])])
def test_where_a_rectified_image_shows_nothing_its_border_goes_on_and_depth_is_none(model, d):
    camera = read(info(distortion_model=model, d=[float(value) for value in d]))
    assert (camera.rectify_nearest(np.ones((240, 320), np.float32)) == 0).any()
    assert (camera.rectify(np.full((240, 320, 3), 90, np.uint8)) == 90).all()


@pytest.mark.parametrize("model", DISTORTIONS)
def test_a_part_of_a_distorted_image_is_rectified(model):
    spot = np.array([[120.0, 90.0]])
    raw = np.zeros((240, 320, 3), np.uint8)
    u, v = distorted(spot, model)[0].round().astype(int)
    raw[v - 3:v + 4, u - 3:u + 4] = 255
    message = info(distortion_model=model, d=DISTORTIONS[model],
                   roi=RegionOfInterest(x_offset=50, y_offset=40, width=160, height=120))
    camera = CalibrationReader().read(message, 120, 160)
    assert camera.rectify(np.ascontiguousarray(raw[40:160, 50:210]))[50, 70].min() == 255


def test_a_wrong_projection_matrix_is_named():
    with pytest.raises(FrameError, match="camera_info: P: .*fx=0"):
        read(info(p=[0.0] * 12), rectified=True)
