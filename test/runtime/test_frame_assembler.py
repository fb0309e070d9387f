"""Frames from messages: matching, newest first, bounded, and alive after a bag's loop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpose_ros.errors import OptionError
from flowpose_ros.runtime.frame_assembler import IMAGE_LEFT_OUT, AssemblerOptions, FrameAssembler, Stream

MS = 1_000_000
START = 1_000_000 * MS


def feed(assembler, *events):
    """Add (stream letter, milliseconds) events whose message is the event itself; the frames made."""
    streams = {"i": Stream.IMAGE, "c": Stream.INFO, "z": Stream.DEPTH, "d": Stream.DETECTIONS, "m": Stream.MASKS}
    made = [assembler.add(streams[letter], START + int(ms * MS), (letter, ms)) for letter, ms in events]
    return [bundle for bundle in made if bundle]


def rgb_assembler(**options):
    assembler = FrameAssembler(AssemblerOptions(**options), depth="off")
    feed(assembler, ("c", 0))
    return assembler


def test_equal_stamps_make_a_frame_in_any_order():
    for order in ("icd", "dci", "cid", "idc", "dic", "cdi"):
        frames = feed(FrameAssembler(depth="off"), *((letter, 5) for letter in order))
        assert [(f.stamp_ns, f.image, f.info, f.detections, f.depth) for f in frames] == [
            (START + 5 * MS, ("i", 5), ("c", 5), ("d", 5), None)]


def test_stamps_match_within_the_slop_and_not_beyond():
    assert feed(rgb_assembler(slop_s=0.01), ("i", 0), ("d", 10))
    assert not feed(rgb_assembler(slop_s=0.01), ("i", 0), ("d", 10.001))


def test_late_detections_go_to_their_own_image_not_to_the_newest():
    frames = feed(rgb_assembler(slop_s=0.02), ("i", 0), ("i", 16), ("d", 0))
    assert frames[0].image == ("i", 0)


def test_the_newest_complete_frame_wins_and_older_images_are_counted():
    assembler = FrameAssembler(depth="off")
    frames = feed(assembler, ("i", 0), ("d", 0), ("i", 33), ("i", 66), ("d", 66), ("c", 66))
    assert [f.image for f in frames] == [("i", 66)]
    assert assembler.drops == {"superseded": 1, "no_detections": 1}


def test_an_image_older_than_the_last_frame_is_stale():
    assembler = rgb_assembler()
    assert len(feed(assembler, ("i", 50), ("d", 50), ("i", 10), ("d", 10))) == 1
    assert assembler.drops == {"stale": 1, "detections_late": 1}


def test_detections_of_two_detectors_on_one_topic_come_in_any_order():
    assembler = rgb_assembler()
    quick = [("d", 33 * n, 33 * n + 50) for n in range(60)]
    slow = [("d", 33 * n, 33 * n + 250) for n in range(0, 60, 3)]
    events = sorted([*quick, *slow, *(("i", 33 * n, 33 * n) for n in range(60))], key=lambda event: event[2])
    assert len(feed(assembler, *(event[:2] for event in events))) == 60
    assert assembler.epoch == 0 and set(assembler.drops) == {"detections_late"}


def test_detections_that_find_no_image_are_counted():
    assembler = rgb_assembler(queue_size=3)
    assert not feed(assembler, *((letter, 33 * n + (16 if letter == "d" else 0)) for n in range(10) for letter in "id"))
    assert assembler.drops == {"no_detections": 7, "detections_unmatched": 7}


def test_detections_that_met_an_image_in_a_round_before_are_counted_when_they_find_none_in_this():
    assembler = rgb_assembler(queue_size=1)
    feed(assembler, ("i", 0), ("d", 0), ("i", -500), ("d", 0), ("d", 33))
    assert assembler.epoch == 1 and assembler.drops == {"detections_unmatched": 1}


def test_options_may_be_replaced_meanwhile():
    assembler = rgb_assembler(slop_s=0.01)
    assert not feed(assembler, ("i", 0), ("d", 16))
    assembler.options = AssemblerOptions(slop_s=0.02)
    assert feed(assembler, ("i", 33), ("d", 49))


def test_images_without_detections_fall_out_of_the_full_queue():
    assembler = rgb_assembler(queue_size=3)
    assert not feed(assembler, *(("i", 33 * n) for n in range(10)))
    assert assembler.queued(Stream.IMAGE) == 3
    assert assembler.drops == {"no_detections": 7}


def test_images_without_camera_info_say_so():
    assembler = FrameAssembler(AssemblerOptions(queue_size=1), depth="off")
    feed(assembler, ("i", 0), ("d", 0), ("i", 33), ("d", 33))
    assert assembler.drops == {"no_camera_info": 1}


def test_of_images_with_the_same_stamp_one_is_taken_and_the_others_are_counted():
    assembler = rgb_assembler()
    assert len(feed(assembler, ("i", 0), ("i", 0), ("d", 0))) == 1
    assert assembler.drops == {"same_stamp": 1}


def test_where_no_detections_are_needed_every_image_makes_a_frame():
    assembler = FrameAssembler(depth="auto", detections=False)
    frames = feed(assembler, ("c", 0), *((letter, 33 * n) for n in range(5) for letter in "izd"))
    assert [(f.image, f.depth, f.detections) for f in frames] == [
        (("i", 33 * n), ("z", 33 * n), None) for n in range(5)]
    assert not assembler.drops and assembler.queued(Stream.DETECTIONS) == 0


def test_a_message_without_a_stamp_is_counted():
    assembler = rgb_assembler()
    assert assembler.add(Stream.IMAGE, 0, "image") is None
    assert assembler.add(Stream.DETECTIONS, -5, "detections") is None
    assert assembler.drops == {"image_without_stamp": 1, "detections_without_stamp": 1}


def test_a_looping_bag_goes_on():
    # message_filters starves here: its full queue evicts the smallest stamp, the newest message
    assembler = rgb_assembler(queue_size=4)
    loop = [(letter, 33 * n) for n in range(20) for letter in "id"]
    epochs = {frame.epoch: [] for frame in feed(assembler, *loop)}
    for _ in range(3):
        for frame in feed(assembler, *loop):
            epochs.setdefault(frame.epoch, []).append(frame.image[1])
    assert assembler.epoch >= 3
    assert [len(stamps) for stamps in epochs.values()][1:] == [20, 20, 20]


def test_a_loop_goes_on_when_late_messages_of_the_last_round_arrive_after_the_jump():
    assembler = rgb_assembler()
    feed(assembler, ("i", 900), ("d", 900), ("i", 933), ("i", 0), ("d", 933), ("d", 0))
    frames = feed(assembler, ("i", 33), ("d", 33))
    assert [f.image for f in frames] == [("i", 33)]


def test_one_stamp_from_the_future_does_not_block():
    assembler = rgb_assembler()
    feed(assembler, ("i", 0), ("d", 0), ("i", 10_000_000), ("d", 10_000_000))
    assert [f.image for f in feed(assembler, ("i", 33), ("d", 33), ("i", 66), ("d", 66))][-1] == ("i", 66)


def test_depth_is_awaited_where_somebody_publishes_it():
    assembler = FrameAssembler()
    frames = feed(assembler, ("c", 0), ("i", 0), ("d", 0), ("z", 0))
    assert [f.depth for f in frames] == [("z", 0)]


def test_images_nearer_together_than_the_slop_share_depth():
    assembler = FrameAssembler(AssemblerOptions(slop_s=0.015))
    frames = feed(assembler, ("c", 0), ("z", 0), ("i", 0), ("d", 0), ("i", 10), ("d", 10))
    assert [(f.image, f.depth) for f in frames] == [(("i", 0), ("z", 0)), (("i", 10), ("z", 0))]


def test_depth_that_never_came_is_awaited_anew_after_a_jump_back():
    assembler = FrameAssembler(AssemblerOptions(patience_s=0.1))
    assert not feed(assembler, ("c", 0), ("i", 1000), ("i", 0), ("d", 0))
    assert [f.depth for f in feed(assembler, ("z", 0))] == [("z", 0)]


def test_depth_is_not_awaited_where_nobody_publishes_it():
    assembler = FrameAssembler()
    assembler.published = set()
    assert [f.depth for f in feed(assembler, ("c", 0), ("i", 0), ("d", 0))] == [None]


def test_an_image_that_depth_has_passed_goes_on_without():
    assembler = FrameAssembler()
    frames = feed(assembler, ("c", 0), ("i", 0), ("d", 0), ("z", 33))
    assert [(f.image, f.depth) for f in frames] == [(("i", 0), None)]


def test_silent_depth_is_awaited_only_for_the_patience():
    assembler = FrameAssembler(AssemblerOptions(patience_s=0.1))
    events = [(letter, 33 * n) for n in range(6) for letter in "cid"]
    frames = feed(assembler, ("z", 0), *events)
    assert [(f.image[1], f.depth) for f in frames] == [(0, ("z", 0)), (132, None), (165, None)]


def test_required_depth_is_awaited_for_ever():
    assembler = FrameAssembler(AssemblerOptions(patience_s=0.1, queue_size=2), depth="on")
    assert not feed(assembler, *((letter, 33 * n) for n in range(50) for letter in "cid"))
    assert set(assembler.drops) == {"no_depth"}


def test_masks_are_awaited_where_somebody_publishes_them():
    events = [(letter, 0) for letter in "cidzm"]
    assert [f.masks for f in feed(FrameAssembler(masks="auto"), *events)] == [("m", 0)]
    assert [f.masks for f in feed(FrameAssembler(masks="off"), *events)] == [None]
    assert [f.masks for f in feed(FrameAssembler(masks="on"), ("c", 0), ("i", 0), ("d", 0), ("z", 0), ("i", 33),
                                  ("d", 33), ("z", 33), ("m", 33))] == [("m", 33)]
    unpublished = FrameAssembler(masks="auto")
    unpublished.published = {Stream.DEPTH}
    assert [f.masks for f in feed(unpublished, *events)] == [None]


def test_images_that_lack_required_masks_say_so():
    assembler = FrameAssembler(AssemblerOptions(queue_size=1), depth="off", masks="on")
    assert not feed(assembler, *((letter, 33 * n) for n in range(3) for letter in "cid"))
    assert assembler.drops == {"no_masks": 2}


def test_options_out_of_range_are_refused():
    with pytest.raises(OptionError, match="slop_s.*at most 1.0.*got 2"):
        AssemblerOptions(slop_s=2.0)


events = st.lists(st.tuples(st.sampled_from("icdzdm"), st.integers(-1_000_500, 2000)), max_size=200)


MODES = st.sampled_from(["off", "auto", "on"])


@given(events, MODES, MODES, st.integers(1, 5), st.booleans())
def test_every_image_is_accounted_for_and_queues_stay_bounded(events, depth, masks, queue_size, detections):
    options = AssemblerOptions(queue_size=queue_size)
    assembler = FrameAssembler(options, depth, detections, masks)
    frames = []
    for event in events:
        frames += feed(assembler, event)
        assert all(assembler.queued(s) <= queue_size for s in Stream if s is not Stream.INFO)
    lost = sum(assembler.drops[reason] for reason in IMAGE_LEFT_OUT)
    assert assembler.received[Stream.IMAGE] == len(frames) + lost + assembler.queued(Stream.IMAGE)
    for frame in frames:
        assert not detections or abs(frame.image[1] - frame.detections[1]) <= options.slop_s * 1000
        for extra, mode in ((frame.depth, depth), (frame.masks, masks)):
            assert extra is None or abs(frame.image[1] - extra[1]) <= options.slop_s * 1000
            assert (extra is not None) >= (mode == "on") and (extra is None) >= (mode == "off")
    for earlier, later in zip(frames, frames[1:]):
        assert later.stamp_ns > earlier.stamp_ns or later.epoch > earlier.epoch


@given(events)
def test_whatever_came_before_a_steady_camera_gets_frames(events):
    assembler = FrameAssembler()
    feed(assembler, *events)
    # at worst each input jumps back once, and one round may be spent on that
    steady = [(letter, 500_000 + 33 * n) for n in range(4) for letter in "cizmd"]
    assert len(feed(assembler, *steady)) >= 3
