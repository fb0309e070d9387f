"""The frames heard of so far, and the transform between any two of them at any time."""

import threading

import numpy as np
from geometry_msgs.msg import TransformStamped
from pytransform3d.transform_manager import TemporalTransformManager
from pytransform3d.transformations import pq_from_transform
from rclpy.duration import Duration
from rclpy.time import Time

from tf2_ros.exceptions import (
    ConnectivityException,
    InvalidArgumentException,
    LookupException,
    TransformException,
)
from tf2_ros.history import History

UNIT_QUATERNION_TOLERANCE = 1e-2  # of the squared norm, as in tf2


class Buffer:
    """Keeps the transforms of the last `cache_time` (default 10 s) and answers look-ups; safe between threads.

    The frame graph and the composition along it are pytransform3d's; each edge is one child's History.
    A child whose parent changes forgets its history.
    """

    def __init__(self, cache_time=None, node=None):
        self._cache_ns = (cache_time or Duration(seconds=10)).nanoseconds
        self._changed = threading.Condition()
        self.clear()

    def clear(self):
        """Forget everything."""
        with self._changed:
            self._graph = TemporalTransformManager()
            self._edges = {}  # child frame -> History

    def set_transform(self, transform, authority):
        """Take over one TransformStamped; tell whether it was usable and new."""
        return self._set(transform, static=False)

    def set_transform_static(self, transform, authority):
        """Take over one TransformStamped that holds at all times."""
        return self._set(transform, static=True)

    def lookup_transform(self, target_frame, source_frame, time, timeout=Duration()):
        """`T_target_source` at `time` as a TransformStamped; a zero time means the latest common one.

        Raises InvalidArgumentException, LookupException, ConnectivityException or ExtrapolationException
        when the transform has not become available within `timeout`.
        """
        self.can_transform(target_frame, source_frame, time, timeout)
        with self._changed:
            return self._lookup(target_frame, source_frame, time)

    def can_transform(self, target_frame, source_frame, time, timeout=Duration(), return_debug_tuple=False):
        """Tell whether the look-up would succeed, waiting up to `timeout` for it; on request also why not."""
        with self._changed:
            reason = ""

            def available():
                nonlocal reason
                try:
                    self._lookup(target_frame, source_frame, time)
                except TransformException as error:
                    reason = str(error)
                    return False
                return True

            done = self._changed.wait_for(available, timeout.nanoseconds / 1e9)
        return (done, "" if done else reason) if return_debug_tuple else done

    def _set(self, message, static):
        parent, child = _frame(message.header.frame_id), _frame(message.child_frame_id)
        pose = _pose(message.transform)
        if parent == child or not _is_rigid(pose):
            return False
        with self._changed:
            edge = self._edges.get(child)
            if edge is None or (edge.parent, edge.static) != (parent, static):
                if edge is not None:
                    self._graph.remove_transform(child, edge.parent)
                edge = self._edges[child] = History(parent, static, self._cache_ns)
                self._graph.add_transform(child, parent, edge)
            kept = edge.add(Time.from_msg(message.header.stamp).nanoseconds, pose)
            self._changed.notify_all()
        return kept

    def _lookup(self, target_frame, source_frame, time):
        target, source = _frame(target_frame), _frame(source_frame)
        stamp = time.nanoseconds or self._latest_common_stamp(target, source)
        try:
            T_target_source = self._graph.get_transform_at_time(source, target, stamp)
        except KeyError:
            raise self._missing(target, source) from None
        return _message(T_target_source, target, source, stamp)

    def _latest_common_stamp(self, target, source):
        """Newest time at which every moving edge between the two frames has a sample; 0 if none moves."""
        path = set(self._ancestry(target)) ^ set(self._ancestry(source))
        moving = [self._edges[frame].latest for frame in path if frame in self._edges and not self._edges[frame].static]
        return min(moving, default=0)

    def _ancestry(self, frame):
        seen = [frame]
        while frame in self._edges and self._edges[frame].parent not in seen:
            frame = self._edges[frame].parent
            seen.append(frame)
        return seen

    def _missing(self, target, source):
        for frame in (target, source):
            if frame not in self._graph.nodes:
                return LookupException(f"Unknown frame [{frame}]; known: {sorted(self._graph.nodes)}")
        return ConnectivityException(f"No chain of transforms joins [{source}] and [{target}]")


def _frame(name):
    """Frame name without the leading slash that old code still writes."""
    name = name.lstrip("/")
    if not name:
        raise InvalidArgumentException("A frame name is empty")
    return name


def _pose(transform):
    t, q = transform.translation, transform.rotation
    return np.array([t.x, t.y, t.z, q.w, q.x, q.y, q.z])


def _is_rigid(pose):
    return bool(np.isfinite(pose).all()) and abs(pose[3:] @ pose[3:] - 1) < UNIT_QUATERNION_TOLERANCE


def _message(T_target_source, target, source, stamp):
    message = TransformStamped()
    message.header.stamp = Time(nanoseconds=stamp).to_msg()
    message.header.frame_id = target
    message.child_frame_id = source
    t, q = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z, q.w, q.x, q.y, q.z = pq_from_transform(T_target_source).tolist()
    return message
