import threading

import pytest

from flowpose_ros.runtime.worker import Worker


class Recorder:
    """Collects what a worker reports, and lets a test wait for it."""

    def __init__(self):
        self.results, self.errors, self.lost = [], [], []
        self._came = threading.Semaphore(0)

    def on_result(self, result):
        self.results.append(result)
        self._came.release()

    def on_error(self, item, error):
        self.errors.append((item, str(error)))
        self._came.release()

    def wait(self):
        assert self._came.acquire(timeout=10)


@pytest.fixture
def recorder():
    return Recorder()


def test_results_come_in_order(recorder):
    worker = Worker(lambda item: item * 2, recorder.on_result, recorder.on_error)
    worker.start()
    for item in (1, 2, 3):
        worker.slot.put(item)
        recorder.wait()
    assert worker.stop(timeout=10)
    assert recorder.results == [2, 4, 6]


def test_an_exception_is_reported_and_the_next_item_is_served(recorder):
    worker = Worker(lambda item: 1 / item, recorder.on_result, recorder.on_error)
    worker.start()
    for item in (0, 2):
        worker.slot.put(item)
        recorder.wait()
    assert worker.alive
    assert worker.stop(timeout=10)
    assert (recorder.results, recorder.errors) == ([0.5], [(0, "division by zero")])


def test_while_it_works_only_the_newest_waits(recorder):
    release, entered = threading.Event(), threading.Event()

    def slow(item):
        entered.set()
        release.wait(10)
        return item

    worker = Worker(slow, recorder.on_result, recorder.on_error)
    worker.start()
    worker.slot.put("first")
    assert entered.wait(10)
    assert worker.busy
    assert [worker.slot.put(item) for item in ("second", "third")] == [None, "second"]
    release.set()
    recorder.wait()
    recorder.wait()
    assert worker.stop(timeout=10)
    assert recorder.results == ["first", "third"]


def test_stop_returns_while_the_function_is_stuck(recorder):
    release, entered = threading.Event(), threading.Event()
    worker = Worker(lambda item: (entered.set(), release.wait(10)), recorder.on_result, recorder.on_error,
                    recorder.lost.append)
    worker.start()
    worker.slot.put("stuck")
    assert entered.wait(10)
    worker.slot.put("waiting")
    assert not worker.stop(timeout=0.05)
    assert recorder.lost == ["waiting"]
    release.set()
    assert worker.stop(timeout=10)
    assert recorder.lost == ["waiting", "stuck"]
    assert not recorder.results and not recorder.errors  # too late: its objects may be gone


def test_stop_before_start():
    assert Worker(print, print, print).stop(timeout=0)
