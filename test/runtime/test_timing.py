import pytest

from flowpose_ros.runtime.timing import Percentiles, Rate, StageTimes, percentiles


def test_percentiles_of_a_known_set():
    p = percentiles([float(n) for n in range(100, 0, -1)])
    assert (p.p50, p.p95, p.count) == (50.0, 95.0, 100)
    assert percentiles([3.0]) == Percentiles(3.0, 3.0, 1)


def test_stages_keep_their_order_and_only_the_window():
    times = StageTimes(window=3)
    for seconds in (9.0, 1.0, 2.0, 3.0):
        times.add({"coarse": seconds, "refine": seconds / 10})
    summary = times.summary()
    assert list(summary) == ["coarse", "refine"]
    assert summary["coarse"].count == 3
    assert summary["coarse"].p95 == 3.0


def test_rate_counts_the_window_only():
    now = [0.0]
    rate = Rate(window_s=2.0, clock=lambda: now[0])
    for tick in range(10):
        now[0] = tick * 0.5
        rate.tick()
    assert rate.hertz() == pytest.approx(2.0)
    now[0] = 100.0
    assert rate.hertz() == 0.0


def test_rate_just_after_the_start():
    now = [0.0]
    rate = Rate(window_s=10.0, clock=lambda: now[0])
    now[0] = 0.5
    rate.tick()
    assert rate.hertz() == pytest.approx(2.0)
