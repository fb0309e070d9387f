"""Symmetry groups: BOP's grid of rotations, axes off the origin, and the nearest equivalent pose."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from flowpose_ros.errors import GeometryError
from flowpose_ros.geometry.rotations import angles_between, random_rotations
from flowpose_ros.geometry.symmetry import SymmetryAxis, SymmetryGroup
from flowpose_ros.geometry.transforms import covariance_at

HALF_TURN_Z = np.diag([-1.0, -1.0, 1.0, 1.0])


def axis(direction=(0, 0, 1), offset=(0, 0, 0)):
    return SymmetryAxis(np.array(direction, float), np.array(offset, float))


def random_pose(seed):
    rng = np.random.default_rng(seed)
    T = np.eye(4)
    T[:3, :3] = random_rotations(1, rng)[0]
    T[:3, 3] = rng.normal(size=3)
    return T


def angle(T_a, T_b):
    return angles_between(T_a[None, :3, :3], T_b[None, :3, :3])[0, 0]


def test_axis_is_cut_into_315_equal_rotations():
    S = SymmetryGroup(np.zeros((0, 4, 4)), (axis(),)).transforms()
    assert S.shape == (315, 4, 4)
    np.testing.assert_allclose(S[0], np.eye(4))
    steps = [angle(a, b) for a, b in zip(S, np.roll(S, -1, axis=0))]
    np.testing.assert_allclose(steps, 2 * np.pi / 315, atol=1e-9)


def test_points_of_an_offset_axis_stay():
    line = axis((0, 0.6, 0.8), (0.1, -0.2, 0.3))
    for S in SymmetryGroup(np.zeros((0, 4, 4)), (line,)).transforms(0.5):
        for along in (-1.0, 0.0, 2.0):
            point = line.offset + along * line.direction
            np.testing.assert_allclose(S[:3, :3] @ point + S[:3, 3], point, atol=1e-12)


def test_every_rotation_is_combined_with_every_discrete_symmetry():
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    line = axis(offset=(0.1, 0, 0))
    S = SymmetryGroup(flip[None], (line,)).transforms()
    assert len(S) == 630
    expected = [R @ D for R in line.rotations(np.arange(315) * 2 * np.pi / 315) for D in (np.eye(4), flip)]
    np.testing.assert_allclose(S, expected, atol=1e-12)


def test_no_symmetry_is_the_identity_alone():
    assert SymmetryGroup.none().is_trivial
    np.testing.assert_array_equal(SymmetryGroup.none().transforms(), np.eye(4)[None])


def test_models_info_is_read_in_its_own_unit():
    group = SymmetryGroup.from_models_info(
        {"symmetries_discrete": [[-1, 0, 0, 20, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]],
         "symmetries_continuous": [{"axis": [0, 0, 2], "offset": [0, 10, 0]}]}, 0.001)
    np.testing.assert_allclose(group.discrete[0, :3, 3], [0.02, 0, 0])
    np.testing.assert_allclose(group.axes[0].direction, [0, 0, 1])
    np.testing.assert_allclose(group.axes[0].offset, [0, 0.01, 0])
    assert SymmetryGroup.from_models_info({"diameter": 3}, 0.001).is_trivial
    again = SymmetryGroup.from_models_info(group.models_info(0.001), 0.001)
    np.testing.assert_allclose(again.transforms(0.5), group.transforms(0.5), atol=1e-8)
    assert SymmetryGroup.none().models_info(0.001) == {}


@pytest.mark.parametrize("entry, expected", [
    ({"symmetries_discrete": [[1, 0, 0]]}, "symmetries_discrete.0.: expected 16 numbers, got 3"),
    ({"symmetries_discrete": [np.diag([2, 1, 1, 1]).tolist()]}, "symmetries_discrete.0.: expected an orthonormal"),
    ({"symmetries_discrete": [np.diag([-1, 1, 1, 1]).tolist()]}, "right-handed"),
    ({"symmetries_continuous": [{"axis": [0, 0, 0], "offset": [0, 0, 0]}]}, "non-zero axis"),
    ({"symmetries_continuous": [{"offset": [0, 0, 0]}]}, "symmetries_continuous.0.: expected axis"),
    ({"symmetries_continuous": [{"axis": [0, 1], "offset": [0, 0, 0]}]}, "3 numbers each"),
    ({"symmetries_continuous": [{"axis": [0, 0, 1], "offset": [0, float("nan"), 0]}]}, "3 numbers each"),
])
def test_unusable_symmetries_are_refused_by_name(entry, expected):
    with pytest.raises(GeometryError, match=expected):
        SymmetryGroup.from_models_info(entry, 0.001)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("group", [
    SymmetryGroup.none(),
    SymmetryGroup(HALF_TURN_Z[None]),
    SymmetryGroup(np.zeros((0, 4, 4)), (axis((0.6, 0, 0.8), (0.1, 0.2, 0.3)),)),
    SymmetryGroup(np.diag([1.0, -1.0, -1.0, 1.0])[None], (axis(offset=(0.1, 0, 0)),)),
], ids=["none", "half turn", "revolution", "cylinder"])
def test_nearest_is_as_good_as_trying_every_symmetry(group, seed):
    T, T_reference = random_pose(seed), random_pose(seed + 100)
    found = group.nearest(T, T_reference)
    tried = [T @ S for S in group.transforms()]
    best = min(tried, key=lambda candidate: angle(candidate, T_reference))
    assert angle(found, T_reference) <= angle(best, T_reference) + 1e-9
    # Half a grid step of the rotation also bounds how far the translation may differ.
    assert angle(found, best) <= np.pi / 315 + 1e-9
    np.testing.assert_allclose(found[:3, 3], best[:3, 3], atol=0.01)


def test_nearest_undoes_a_symmetry():
    group = SymmetryGroup(HALF_TURN_Z[None], (axis((1, 0, 0), (0, 0.3, 0)),))
    T = random_pose(3)
    for S in group.transforms(0.3):
        np.testing.assert_allclose(group.nearest(T @ S, T), T, atol=1e-7)


def test_nearest_turns_a_sphere_all_the_way_about_its_center():
    center = np.array([0.1, 0.2, 0.3])
    group = SymmetryGroup(np.zeros((0, 4, 4)), (axis((1, 0, 0), center + [5, 0, 0]), axis((0, 0, 1), center)))
    T, T_reference = random_pose(1), random_pose(2)
    found = group.nearest(T, T_reference)
    np.testing.assert_allclose(found[:3, :3], T_reference[:3, :3], atol=1e-12)
    np.testing.assert_allclose((found @ [*center, 1]), T @ [*center, 1], atol=1e-12)


def test_free_covariance_is_wide_along_the_axis_alone():
    T, line = random_pose(5), axis((0, 0.6, 0.8), (0.02, -0.01, 0.03))
    free = SymmetryGroup(np.zeros((0, 4, 4)), (line,)).free_covariance(torch.from_numpy(T)[None])[0].numpy()
    step = 1e-5
    turned = T @ line.rotations(np.array([step]))[0]
    motion = np.concatenate([turned[:3, 3] - T[:3, 3],
                             Rotation.from_matrix(turned[:3, :3] @ T[:3, :3].T).as_rotvec()]) / step
    np.testing.assert_allclose(free, np.pi ** 2 / 3 * np.outer(motion, motion), atol=1e-4)
    assert np.sqrt(np.trace(free[3:, 3:])) == pytest.approx(np.pi / np.sqrt(3))


def test_a_turned_poses_covariance_is_about_its_own_origin():
    T, line = random_pose(5), axis((0, 0.6, 0.8), (0.02, -0.01, 0.03))
    group = SymmetryGroup(np.zeros((0, 4, 4)), (line,))

    def covariance(T):  # of a body that is known but for its turn
        return group.free_covariance(torch.from_numpy(T)[None])[0].numpy() + 1e-6 * np.eye(6)

    reference = T @ line.rotations(np.array([2.0]))[0]
    turned, about_it = group.nearest_with_covariance(T, covariance(T), reference)
    np.testing.assert_allclose(turned, reference, atol=1e-9)
    np.testing.assert_allclose(about_it, covariance(reference), atol=2e-6)
    assert np.abs(covariance(T) - covariance(reference)).max() > 1e-3
    # A point of the body is as sure as it was, whichever origin tells.
    point = T @ [0.1, 0.2, -0.3, 1]
    of_point = [covariance_at(torch.from_numpy(C), torch.from_numpy((point - pose[:, 3])[:3])).numpy()
                for pose, C in ((T, covariance(T)), (turned, about_it))]
    np.testing.assert_allclose(*of_point, atol=1e-12)


def test_without_axes_nothing_is_free():
    group = SymmetryGroup(HALF_TURN_Z[None])
    assert not group.free_covariance(torch.eye(4)[None]).any()
