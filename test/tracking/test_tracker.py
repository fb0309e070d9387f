"""Tracks on the demo clip, with the shipped weights: begun, followed, lost, found again, and forgotten."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.estimation.estimator_options import EstimatorOptions
from flowpose_ros.estimation.follow import Followed, Follower
from flowpose_ros.estimation.moved import FollowOptions
from flowpose_ros.estimation.networks import load_networks
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.geometry.symmetry import SymmetryAxis, SymmetryGroup
from flowpose_ros.records import Detection, Dropped, FrameResult, PoseEstimate
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.tracking.motion import Motion
from flowpose_ros.tracking.track import Track, match_detections, overlap
from flowpose_ros.tracking.tracker import Tracker, TrackerOptions

STEP_NS = 100_000_000


@pytest.fixture(scope="module")
def clip(whole_clip):
    """The first images of the demo clip."""
    return whole_clip[:7]


@pytest.fixture(scope="module")
def whole_clip():
    """The demo clip, ten images a second."""
    dataset = BopDataset(Path(__file__).resolve().parents[2] / "demo")
    return [replace(sample, frame=replace(sample.frame, stamp_ns=(n + 1) * STEP_NS))
            for n, sample in enumerate(dataset.samples())]


@pytest.fixture(scope="module")
def shared():
    dataset = BopDataset(Path(__file__).resolve().parents[2] / "demo")
    return Estimator(dataset.catalogue, EstimatorOptions())


@pytest.fixture
def estimator(shared, monkeypatch):
    """The estimator, but for its estimates: the truth, so that these tests are about tracking."""
    monkeypatch.setattr(shared, "estimate", lambda frame, detections: FrameResult(
        tuple(PoseEstimate(d.label, 0, d.truth, 0.9, np.eye(6), d) for d in detections)))
    return shared


class Told(Detection):
    """A detection that comes with the pose that an estimate is to give."""


def told(sample, turn_deg=0.0):
    found = []
    for truth, detection in zip(sample.ground_truth, sample.detections):
        told = Told(detection.label, detection.box)
        T = truth.T_cam_obj.copy()
        T[:3, :3] = T[:3, :3] @ Rotation.from_euler("x", turn_deg, degrees=True).as_matrix()
        object.__setattr__(told, "truth", T)
        found.append(told)
    return found


def hidden(frame, shift_ns=0):
    """The frame with something near before everything."""
    noise = np.random.default_rng(0).integers(60, 120, frame.image.shape, dtype=np.uint8)
    return replace(frame, image=noise, depth=np.full_like(frame.depth, 0.2), stamp_ns=frame.stamp_ns + shift_ns)


def begun(estimator, sample, **options):
    tracker = Tracker(estimator, TrackerOptions(**options))
    assert tracker.absorb(sample.frame, told(sample)) == ()
    return tracker


def check_poses(result, sample, millimetres=5.0, degrees=3.0):
    for truth in sample.ground_truth:
        T = next(e.T_cam_obj for e in result.estimates if e.label == truth.label)
        turn = Rotation.from_matrix(T[:3, :3].T @ truth.T_cam_obj[:3, :3]).magnitude()
        assert 1000 * np.linalg.norm(T[:3, 3] - truth.T_cam_obj[:3, 3]) < millimetres
        assert np.degrees(turn) < degrees


def test_every_object_is_followed_under_its_own_name(estimator, clip):
    tracker = begun(estimator, clip[0])
    for sample in clip[1:]:
        result = tracker.follow(sample.frame)
        assert [(e.label, e.instance) for e in result.estimates] == [(t.label, 0) for t in sample.ground_truth]
        assert result.dropped == ()
        check_poses(result, sample)
        assert all(np.isfinite(e.covariance).all() for e in result.estimates)


def test_without_depth_too(estimator, clip):
    tracker = Tracker(estimator)
    flat = [replace(sample, frame=replace(sample.frame, depth=None)) for sample in clip]
    tracker.absorb(flat[0].frame, told(flat[0]))
    for sample in flat[1:4]:
        check_poses(tracker.follow(sample.frame), sample, millimetres=60, degrees=10)


def test_a_frame_that_shows_nothing_gives_no_pose_and_the_next_finds_all_again(estimator, clip):
    tracker = begun(estimator, clip[0])
    tracker.follow(clip[1].frame)
    lost = tracker.follow(hidden(clip[2].frame))
    assert lost.estimates == () and {d.reason for d in lost.dropped} == {"track_not_confirmed"}
    assert "obj_000001: the frame confirms 0.0" in lost.dropped[0].detail
    check_poses(tracker.follow(clip[3].frame), clip[3])


def test_a_covered_lens_confirms_nothing(estimator, clip):
    tracker = begun(estimator, clip[0])
    dark = replace(clip[1].frame, image=np.full_like(clip[1].frame.image, 3), depth=None)
    assert tracker.follow(dark).estimates == ()
    check_poses(tracker.follow(clip[1].frame), clip[1])


@pytest.mark.parametrize("depth", [True, False], ids=["RGB-D", "RGB"])
def test_after_twenty_images_of_something_else_all_are_found_again_within_five(estimator, whole_clip, depth):
    clip = whole_clip if depth else [replace(s, frame=replace(s.frame, depth=None)) for s in whole_clip]
    tracker = begun(estimator, clip[0])
    assert len(tracker.follow(clip[1].frame).estimates) == 3
    for sample, unseen in zip(clip[2:22], whole_clip[2:22]):
        covered = hidden(unseen.frame)
        assert tracker.follow(replace(covered, depth=covered.depth if depth else None)).estimates == ()
    back, found = [replace(clip[n], frame=replace(clip[n].frame, stamp_ns=(23 + k) * STEP_NS))
                   for k, n in enumerate((23, 22, 21, 20, 19))], []
    for sample in back:
        result = tracker.follow(sample.frame)
        found.append(sorted((e.label, e.instance) for e in result.estimates))
        if len(found) == 1:  # the detector sees them too, and its detections come while the next image is followed
            assert tracker.absorb(sample.frame, told(sample)) == ()
    assert found[-1] == [(t.label, 0) for t in back[-1].ground_truth]
    if depth:
        check_poses(result, back[-1])


def test_a_track_that_stays_out_of_sight_is_forgotten(estimator, clip):
    tracker = begun(estimator, clip[0], forget_s=1.0)
    tracker.follow(hidden(clip[1].frame))
    assert len(tracker.tracks) == 3
    tracker.follow(hidden(clip[1].frame, shift_ns=1_200_000_000))
    assert tracker.tracks == ()


def test_a_lost_track_is_forgotten_when_the_stamps_jump_far_back(estimator, clip):
    late = replace(clip[0], frame=replace(clip[0].frame, stamp_ns=20_000_000_000))
    tracker = begun(estimator, late, forget_s=1.0)
    tracker.follow(hidden(clip[1].frame))
    assert tracker.tracks == ()


def test_what_becomes_of_a_track_while_a_frame_is_followed_stays(estimator, clip, monkeypatch):
    tracker = begun(estimator, clip[0])
    follow, elsewhere = tracker._follow, np.eye(4)

    def meanwhile(*arguments):
        with tracker._lock:
            moved, gone, _ = tracker._tracks.values()
            tracker._tracks[moved.key] = moved.seen(elsewhere, clip[1].frame.stamp_ns)
            del tracker._tracks[gone.key]
        return follow(*arguments)

    monkeypatch.setattr(tracker, "_follow", meanwhile)
    assert len(tracker.follow(clip[1].frame).estimates) == 3
    first, last = tracker.tracks
    assert first.motion.T_cam_obj is elsewhere
    assert last.motion.stamp_ns == clip[1].frame.stamp_ns and last.label == "obj_000003"


def test_detections_of_what_is_followed_begin_nothing(estimator, clip):
    tracker = begun(estimator, clip[0])
    tracker.follow(clip[1].frame)
    monitored = tracker.tracks
    assert tracker.absorb(clip[1].frame, told(clip[1])) == ()
    assert tracker.tracks == monitored


def test_a_late_estimate_is_carried_through_the_frames_that_came_meanwhile(estimator, clip, monkeypatch):
    tracker, estimate = Tracker(estimator), estimator.estimate

    def slow(frame, detections):
        for sample in clip[1:5]:
            tracker.follow(sample.frame)
        return estimate(frame, detections)

    monkeypatch.setattr(estimator, "estimate", slow)
    assert tracker.absorb(clip[0].frame, told(clip[0])[:1]) == ()
    assert [t.motion.stamp_ns for t in tracker.tracks] == [clip[4].frame.stamp_ns]
    result = tracker.follow(clip[5].frame)
    assert np.linalg.norm(result.estimates[0].T_cam_obj[:3, 3] - clip[5].ground_truth[0].T_cam_obj[:3, 3]) < 0.005


def test_of_several_late_estimates_each_is_carried_through_all_frames_since(estimator, clip, monkeypatch):
    tracker, estimate, coming = Tracker(estimator), estimator.estimate, iter(clip[1:])

    def slow(frame, detections):
        for _ in range(2):
            tracker.follow(next(coming).frame)
        return estimate(frame, detections)

    carried, follow = {}, tracker._follow

    def watched(frame, tracks, poses, thread):
        if thread == "absorb":
            carried.setdefault(tracks[0].label, []).append(frame.stamp_ns // STEP_NS)
        return follow(frame, tracks, poses, thread)

    monkeypatch.setattr(estimator, "estimate", slow)
    monkeypatch.setattr(tracker, "_follow", watched)
    assert tracker.absorb(clip[0].frame, told(clip[0])) == ()
    assert carried == {"obj_000001": [1, 2, 3], "obj_000002": [1, 2, 3, 4, 5], "obj_000003": [1, 2, 3, 4, 5, 6, 7]}


def test_objects_followed_together_go_where_each_goes_alone(estimator, clip):
    tracker = begun(estimator, clip[0])
    tracks, poses = tracker.tracks, [track.motion.T_cam_obj for track in tracker.tracks]
    together = tracker._follow(clip[1].frame, tracks, poses, "follow")
    for track, pose, found in zip(tracks, poses, together):
        alone = tracker._follow(clip[1].frame, [track], [pose], "follow")[0]
        # Not equal to the last digit: each draws other samples for the fit to the depth. A nearly round thing may turn
        # by a degree between them.
        assert np.abs(alone.T_cam_obj - found.T_cam_obj)[:3, :3].max() < 0.025
        assert np.abs(alone.T_cam_obj - found.T_cam_obj)[:3, 3].max() < 2e-3
        assert alone.quality == pytest.approx(found.quality, abs=0.02)


def test_an_estimate_that_the_frame_does_not_confirm_begins_no_track(estimator, clip):
    tracker = Tracker(estimator)
    dropped = tracker.absorb(clip[0].frame, told(clip[0], turn_deg=90)[:1])
    assert [d.reason for d in dropped] == ["track_not_begun"] and tracker.tracks == ()
    assert "needed 0.60" in dropped[0].detail


def test_a_reset_while_an_object_is_estimated_leaves_no_track(estimator, clip, monkeypatch):
    tracker, estimate = Tracker(estimator), estimator.estimate
    monkeypatch.setattr(estimator, "estimate", lambda *a: tracker.reset() or estimate(*a))
    dropped = tracker.absorb(clip[0].frame, told(clip[0])[:1])
    assert "reset" in dropped[0].detail and tracker.tracks == ()


def test_a_reset_just_before_a_detection_is_remembered_as_vain_forgets_it_too(estimator, clip, monkeypatch):
    tracker, detection = Tracker(estimator), told(clip[0])[0]
    lock = tracker._lock

    @contextmanager
    def after_a_reset():
        tracker._lock = lock
        tracker.reset()
        with lock:
            yield

    def in_vain(frame, detections):
        tracker._lock = after_a_reset()
        return FrameResult((), (Dropped(detection, "low_score", "too low"),))

    monkeypatch.setattr(estimator, "estimate", in_vain)
    tracker.absorb(clip[0].frame, [detection])
    assert not tracker._rejections.wait(detection, clip[0].frame.stamp_ns, first_s=1.0)


def test_a_doubtful_track_is_estimated_again_and_keeps_its_name(estimator, clip, monkeypatch):
    tracker = begun(estimator, clip[0], audit_s=0.0)
    monkeypatch.setattr(estimator, "judge", lambda frame, label, T: 0.2 if label == "obj_000002" else 0.9)
    assert tracker.absorb(clip[0].frame, told(clip[0])) == ()
    scores = {t.key: t.estimate.score for t in tracker.tracks}
    assert scores == {("obj_000001", 0): 0.9, ("obj_000002", 0): 0.9, ("obj_000003", 0): 0.9}


def test_a_track_that_stays_doubtful_is_estimated_again_ever_more_rarely(estimator, clip, monkeypatch):
    tracker, estimate, estimated = begun(estimator, clip[0], audit_s=0.1), estimator.estimate, []
    monkeypatch.setattr(estimator, "judge", lambda frame, label, T: 0.4)
    for n in range(1, 17):
        frame = replace(clip[0].frame, stamp_ns=clip[0].frame.stamp_ns + n * STEP_NS)
        monkeypatch.setattr(estimator, "estimate", lambda *a: estimated.append(n) or estimate(*a))
        tracker.absorb(frame, told(clip[0])[:1])
    assert estimated == [1, 3, 7, 15]
    assert len(tracker.tracks) == 3


def test_a_doubtful_track_is_estimated_again_in_a_frame_in_which_it_was_judged(estimator, clip, monkeypatch):
    tracker, estimate, estimated = begun(estimator, clip[0], audit_s=0.1), estimator.estimate, []
    monkeypatch.setattr(estimator, "judge", lambda frame, label, T: 0.4)
    for milliseconds in (100, 250, 300, 350):  # at 250 the last estimate is too new, at 300 the last judgement
        frame = replace(clip[0].frame, stamp_ns=clip[0].frame.stamp_ns + milliseconds * 1_000_000)
        monkeypatch.setattr(estimator, "estimate", lambda *a: estimated.append(milliseconds) or estimate(*a))
        tracker.absorb(frame, told(clip[0])[:1])
    assert estimated == [100, 350]


def test_a_second_box_on_an_object_is_estimated_ever_more_rarely_and_what_is_new_at_once(estimator, clip, monkeypatch):
    tracker, estimate, estimated = begun(estimator, clip[0], audit_s=100.0), estimator.estimate, []
    tracker.options = replace(tracker.options, audit_s=0.1)
    first = told(clip[0])
    monkeypatch.setattr(estimator, "judge", lambda frame, label, T: 0.9)
    monkeypatch.setattr(estimator, "estimate", lambda frame, found: estimated.append(found[0].label) or estimate(frame, found))
    for n in range(1, 9):
        frame = replace(clip[0].frame, stamp_ns=clip[0].frame.stamp_ns + n * STEP_NS)
        dropped = tracker.absorb(frame, [first[0], first[0]])
        assert len(tracker.tracks) == 3 and all("found again" in d.detail for d in dropped)
    assert estimated == 4 * ["obj_000001"]  # after one, two and four tenths of a second
    tracker.reset()
    tracker.absorb(frame, first[:1])
    assert len(tracker.tracks) == 1


def test_a_good_track_is_judged_good_before_it_was_followed_into_the_frame(estimator, clip):
    tracker = begun(estimator, clip[0], audit_s=0.0)
    tracker.absorb(clip[3].frame, told(clip[3]))
    for track in tracker.tracks:
        assert track.judged_ns == clip[3].frame.stamp_ns and track.estimate.score > 0.5, track.key


def test_two_instances_get_two_numbers_and_a_twin_none(estimator, clip):
    tracker = begun(estimator, clip[0])
    track = tracker.tracks[0]
    elsewhere = track.estimate.T_cam_obj.copy()
    elsewhere[0, 3] += 1.0
    with tracker._lock:
        second = replace(track, motion=Motion(elsewhere, track.motion.stamp_ns, track.motion.middle))
        assert tracker._number(second) == 1
        twin = replace(track, estimate=replace(track.estimate, instance=1))
        tracker._tracks[twin.key] = twin
    result = tracker.follow(clip[1].frame)
    assert sorted((e.label, e.instance) for e in result.estimates) == [(f"obj_00000{n}", 0) for n in (1, 2, 3)]


@pytest.mark.parametrize("by, same", [((0.1, 0, 0), True), ((0, 0, 0.39), True), ((0.39, 0, 0), False)],
                         ids=["nearly there", "behind it", "beside it"])
def test_things_that_touch_are_two_and_poses_of_one_thing_are_one(estimator, clip, by, same):
    tracker = begun(estimator, clip[0])
    track = next(t for t in tracker.tracks if t.label == "obj_000002")
    moved = track.motion.T_cam_obj.copy()
    moved[:3, 3] += np.array(by) * estimator.catalogue["obj_000002"].mesh.diameter
    other = replace(track, motion=Motion(moved, track.motion.stamp_ns, track.motion.middle))
    assert tracker._same_place(track, other, clip[0].frame.K) == same


def bare_tracker(**catalogue):
    """A tracker that looks at no image."""
    return Tracker(SimpleNamespace(catalogue=catalogue, renderer=RaycastRenderer, networks=load_networks("", "cpu")))


def arm(x, instance, turn_deg=0.0, given=None, confirmed=True):
    """The track of an arm whose middle, 1 m from its origin, is at x; given: the detector's number."""
    middle, T = np.array([1.0, 0, 0]), np.eye(4)
    T[:3, :3] = Rotation.from_euler("z", turn_deg, degrees=True).as_matrix()
    T[:3, 3] = np.array([x, 0, 2]) - T[:3, :3] @ middle
    estimate = SimpleNamespace(label="arm", instance=instance, detection=Detection("arm", np.zeros(4), instance=given))
    return Track(estimate, Motion(T, 1, middle), confirmed=confirmed)


def test_to_be_found_again_a_track_needs_more_than_to_stay():
    tracker, track = bare_tracker(), arm(0, 0)
    found = Followed(track.motion.T_cam_obj, 0.55, np.eye(6))  # between min_quality and find_quality
    assert tracker._after(track, found, SimpleNamespace(stamp_ns=2)).confirmed
    assert not tracker._after(track.missed(), found, SimpleNamespace(stamp_ns=2)).confirmed


def test_what_comes_back_gets_the_number_of_the_lost_track_whose_middle_is_nearest():
    tracker = bare_tracker()
    known = arm(0, 0), arm(0.1, 1, confirmed=False), arm(1.9, 2, confirmed=False)
    tracker._tracks = {track.key: track for track in known}
    # Turned by half, its origin lies beside that of number 2.
    assert tracker._number(arm(0, -1, turn_deg=180)) == 1


@pytest.mark.parametrize("given, number", [(0, 1), (1, 1), (7, 7), (None, 1)])
def test_the_detectors_number_is_kept_unless_a_track_in_sight_has_it(given, number):
    tracker = bare_tracker()
    tracker._tracks = {track.key: track for track in (arm(0, 0), arm(3, 1, confirmed=False))}
    assert tracker._number(arm(1, -1, given=given)) == number


def test_what_looks_the_same_from_all_sides_does_not_spin():
    group = SymmetryGroup(np.zeros((0, 4, 4)), (SymmetryAxis(np.array([0.0, 0, 1]), np.zeros(3)),))
    tracker = bare_tracker(can=SimpleNamespace(symmetries=group))
    T = np.eye(4)
    T[2, 3] = 0.5
    spun = T.copy()
    spun[:3, :3] = Rotation.from_euler("zx", (70, 4), degrees=True).as_matrix()
    track = Track(PoseEstimate("can", 0, T, 1.0, np.eye(6), Detection("can", np.zeros(4))),
                  Motion(T, 1, np.zeros(3)))
    now = tracker._after(track, tracker._steady(track, Followed(spun, 0.9, np.eye(6))), SimpleNamespace(stamp_ns=2))
    turn = Rotation.from_matrix(now.motion.T_cam_obj[:3, :3]).magnitude()
    assert now.confirmed and np.degrees(turn) == pytest.approx(4, abs=0.1)


def test_following_nothing_gives_nothing():
    assert Follower(load_networks("", "cpu")).follow([], [], FollowOptions(), None) == []


def test_detections_and_boxes_are_paired_by_overlap_and_label():
    box = np.array([10.0, 10, 30, 30])
    near, far = box + 4, box + 100
    detections = [Detection("mug", near), Detection("mug", box), Detection("can", box), Detection("mug", far)]
    assert match_detections(detections, [box, box], ["mug", "can"], 0.3) == {1: 0, 2: 1}
    assert overlap(box, box) == 1 and overlap(box, far) == 0
