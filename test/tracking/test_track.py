"""What a frame makes of a track."""

from types import SimpleNamespace

import numpy as np

from flowpose_ros.tracking.motion import Motion
from flowpose_ros.tracking.track import Track


def test_a_track_that_a_frame_does_not_show_rests_where_it_was_last():
    T, middle = np.eye(4), np.array([0.1, 0, 0])
    moving = Motion(T, 1, middle, velocity=np.array([0.2, 0, 0]), spin=np.array([0, 0, 1.0]))
    missed = Track(SimpleNamespace(label="mug", instance=0), moving).missed()
    assert not missed.confirmed and missed.motion.stamp_ns == 1
    assert np.array_equal(missed.motion.at(300_000_000), T)
    assert np.array_equal(missed.motion.middle, middle)
