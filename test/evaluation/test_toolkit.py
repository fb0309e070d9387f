"""The metrics against the official toolkit, where somebody has installed it."""

import numpy as np
import pytest

from flowpose_ros.evaluation.matching import average_precision
from flowpose_ros.evaluation.metrics import VSD_DELTA, VSD_TAUS, distance_image, mspd, mssd, vsd
from flowpose_ros.geometry.rotations import random_rotations
from flowpose_ros.geometry.symmetry import SymmetryAxis, SymmetryGroup

pytest.importorskip("bop_toolkit_lib", reason="the official toolkit bop_toolkit_lib is not installed")
K = np.array([[600.0, 0, 320], [0, 580, 240], [0, 0, 1]])


@pytest.mark.parametrize("seed", range(5))
def test_surface_and_projection_distance_agree(seed):
    from bop_toolkit_lib import misc, pose_error

    rng = np.random.default_rng(seed)
    vertices = 0.05 * rng.normal(size=(200, 3))
    R = random_rotations(2, rng)
    t = rng.normal(0, 0.01, (2, 3)) + (0, 0, 0.8)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = R, t
    info = {"symmetries_discrete": [], "symmetries_continuous": [{"axis": [0, 0.6, 0.8], "offset": [0.01, 0, 0.02]}]}
    theirs = misc.get_symmetry_transformations(info, 0.01)
    ours = SymmetryGroup(np.zeros((0, 4, 4)), (SymmetryAxis(np.array([0, 0.6, 0.8]),
                                                            np.array([0.01, 0, 0.02])),)).transforms()
    poses_apart = (R[0], t[0][:, None], R[1], t[1][:, None])
    assert mssd(*poses, vertices, ours) == pytest.approx(pose_error.mssd(*poses_apart, vertices, theirs), rel=1e-9)
    assert mspd(*poses, vertices, ours, K) == pytest.approx(
        pose_error.mspd(*poses_apart, K, vertices, theirs), rel=1e-9)


def test_average_precision_agrees():
    from bop_toolkit_lib import score

    rng = np.random.default_rng(0)
    for _ in range(20):
        hits = rng.random(30) < 0.5
        count = int(hits.sum() + rng.integers(1, 10))
        cumulative = np.cumsum(hits)
        theirs = score.calc_ap(cumulative / count, cumulative / np.arange(1, 31))
        assert average_precision(hits, count) == pytest.approx(theirs)


class _Rendered:
    """What the toolkit asks of a renderer: the depth of the pose that it names by its translation."""

    def __init__(self, depths):
        self.depths = depths

    def render_object(self, obj_id, R, t, *intrinsics):
        return {"depth": self.depths[t[2].item()]}


@pytest.mark.parametrize("seed", range(5))
def test_visible_surface_discrepancy_agrees(seed):
    from bop_toolkit_lib import pose_error

    rng = np.random.default_rng(seed)
    truth, estimate = np.zeros((40, 50)), np.zeros((40, 50))
    truth[10:30, 10:35], estimate[12:32, 15:40] = rng.uniform(0.7, 0.73, (20, 25)), rng.uniform(0.7, 0.73, (20, 25))
    scene = np.where(rng.random((40, 50)) < 0.1, 0.0, rng.uniform(0.69, 0.8, (40, 50)))
    renderer = _Rendered({1.0: estimate, 2.0: truth})
    theirs = pose_error.vsd(np.eye(3), np.array([[0], [0], [1.0]]), np.eye(3), np.array([[0], [0], [2.0]]), scene, K,
                            VSD_DELTA, VSD_TAUS, True, 0.1, renderer, 1, "step")
    ours = vsd(*(distance_image(depth, K) for depth in (estimate, truth, scene)), diameter=0.1)
    assert ours == pytest.approx(np.array(theirs), abs=1e-12)
