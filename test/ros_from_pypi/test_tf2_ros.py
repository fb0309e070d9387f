"""tf2_ros, the adapter or the real one: transforms published over DDS are looked up as upstream does it."""

import threading

import numpy as np
import pytest

pytest.importorskip("tf2_ros", reason="tf2_ros is not installed: `make setup` installs it")

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time
from tf2_ros import (
    Buffer,
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    StaticTransformBroadcaster,
    TransformBroadcaster,
    TransformException,
    TransformListener,
)

LATEST = Time()


def stamped(parent, child, seconds, xyz=(0.0, 0.0, 0.0), yaw=0.0):
    message = TransformStamped()
    message.header.frame_id, message.child_frame_id = parent, child
    message.header.stamp = Time(nanoseconds=round(seconds * 1e9)).to_msg()
    t, q = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = xyz
    q.w, q.z = np.cos(yaw / 2), np.sin(yaw / 2)
    return message


def at(seconds):
    return Time(nanoseconds=round(seconds * 1e9))


def seconds(message):
    return Time.from_msg(message.header.stamp).nanoseconds / 1e9


def xyz(message):
    t = message.transform.translation
    return [t.x, t.y, t.z]


def yaw(message):
    q = message.transform.rotation
    return 2 * np.arctan2(q.z, q.w)


@pytest.fixture
def moving():
    """camera moves 1 m and a quarter turn in one second; the mug is fixed in front of it."""
    buffer = Buffer()
    buffer.set_transform(stamped("map", "camera", 10.0, (0.0, 0.0, 0.0), 0.0), "test")
    buffer.set_transform(stamped("map", "camera", 11.0, (1.0, 0.0, 0.0), np.pi / 2), "test")
    buffer.set_transform_static(stamped("camera", "mug", 0.0, (0.5, 0.0, 0.0)), "test")
    return buffer


def test_pose_frame_and_stamp_arrive_over_dds(sender, receiver, spin_until):
    buffer = Buffer()
    TransformListener(buffer, receiver)
    broadcaster = TransformBroadcaster(sender)
    spin_until(lambda: broadcaster.pub_tf.get_subscription_count() == 1)
    broadcaster.sendTransform([stamped("camera", "mug_1", 5.25, (0.1, -0.2, 0.7), 0.3)])
    spin_until(lambda: buffer.can_transform("camera", "mug_1", LATEST))
    found = buffer.lookup_transform("camera", "mug_1", LATEST)
    assert (found.header.frame_id, found.child_frame_id) == ("camera", "mug_1")
    assert seconds(found) == 5.25
    np.testing.assert_allclose(xyz(found), [0.1, -0.2, 0.7], atol=1e-12)
    assert yaw(found) == pytest.approx(0.3)


def test_static_transforms_reach_a_late_listener(sender, receiver, spin_until):
    broadcaster = StaticTransformBroadcaster(sender)
    broadcaster.sendTransform(stamped("map", "table", 1.0, (1.0, 0.0, 0.0)))
    broadcaster.sendTransform(stamped("table", "camera", 1.0, (0.0, 2.0, 0.0)))
    buffer = Buffer()
    TransformListener(buffer, receiver)
    spin_until(lambda: buffer.can_transform("map", "camera", LATEST))
    np.testing.assert_allclose(xyz(buffer.lookup_transform("map", "camera", at(99.0))), [1, 2, 0], atol=1e-12)


@pytest.fixture
def receiver_by_default(ros_env):
    """A node of rclpy's default context, which the real listener's thread needs."""
    rclpy.init()
    yield rclpy.create_node("receiver_by_default")
    rclpy.try_shutdown()


def test_a_listener_may_spin_in_a_thread_of_its_own(sender, receiver_by_default):
    buffer = Buffer()
    TransformListener(buffer, receiver_by_default, spin_thread=True)
    broadcaster = StaticTransformBroadcaster(sender)
    broadcaster.sendTransform(stamped("map", "table", 1.0, (1.0, 0.0, 0.0)))
    found = buffer.lookup_transform("map", "table", LATEST, timeout=Duration(seconds=10))
    assert xyz(found) == [1.0, 0.0, 0.0]


def test_times_between_samples_are_interpolated(moving):
    found = moving.lookup_transform("map", "camera", at(10.5))
    np.testing.assert_allclose(xyz(found), [0.5, 0.0, 0.0], atol=1e-12)  # a straight line, not a screw
    assert yaw(found) == pytest.approx(np.pi / 4)


def test_chains_and_inverses_compose(moving):
    np.testing.assert_allclose(xyz(moving.lookup_transform("map", "mug", at(11.0))), [1.0, 0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(xyz(moving.lookup_transform("mug", "map", at(11.0))), [-0.5, 1.0, 0.0], atol=1e-12)


def test_zero_time_is_the_latest_common_one(moving):
    moving.set_transform(stamped("mug", "handle", 10.25), "test")
    found = moving.lookup_transform("map", "handle", LATEST)
    assert seconds(found) == 10.25
    np.testing.assert_allclose(xyz(moving.lookup_transform("camera", "handle", LATEST)), [0.5, 0, 0], atol=1e-12)


@pytest.mark.parametrize("outside", [9.0, 12.0])
def test_times_outside_the_samples_are_refused(moving, outside):
    with pytest.raises(ExtrapolationException):
        moving.lookup_transform("map", "mug", at(outside))


def test_unknown_and_unconnected_frames_are_told_apart(moving):
    moving.set_transform_static(stamped("other_map", "other_camera", 0.0), "test")
    with pytest.raises(LookupException, match="nowhere"):
        moving.lookup_transform("map", "nowhere", LATEST)
    with pytest.raises(ConnectivityException):
        moving.lookup_transform("map", "other_camera", LATEST)
    with pytest.raises(InvalidArgumentException):
        moving.lookup_transform("", "map", LATEST)
    assert issubclass(ConnectivityException, TransformException)


def test_a_look_up_waits_for_its_transform(moving):
    late = threading.Timer(0.1, moving.set_transform, (stamped("map", "camera", 12.0, (2.0, 0.0, 0.0)), "test"))
    late.start()
    found = moving.lookup_transform("map", "camera", at(12.0), timeout=Duration(seconds=10))
    late.join()
    assert xyz(found) == [2.0, 0.0, 0.0]


def test_can_transform_says_why_not(moving):
    possible, reason = moving.can_transform("map", "nowhere", LATEST, return_debug_tuple=True)
    assert not possible and "nowhere" in reason
    assert moving.can_transform("map", "mug", LATEST, Duration(), True)[0]


def test_a_new_parent_replaces_the_old_one(moving):
    moving.set_transform_static(stamped("table", "mug", 0.0, (0.0, 0.0, 3.0)), "test")
    assert xyz(moving.lookup_transform("table", "mug", LATEST)) == [0.0, 0.0, 3.0]
    with pytest.raises(TransformException):
        moving.lookup_transform("camera", "mug", LATEST)


def test_samples_older_than_the_cache_are_forgotten():
    buffer = Buffer(cache_time=Duration(seconds=2))
    for stamp in (1.0, 2.0, 5.0, 5.1):
        buffer.set_transform(stamped("map", "camera", stamp), "test")
    with pytest.raises(ExtrapolationException):
        buffer.lookup_transform("map", "camera", at(2.0))


def test_broken_rotations_are_ignored(moving):
    broken = stamped("map", "broken", 10.0)
    broken.transform.rotation.w = float("nan")
    moving.set_transform(broken, "test")
    with pytest.raises(LookupException):
        moving.lookup_transform("map", "broken", LATEST)
