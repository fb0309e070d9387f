"""Windows, outlines and drawn poses against full renders."""

from types import SimpleNamespace

import numpy as np
import pytest
from synthetic_bop import BOX, CAN, POSES, pose

from flowpose_ros.evaluation.bop_dataset import BopDataset, ImageId
from flowpose_ros.evaluation.contour import ESTIMATE_STYLE, TRUTH_STYLE, draw_pose, outline
from flowpose_ros.evaluation.view import Window, depth_in_window, window_of
from flowpose_ros.rendering.raycast import RaycastRenderer

SIZE = (240, 320)


@pytest.fixture
def dataset(bop_root):
    return BopDataset(bop_root)


@pytest.mark.parametrize("T", [POSES[0][1][1], pose((0.3, 0.2, 0.1), (0.33, -0.2, 0.7)),
                               pose((0.1, 0, 0), (0, 0, 0.05)), pose((0, 0, 0), (0, 0, -0.5))])
def test_a_window_misses_nothing_of_the_whole_image(dataset, T):
    K, mesh, renderer = dataset.frame(ImageId(2, 0)).K, dataset.catalogue[str(CAN)].mesh, RaycastRenderer()
    whole = depth_in_window(renderer, mesh, T, K, Window(0, 0, SIZE[1], SIZE[0]))
    window = window_of(mesh, T, K, SIZE)
    part = np.zeros(SIZE, np.float32)
    part[window.slices] = depth_in_window(renderer, mesh, T, K, window)
    np.testing.assert_allclose(part, whole, atol=1e-5)


def test_a_window_holds_the_pixels_whose_middle_lies_on_the_objects_rim():
    corners = np.array([(x, y, 1.0) for x in (-0.125, 0.125) for y in (-0.0625, 0.0625)])
    K = np.array([[128.0, 0, 50], [0, 128.0, 40], [0, 0, 1]])
    assert window_of(SimpleNamespace(vertices=corners), np.eye(4), K, SIZE) == Window(34, 32, 33, 17)


def test_union_of_windows():
    a, b, nothing = Window(2, 3, 4, 5), Window(10, 1, 2, 2), Window(0, 0, 0, 0)
    assert a.union(b) == Window(2, 1, 10, 7)
    assert a.union(nothing) == nothing.union(a) == a


def test_outline_surrounds_the_object_in_the_picture(dataset):
    truth, frame = dataset.ground_truth(ImageId(2, 0))[0], dataset.frame(ImageId(2, 0))
    points = np.concatenate(outline(dataset.catalogue[str(BOX)].mesh, truth.T_cam_obj, frame.K, SIZE,
                                    RaycastRenderer())).reshape(-1, 2)
    np.testing.assert_array_equal([*points.min(0), *points.max(0)], truth.box)


def test_drawing_leaves_the_image_alone_and_the_far_pixels_too(dataset):
    truth, frame = dataset.ground_truth(ImageId(2, 0))[0], dataset.frame(ImageId(2, 0))
    before = frame.image.copy()
    mesh = dataset.catalogue[str(BOX)].mesh
    drawn = draw_pose(frame.image, mesh, truth.T_cam_obj, frame.K, RaycastRenderer(), ESTIMATE_STYLE, "box 0.9")
    np.testing.assert_array_equal(frame.image, before)
    left, top, _, bottom = truth.box.astype(int)
    assert (drawn[(top + bottom) // 2, left] == ESTIMATE_STYLE.color).all()
    np.testing.assert_array_equal(drawn[:, 250:], before[:, 250:])


@pytest.mark.parametrize("T", [pose((0, 0, 0), (0, 0, -1)), pose((0, 0, 0), (9, 0, 1)), pose((0, 0, 0), (0, 0, 0.01))])
def test_poses_out_of_sight_are_drawn_without_an_error(dataset, T):
    frame, mesh = dataset.frame(ImageId(2, 0)), dataset.catalogue[str(BOX)].mesh
    assert draw_pose(frame.image, mesh, T, frame.K, RaycastRenderer(), text="far").shape == frame.image.shape
    assert draw_pose(frame.image, mesh, T, frame.K, RaycastRenderer(), TRUTH_STYLE).shape == frame.image.shape
