"""What was tried in vain waits, what is new does not."""

from dataclasses import replace

import numpy as np

from flowpose_ros.records import Detection
from flowpose_ros.tracking.rejections import KEPT_S, MOST_KEPT, Rejections

SECOND = 1_000_000_000
MUG = Detection("mug", np.array([100.0, 100, 200, 200]))


def tried(rejections, times, detection=MUG):
    """Seconds at which a detection that is seen ten times a second is tried."""
    at = [n / 10 for n in range(times) if not rejections.wait(detection, n * SECOND // 10, 1.0)
          and (rejections.add(detection, n * SECOND // 10), True)[1]]
    return at


def test_what_stays_where_it_is_is_tried_ever_more_rarely():
    assert tried(Rejections(), 300) == [0.0, 1.0, 3.0, 7.0, 15.0, 23.0]


def test_another_place_label_or_box_is_new():
    rejections = Rejections()
    rejections.add(MUG, SECOND)
    assert rejections.wait(MUG, SECOND + 1, 1.0)
    assert rejections.wait(replace(MUG, box=MUG.box + 5), SECOND + 1, 1.0)
    for other in (replace(MUG, label="can"), replace(MUG, box=MUG.box + 40), replace(MUG, box=MUG.box * [1, 1, 1.5, 1])):
        assert not rejections.wait(other, SECOND + 1, 1.0)


def test_what_was_long_ago_or_lies_ahead_is_forgotten():
    rejections = Rejections()
    rejections.add(MUG, 100 * SECOND)
    assert not rejections.wait(MUG, round((101 + KEPT_S) * SECOND), 1000.0)
    assert not rejections.wait(MUG, 1 * SECOND, 1000.0)
    rejections.clear()
    assert not rejections.wait(MUG, 100 * SECOND, 1000.0)


def test_memory_is_bounded():
    rejections = Rejections()
    for n in range(3 * MOST_KEPT):
        rejections.add(replace(MUG, label=str(n)), SECOND)
    assert len(rejections._rejected) == MOST_KEPT
