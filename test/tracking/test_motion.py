"""Where an object is expected next."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flowpose_ros.tracking.motion import HORIZON_S, SPIN_KEPT, Motion

MIDDLE = np.array([0.05, 0.0, 0.02])


def pose(place, turn):
    """T_cam_obj whose MIDDLE is at `place`, turned by a rotation vector."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    T[:3, 3] = np.asarray(place) - T[:3, :3] @ MIDDLE
    return T


def line(seconds):
    """An object that moves by 0.2 m/s and turns by 0.5 rad/s about its middle."""
    return pose((0.2 * seconds, 0.1, 0.8), (0, 0.5 * seconds, 0))


def watched(rounds=12, step_s=0.1):
    motion = Motion(line(0.0), 0, MIDDLE)
    for n in range(1, rounds + 1):
        motion = motion.moved(line(n * step_s), round(n * step_s * 1e9))
    return motion


def test_a_steady_motion_is_continued_and_a_turn_in_part():
    expected = pose((0.2 * 1.4, 0.1, 0.8), (0, 0.5 * (1.2 + SPIN_KEPT * 0.2), 0))
    assert np.allclose(watched().at(1_400_000_000), expected, atol=1e-3)


def test_a_turn_that_nothing_confirms_comes_to_rest():
    motion = Motion(line(0.0), 0, MIDDLE).moved(line(0.1), 100_000_000)
    for n in range(2, 40):  # seen wherever it is expected
        motion = motion.moved(motion.at(n * 100_000_000), n * 100_000_000)
    turned = Rotation.from_matrix(motion.T_cam_obj[:3, :3]).magnitude()
    assert np.linalg.norm(motion.spin) < 1e-3 and turned < 2 * 0.5 * 0.1


def test_no_motion_is_continued_beyond_the_horizon_or_backwards():
    motion = watched()
    assert np.allclose(motion.at(60_000_000_000), motion.at(round((1.2 + HORIZON_S) * 1e9)))
    assert np.allclose(motion.at(0), motion.T_cam_obj)


@pytest.mark.parametrize("stamp_s", [1.2, 0.3, 1.2 + 2 * HORIZON_S])
def test_after_a_gap_or_a_stamp_that_is_not_later_the_object_rests(stamp_s):
    motion = watched().moved(line(3.0), round(stamp_s * 1e9))
    assert not motion.velocity.any() and not motion.spin.any()
    assert np.allclose(motion.at(motion.stamp_ns + 300_000_000), line(3.0))
