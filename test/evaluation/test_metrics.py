"""Pose errors whose value follows from geometry alone."""

import numpy as np
import pytest

from flowpose_ros.evaluation.metrics import (VSD_TAUS, add, add_s, distance_image, mspd, mssd,
                                             pose_difference, vsd)
from flowpose_ros.geometry.symmetry import SymmetryAxis, SymmetryGroup

K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
NO_SYMMETRY = SymmetryGroup.none().transforms()
SQUARE = np.array([[x, y, 0.0] for x in (-0.05, 0.05) for y in (-0.05, 0.05)])
ROUND = SymmetryGroup(np.zeros((0, 4, 4)), (SymmetryAxis(np.array([0, 0, 1.0]), np.zeros(3)),))


def at(translation, angle=0.0):
    """A pose turned about its own z axis."""
    T = np.eye(4)
    c, s = np.cos(angle), np.sin(angle)
    T[:2, :2] = [[c, -s], [s, c]]
    T[:3, 3] = translation
    return T


def test_thresholds_are_the_numbers_nearest_to_their_decimals():
    assert VSD_TAUS == (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
    assert VSD_TAUS[2] != 3 * 0.05


def test_mssd_of_a_translation_is_its_length():
    assert mssd(at((0.3, 0, 1.4)), at((0, 0, 1.0)), SQUARE, NO_SYMMETRY) == pytest.approx(0.5)


def test_mspd_of_a_lateral_shift_is_focal_length_times_shift_over_depth():
    assert mspd(at((0.02, 0, 1.5)), at((0, 0, 1.5)), SQUARE, NO_SYMMETRY, K) == pytest.approx(600 * 0.02 / 1.5)


def test_mspd_of_a_pose_behind_the_camera_is_infinite():
    assert mspd(at((0, 0, -1.0)), at((0, 0, 1.0)), SQUARE, NO_SYMMETRY, K) == np.inf


def test_a_turn_about_the_axis_of_symmetry_is_no_error():
    symmetries = ROUND.transforms()
    assert len(symmetries) == 315
    turned = at((0, 0, 1), 100 * 2 * np.pi / 315)
    assert mssd(turned, at((0, 0, 1)), SQUARE, symmetries) == pytest.approx(0, abs=1e-12)
    assert mspd(turned, at((0, 0, 1)), SQUARE, symmetries, K) == pytest.approx(0, abs=1e-9)
    assert mssd(turned, at((0, 0, 1)), SQUARE, NO_SYMMETRY) > 0.1


def test_mssd_of_many_vertices_and_symmetries_equals_the_loop():
    rng = np.random.default_rng(0)
    vertices, symmetries = rng.normal(size=(20_000, 3)), ROUND.transforms()
    T_est, T_gt = at((0.01, 0, 1), 0.013), at((0, 0, 1))
    expected = min(max(np.linalg.norm(
        (vertices @ T_est[:3, :3].T + T_est[:3, 3]) - (vertices @ (T_gt @ S)[:3, :3].T + (T_gt @ S)[:3, 3]), axis=1))
        for S in symmetries[:10])
    assert mssd(T_est, T_gt, vertices, symmetries[:10]) == pytest.approx(expected, rel=1e-12)
    assert mssd(T_est, T_gt, vertices, symmetries) <= expected


def test_add_of_a_translation_is_its_length_and_add_s_forgives_a_quarter_turn():
    assert add(at((0, 0.1, 1)), at((0, 0, 1)), SQUARE) == pytest.approx(0.1)
    quarter = at((0, 0, 1), np.pi / 2)
    assert add_s(quarter, at((0, 0, 1)), SQUARE) == pytest.approx(0, abs=1e-12)
    assert add(quarter, at((0, 0, 1)), SQUARE) == pytest.approx(0.1)


def test_pose_difference_forgives_symmetry_only():
    off = pose_difference(at((0.1, 0, 1), 0.3), at((0, 0, 1)), SymmetryGroup.none())
    assert (off.rotation, off.translation) == pytest.approx((0.3, 0.1))
    round_off = pose_difference(at((0.1, 0, 1), 0.3), at((0, 0, 1)), ROUND)
    assert (round_off.rotation, round_off.translation) == pytest.approx((0, 0.1), abs=1e-6)


class TestVsd:
    DIAMETER = 0.1

    def error(self, dist_est, dist_gt, dist_scene):
        return vsd(dist_est, dist_gt, dist_scene, self.DIAMETER)

    def test_is_zero_for_the_same_image(self):
        seen = np.pad(np.ones((4, 4)), 3)
        assert (self.error(seen, seen, np.full((10, 10), 1.0)) == 0).all()

    def test_is_one_where_renders_do_not_meet(self):
        left, right = np.zeros((4, 8)), np.zeros((4, 8))
        left[:, :4], right[:, 4:] = 1.0, 1.0
        assert (self.error(left, right, np.ones((4, 8))) == 1).all()

    def test_is_one_where_nothing_is_seen(self):
        nothing = np.zeros((3, 3))
        assert (self.error(nothing, nothing, np.ones((3, 3))) == 1).all()

    def test_tells_a_depth_offset_by_tau(self):
        seen = np.pad(np.ones((4, 4)), 3)
        errors = self.error(seen * 1.012, seen, np.where(seen > 0, 1.0, 2.0))
        assert errors.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]

    def test_ignores_what_the_scene_hides_by_more_than_delta(self):
        gt = np.ones((1, 4))
        est = np.array([[1, 1, 0, 0.0]])
        scene = np.array([[1, 1, 0.984, 0.986]])  # 16 mm and 14 mm before the object
        assert self.error(est, gt, scene) == pytest.approx(np.full(10, 1 / 3))

    def test_sees_the_object_where_depth_is_missing(self):
        gt, est = np.ones((1, 2)), np.array([[1, 0.0]])
        assert self.error(est, gt, np.zeros((1, 2))) == pytest.approx(np.full(10, 0.5))

    def test_counts_the_estimate_behind_the_scene_where_the_truth_is_visible(self):
        gt, est = np.ones((1, 2)), np.full((1, 2), 1.04)  # 40 mm behind the scene: not visible by itself
        assert self.error(est, gt, np.ones((1, 2))).tolist() == [1] * 8 + [0, 0]


def test_distance_is_measured_from_the_camera_centre():
    depth = np.full((481, 641), 2.0)
    dist = distance_image(depth, K)
    assert dist[240, 320] == 2.0
    assert dist[240, 320 + 300] == pytest.approx(2 * np.hypot(1, 0.5))
    np.testing.assert_allclose(distance_image(depth[100:150, 30:60], K, 30, 100), dist[100:150, 30:60])
