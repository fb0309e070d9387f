import threading

from flowpose_ros.runtime.latest_slot import LatestSlot


def test_a_newer_item_replaces_the_one_nobody_took():
    slot = LatestSlot()
    assert slot.put("old") is None
    assert slot.put("new") == "old"
    assert slot.take(timeout=0) == "new"
    assert slot.take(timeout=0) is None


def test_an_item_wakes_the_taker():
    slot, got = LatestSlot(), []
    taker = threading.Thread(target=lambda: got.append(slot.take()))
    taker.start()
    slot.put("item")
    taker.join(timeout=10)
    assert got == ["item"]


def test_a_slot_is_idle_when_nothing_is_in_it_and_what_was_taken_is_done():
    slot = LatestSlot()
    assert slot.wait_idle(timeout=0)
    slot.put("item")
    assert not slot.wait_idle(timeout=0)
    slot.take()
    assert not slot.wait_idle(timeout=0)
    slot.done()
    assert slot.wait_idle(timeout=0)


def test_close_wakes_the_taker_and_refuses_items():
    slot, got = LatestSlot(), []
    taker = threading.Thread(target=lambda: got.append(slot.take()))
    taker.start()
    slot.close()
    taker.join(timeout=10)
    assert got == [None]
    assert slot.put("late") == "late"
    assert slot.take() is None
