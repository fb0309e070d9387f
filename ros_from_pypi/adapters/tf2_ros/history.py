"""What one child frame was told about its parent over time."""

import bisect

import numpy as np
from pytransform3d.rotations import quaternion_slerp
from pytransform3d.transform_manager import TimeVaryingTransform
from pytransform3d.transformations import transform_from_pq

from tf2_ros.exceptions import ExtrapolationException


class History(TimeVaryingTransform):
    """The samples of `T_parent_child`, sorted by stamp; stamps are nanoseconds.

    Between two samples translations are interpolated linearly and rotations along the great arc,
    as tf2 does it (pytransform3d's own time series follows screw motions, which differ in between).
    """

    def __init__(self, parent, static, cache_ns):
        self.parent = parent
        self.static = static
        self._cache_ns = cache_ns
        self._stamps = []
        self._poses = []  # x, y, z, qw, qx, qy, qz

    @property
    def latest(self):
        """Newest stamp, nanoseconds."""
        return self._stamps[-1]

    def add(self, stamp, pose):
        """Keep one sample unless it repeats a stamp or is older than the cache; tell whether it was kept."""
        if self.static:
            self._stamps, self._poses = [stamp], [pose]
            return True
        if self._stamps and stamp < self.latest - self._cache_ns:
            return False
        at = bisect.bisect_left(self._stamps, stamp)
        if at < len(self._stamps) and self._stamps[at] == stamp:
            return False
        self._stamps.insert(at, stamp)
        self._poses.insert(at, pose)
        expired = bisect.bisect_left(self._stamps, self.latest - self._cache_ns)
        del self._stamps[:expired], self._poses[:expired]
        return True

    def as_matrix(self, query_time):
        """`T_parent_child` (4 x 4) at a stamp; raises ExtrapolationException outside the samples."""
        return transform_from_pq(self._pose_at(int(query_time)))

    def check_transforms(self):
        """Samples are checked as they come in; pytransform3d asks once, when the edge is made."""
        return self

    def _pose_at(self, stamp):
        if self.static:
            return self._poses[0]
        oldest, latest = self._stamps[0], self.latest
        if not oldest <= stamp <= latest:
            raise ExtrapolationException(
                f"Lookup would require extrapolation into the {'past' if stamp < oldest else 'future'}: "
                f"requested {stamp / 1e9:.6f} s, have {oldest / 1e9:.6f} s to {latest / 1e9:.6f} s "
                f"for a transform to parent [{self.parent}]"
            )
        after = bisect.bisect_left(self._stamps, stamp)
        if self._stamps[after] == stamp:
            return self._poses[after]
        before = after - 1
        ratio = (stamp - self._stamps[before]) / (self._stamps[after] - self._stamps[before])
        a, b = self._poses[before], self._poses[after]
        translation = (1 - ratio) * a[:3] + ratio * b[:3]
        return np.hstack([translation, quaternion_slerp(a[3:], b[3:], ratio, shortest_path=True)])
