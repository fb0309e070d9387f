import threading

import pytest

from flowpose_ros.runtime.worker import Worker
from flowpose_ros.runtime.workers import Workers


class Jobs:
    """Two streams whose items are events that are waited for; any other ends its thread."""

    def __init__(self):
        self.begun, self.done = threading.Semaphore(0), []
        self.workers = Workers({name: self.make for name in ("frames", "detections")})
        self.workers.start()

    def make(self):
        return Worker(self.work, self.done.append, lambda item, error: self.die())

    def work(self, item):
        self.begun.release()
        assert item.wait(10)
        return item

    def die(self):
        raise SystemExit

    def give(self, name, item):
        self.workers[name].slot.put(item)
        assert self.begun.acquire(timeout=10)


@pytest.fixture
def jobs():
    jobs = Jobs()
    yield jobs
    jobs.workers.stop(0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_that_died_of_its_item_is_named_and_made_anew_and_the_others_stay(jobs):
    dead, other = jobs.workers["frames"], jobs.workers["detections"]
    assert jobs.workers.complete
    jobs.give("frames", "no event")
    dead._thread.join(10)
    assert not jobs.workers.complete and jobs.workers.busy
    assert jobs.workers.start() == ["frames"]
    assert jobs.workers.complete and not jobs.workers.busy
    assert jobs.workers["frames"] is not dead and jobs.workers["detections"] is other
    assert jobs.workers.start() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_all_are_waited_for_and_dead_ones_are_not(jobs):
    jobs.give("frames", "no event")
    jobs.workers["frames"]._thread.join(10)
    held = threading.Event()
    jobs.give("detections", held)
    assert not jobs.workers.wait_idle(0.05)
    held.set()
    assert jobs.workers.wait_idle(10) and jobs.done == [held]


def test_stopping_closes_all_and_waits_no_longer_than_it_is_told(jobs):
    held = threading.Event()
    jobs.give("frames", held)
    assert not jobs.workers.stop(0.05)
    assert len(jobs.workers.alive) == 1 and jobs.workers["detections"].slot.closed
    held.set()
    assert jobs.workers.stop(10) and not jobs.workers.alive
