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


def test_close_wakes_the_taker_and_refuses_items():
    slot, got = LatestSlot(), []
    taker = threading.Thread(target=lambda: got.append(slot.take()))
    taker.start()
    slot.close()
    taker.join(timeout=10)
    assert got == [None]
    assert slot.put("late") == "late"
    assert slot.take() is None
