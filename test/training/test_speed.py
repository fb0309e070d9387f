"""The speed of a run, on a clock that the test moves."""

from types import SimpleNamespace

import pytest

from training import speed
from training.speed import FirstLook, Speed, Watched


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved: `clock.now += 1`."""
    moved = SimpleNamespace(now=100.0)
    monkeypatch.setattr(speed, "time", SimpleNamespace(monotonic=lambda: moved.now))
    return moved


def slow(clock, batches, seconds):
    """Batches that take their time to come."""
    for batch in batches:
        clock.now += seconds
        yield batch


def test_batches_are_passed_on_and_counted(clock):
    watched = Watched(slow(clock, "abc", 2.0), 5)
    assert list(watched) == ["a", "b", "c"]
    assert (watched.samples, watched.waited) == (15, 6.0)


def test_the_first_look_measures_from_the_first_step_on_and_tells_once(clock):
    fresh = Watched(slow(clock, range(100), 2.0), 6)
    used = Watched((batch for batch in fresh for _ in range(2)), 6)
    look, told = FirstLook(fresh, used, seconds=20.0), []
    for number, _ in enumerate(used):
        clock.now += 50.0 if number == 0 else 3.0  # the first step starts things
        if found := look.after_step():
            told.append((number, found))
    # Of every eight seconds two are waited for six samples, which are learnt from twice.
    assert told == [(6, Speed(made=6 / 8, learnt=12 / 8, waited=2 / 8))]


def test_a_line_says_when_the_run_is_over_and_what_it_waits_for():
    calm, short = Speed(2.0, 4.0, 0.1), Speed(2.0, 2.0, 0.6)
    rates = "2.0 samples/s made, 4.0 samples/s learnt"
    assert calm.line(6, None) == rates
    assert calm.line(6, 100, remedy="more workers") == f"{rates}; 100 steps more like these take 0:02:30"
    assert calm.line(6, 2, 7).endswith(", 7 by another loss come beside them")
    assert short.line(6, 9, remedy="more workers").endswith("\nwaiting for samples takes 60% of the time: more workers")
    assert "waiting" not in short.line(6, 100)
