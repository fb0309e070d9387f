"""Few frames that span whatever time has passed."""

import numpy as np

from flowpose_ros.records import Frame
from flowpose_ros.tracking.frame_trail import LIMIT, FrameTrail


def frames(count):
    K = np.array([[10.0, 0, 4], [0, 10.0, 4], [0, 0, 1]])
    return [Frame(np.zeros((8, 8, 3), np.uint8), K, stamp_ns=n + 1) for n in range(count)]


def test_frames_are_kept_from_start_to_stop_only():
    trail, (before, during, after) = FrameTrail(), frames(3)
    trail.add(before)
    trail.start()
    trail.add(during)
    assert trail.after(0) == [during]
    assert trail.after(during.stamp_ns) == []
    trail.stop()
    trail.add(after)
    assert trail.after(0) == []


def test_a_long_trail_is_thinned_and_keeps_its_newest_frame():
    trail = FrameTrail()
    trail.start()
    for frame in frames(1000):
        trail.add(frame)
    stamps = [frame.stamp_ns for frame in trail.after(0)]
    assert len(stamps) <= LIMIT and stamps == sorted(set(stamps))
    assert stamps[-1] == 1000 and stamps[0] < 600
