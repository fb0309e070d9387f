"""Objects followed from frame to frame, with detections that arrive whenever they like.

Two threads share a tracker. One follows: it takes every frame, and what a frame does not confirm gets no pose in it.
The other absorbs detections: those that no track explains are estimated, which takes seconds, and then carried
through the frames that came meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from flowpose_ros.errors import OptionError
from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.estimation.follow import Followed, Follower
from flowpose_ros.estimation.moved import FollowOptions
from flowpose_ros.options import Options, option
from flowpose_ros.records import Detection, Dropped, Frame, FrameResult, PoseEstimate
from flowpose_ros.tracking.association import lowest_free
from flowpose_ros.tracking.boxes import Boxes
from flowpose_ros.tracking.frame_trail import FrameTrail
from flowpose_ros.tracking.motion import Motion
from flowpose_ros.tracking.rejections import Rejections
from flowpose_ros.tracking.track import Track, match_detections, overlap

TWIN, TWIN_OVERLAP = 0.4, 0.5
"""Two tracks of an object nearer to each other than this share of its diameter, whose boxes share at least this much,
are one. Flat things that lie on each other are as near, but do not cover each other from the side."""
CATCH_UP_ROUNDS = 3
"""Frames keep coming while a late pose is carried through those that have come."""
MOST_PATIENCE = 5
"""So many estimates of a doubtful track each double the time until the next: what stays doubtful must not keep what is
new waiting."""


@dataclass(frozen=True)
class TrackerOptions(Options):
    """When a track is believed, audited and forgotten."""

    min_quality: float = option(0.5, "a frame that confirms less of an object than this gives no pose of it",
                                low=0.0, high=1.0)
    find_quality: float = option(0.6, "least confirmation that begins a track or finds it again", low=0.0, high=1.0)
    forget_s: float = option(10.0, "a track that no frame confirms for so long is forgotten, seconds", low=0.0,
                             high=3600.0)
    audit_s: float = option(1.0, "a track that is detected is judged again after so long, and a detection that led to no "
                                 "track tried again, seconds", low=0.0, high=3600.0)
    doubt_score: float = option(0.6, "a track with a lower score is estimated again, after audit_s and then ever more rarely",
                                low=0.0, high=1.0)
    min_overlap: float = option(0.3, "least overlap of boxes by which a track explains a detection", low=0.0, high=1.0)
    follow: FollowOptions = field(default_factory=FollowOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.find_quality < self.min_quality:  # what is found would be lost at once
            raise OptionError("find_quality", f"expected at least min_quality, {self.min_quality}, got {self.find_quality}")


class Tracker:
    """Follows catalogue objects; `options` may be replaced between frames."""

    def __init__(self, estimator: Estimator, options: TrackerOptions = TrackerOptions()) -> None:
        self.options = options
        self._estimator = estimator
        # Of its own: ray casting scenes are not shared between threads.
        self._renderers = {"follow": estimator.renderer(), "absorb": estimator.renderer()}
        self._follower = Follower(estimator.networks)
        self._boxes = Boxes(estimator.catalogue)
        self._trail = FrameTrail()
        self._rejections = Rejections()
        self._lock = threading.Lock()
        self._tracks: dict[tuple[str, int], Track] = {}
        self._age = 0

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All tracks, also those that the last frame did not confirm."""
        with self._lock:
            return tuple(self._tracks.values())

    def reset(self) -> None:
        """Forget all tracks; an estimate that is under way is not begun from either."""
        with self._lock:
            self._tracks.clear()
            self._age += 1
            self._rejections.clear()

    # The following thread

    def follow(self, frame: Frame) -> FrameResult:
        """The poses of all tracks that this frame confirms; the others are in `dropped`."""
        self._trail.add(frame)
        before = self.tracks
        poses = [track.motion.at(frame.stamp_ns) for track in before]
        found = self._follow(frame, before, poses, "follow")
        estimates, dropped, after = [], [], {}
        for track, result in zip(before, found):
            now = self._after(track, result, frame)
            after[track.key] = now
            if now.confirmed:
                estimates.append(self._estimate(now, result, frame))
            else:
                box = self._boxes.of(track.label, now.motion.T_cam_obj, frame.K)
                dropped.append(Dropped(Detection(track.label, box, instance=track.instance), "track_not_confirmed",
                                       f"{track.label}: the frame confirms {result.quality:.2f} of instance "
                                       f"{track.instance}, needed {self._needed(track):.2f}"))
        with self._lock:
            for track in before:
                current = self._tracks.get(track.key)
                # Unless the other thread has forgotten it or given it another pose meanwhile.
                if current is not None and current.motion is track.motion:
                    seen = after[track.key]
                    self._keep(replace(current, motion=seen.motion, confirmed=seen.confirmed, history=seen.history),
                               frame.stamp_ns)
            twins = self._twins(frame.K)
            for key in twins:
                del self._tracks[key]
        return FrameResult(tuple(e for e in estimates if (e.label, e.instance) not in twins), tuple(dropped))

    def _twins(self, K: np.ndarray) -> set[tuple[str, int]]:
        """Keys of tracks that have come to lie on an older one of the same object, as a camera of K [3,3] sees it."""
        live = [track for track in self._tracks.values() if track.confirmed]
        return {b.key for i, a in enumerate(live) for b in live[i + 1:] if self._same_place(a, b, K)}

    def _same_place(self, a: Track, b: Track, K: np.ndarray) -> bool:
        diameter = self._estimator.catalogue[a.label].mesh.diameter
        if a.label != b.label or np.linalg.norm(a.motion.place - b.motion.place) >= TWIN * diameter:
            return False
        return overlap(*(self._boxes.of(track.label, track.motion.T_cam_obj, K) for track in (a, b))) >= TWIN_OVERLAP

    def _needed(self, track: Track) -> float:
        return self.options.min_quality if track.confirmed else self.options.find_quality

    def _after(self, track: Track, result: Followed, frame: Frame) -> Track:
        if result.quality < self._needed(track):
            return track.missed()
        return track.seen(result.T_cam_obj, frame.stamp_ns)

    def _keep(self, track: Track, now_ns: int) -> None:
        # One of the future is from before the stamps jumped back.
        if track.confirmed or abs(now_ns - track.motion.stamp_ns) <= self.options.forget_s * 1e9:
            self._tracks[track.key] = track
        else:
            self._tracks.pop(track.key, None)

    def _estimate(self, track: Track, result: Followed, frame: Frame) -> PoseEstimate:
        detection = replace(track.estimate.detection, mask=None, instance=track.instance,
                            box=self._boxes.of(track.label, track.motion.T_cam_obj, frame.K))
        return replace(track.estimate, T_cam_obj=track.motion.T_cam_obj, covariance=result.covariance,
                       detection=detection)

    # The absorbing thread

    def absorb(self, frame: Frame, detections: Sequence[Detection]) -> tuple[Dropped, ...]:
        """Begin tracks for the detections of a frame that no track explains, one after the other; tracks that are
        explained are judged again. Returns the detections that led to no track, with the reason; these are tried again
        ever more rarely."""
        age = self._age
        dropped: list[Dropped] = []
        self._trail.start()
        try:
            for detection, doubted in self._work(frame, detections):
                if doubted is not None:
                    self._change(doubted.key, lambda current: current.retried(frame.stamp_ns))
                result = self._estimator.estimate(frame, [detection])
                in_vain = list(result.dropped)
                for estimate in result.estimates:
                    problem = self._begin(frame, estimate, doubted, age)
                    if problem is not None:
                        in_vain.append(Dropped(detection, "track_not_begun", f"{detection.label}: {problem}"))
                if in_vain and doubted is None:
                    self._reject(detection, frame.stamp_ns, age)
                dropped += in_vain
        finally:
            self._trail.stop()
        return tuple(dropped)

    def _work(self, frame: Frame, detections: Sequence[Detection]) -> list[tuple[Detection, Track | None]]:
        """Detections to estimate, and the doubtful track each is of, if any."""
        tracks = [track for track in self.tracks if track.confirmed]
        boxes = [self._boxes.of(track.label, track.pose_at(frame.stamp_ns), frame.K) for track in tracks]
        explained = match_detections(detections, boxes, [track.label for track in tracks], self.options.min_overlap)
        work: list[tuple[Detection, Track | None]] = []
        for i, detection in enumerate(detections):
            if i not in explained:
                if not self._rejections.wait(detection, frame.stamp_ns, self.options.audit_s):
                    work.append((detection, None))
            else:
                track = tracks[explained[i]]
                if self._audit(frame, track) < self.options.doubt_score and self._due(frame, track):
                    work.append((detection, track))
        return work

    def _due(self, frame: Frame, track: Track) -> bool:
        """Whether a doubtful track was estimated long enough ago."""
        patience_s = self.options.audit_s * 2 ** min(track.retries, MOST_PATIENCE)
        return frame.stamp_ns - track.estimated_ns >= patience_s * 1e9

    def _audit(self, frame: Frame, track: Track) -> float:
        """The track's score, judged in this frame if the last time is long ago; 1 if not."""
        if frame.stamp_ns - track.judged_ns < self.options.audit_s * 1e9:
            return 1.0
        # This frame's pose may not be known yet, and one of a frame before would be judged wrong.
        here = self._follow(frame, [track], [track.pose_at(frame.stamp_ns)], "absorb")[0]
        score = self._estimator.judge(frame, track.label, here.T_cam_obj)
        self._change(track.key, lambda current: replace(current, judged_ns=frame.stamp_ns,
                                                        estimate=replace(current.estimate, score=score)))
        return score

    def _change(self, key: tuple[str, int], changed: Callable[[Track], Track]) -> None:
        """Change a track, if it is still there."""
        with self._lock:
            if key in self._tracks:
                self._tracks[key] = changed(self._tracks[key])

    def _reject(self, detection: Detection, stamp_ns: int, age: int) -> None:
        """Remember a detection that was tried in vain, unless the tracks were reset since."""
        with self._lock:
            if age == self._age:
                self._rejections.add(detection, stamp_ns)

    def _begin(self, frame: Frame, estimate: PoseEstimate, doubted: Track | None, age: int) -> str | None:
        """Begin a track of an estimate, or continue the doubted one with it; None, or a sentence that says why not."""
        if doubted is not None and estimate.score <= self._score_of(doubted.key):
            return f"estimated again, score {estimate.score:.2f} is not better"
        mesh = self._estimator.catalogue[estimate.label].mesh
        track = Track(estimate, Motion(estimate.T_cam_obj, frame.stamp_ns, mesh.center), judged_ns=frame.stamp_ns,
                      estimated_ns=frame.stamp_ns, retries=0 if doubted is None else doubted.retries + 1)
        frames = [frame]
        for _ in range(CATCH_UP_ROUNDS):
            for newer in frames:
                result = self._follow(newer, [track], [track.motion.at(newer.stamp_ns)], "absorb")[0]
                if result.quality < self.options.find_quality:
                    return f"a frame confirms {result.quality:.2f} of it, needed {self.options.find_quality:.2f}"
                track = self._after(track, result, newer)
            frames = self._trail.after(track.motion.stamp_ns)
        with self._lock:
            if age != self._age:
                return "the tracks were reset meanwhile"
            others = (t for t in self._tracks.values() if t.confirmed and (doubted is None or t.key != doubted.key))
            if any(self._same_place(track, other, frame.K) for other in others):
                return "it was found again meanwhile"
            number = doubted.instance if doubted is not None else self._number(track)
            track = replace(track, estimate=replace(estimate, instance=number))
            self._tracks[track.key] = track
        return None

    def _score_of(self, key: tuple[str, int]) -> float:
        with self._lock:
            return self._tracks[key].estimate.score if key in self._tracks else 0.0

    def _number(self, track: Track) -> int:
        """A new track's number: the detector's; else that of the nearest track of the label that is out of sight;
        else a free one."""
        others = [other for other in self._tracks.values() if other.label == track.label]
        live = {other.instance for other in others if other.confirmed}
        given = track.estimate.detection.instance
        if given is not None and given not in live:
            return given
        lost = [other for other in others if not other.confirmed]
        if lost:
            return min(lost, key=lambda other: np.linalg.norm(other.motion.place - track.motion.place)).instance
        return lowest_free(live)

    def _follow(self, frame: Frame, tracks: Sequence[Track], poses: Sequence[np.ndarray], thread: str
                ) -> list[Followed]:
        targets = self._estimator.targets(frame, [t.label for t in tracks], self._renderers[thread])
        found = self._follower.follow(targets, poses, self.options.follow, self._estimator.options.fit)
        return [self._steady(track, result) for track, result in zip(tracks, found)]

    def _steady(self, track: Track, result: Followed) -> Followed:
        """Of symmetric poses the one nearest to the track's last: nothing spins that cannot be seen to."""
        T_cam_obj, covariance = self._estimator.catalogue[track.label].symmetries.nearest_with_covariance(
            result.T_cam_obj, result.covariance, track.motion.T_cam_obj)
        return replace(result, T_cam_obj=T_cam_obj, covariance=covariance)
