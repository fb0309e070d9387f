"""One line that names what is missing."""

from flowpose_ros.runtime.watchdog import InputStatus, Watchdog


def status(topic, silent_s, received=0, publishers=(), needed=True):
    return InputStatus(topic, needed, received, silent_s, publishers)


FLOWING = status("/image", 0.1, 100, ("driver (best_effort)",))


def complain(watchdog, now, *inputs, busy=False, drops=None):
    return watchdog.complain(now, inputs, busy, drops or {})


def test_silence_before_the_patience_is_no_problem():
    assert complain(Watchdog(5.0, now=0.0), 4.9, status("/image", 4.9)) is None


def test_the_missing_input_is_named_with_its_publishers():
    watchdog = Watchdog(5.0, now=0.0)
    line = complain(watchdog, 5.5, FLOWING, status("/camera_info", 5.5),
                    status("/detections", 5.2, 12, ("yolo (reliable)",)))
    assert line == ("no result for 5.5 s: nothing on /camera_info ever (5.5 s), publishers: nobody publishes there; "
                    "nothing on /detections for 5.2 s, publishers: yolo (reliable)")
    assert watchdog.problem == line


def test_an_input_that_is_not_needed_is_not_missed():
    line = complain(Watchdog(5.0, now=0.0), 6.0, FLOWING, status("/depth", 6.0, needed=False), drops={"no_detections": 7})
    assert "every input arrives (/image, /depth)" in line and "no_detections 7" in line


def test_a_slow_frame_is_told_apart():
    watchdog = Watchdog(5.0, now=0.0)
    assert complain(watchdog, 19.0, FLOWING, busy=True) is None and watchdog.problem == ""
    assert "still being worked on" in complain(watchdog, 21.0, FLOWING, busy=True)


def test_the_same_cause_is_told_once_and_another_one_again():
    watchdog = Watchdog(5.0, now=0.0)
    assert complain(watchdog, 6.0, status("/image", 6.0))
    assert complain(watchdog, 7.0, status("/image", 7.0)) is None
    assert complain(watchdog, 8.0, status("/image", 8.0, 0, ("driver (reliable)",)))


def test_causes_that_take_turns_are_told_once_each():
    watchdog = Watchdog(5.0, now=0.0)
    told = [complain(watchdog, 26.0 + n, FLOWING, busy=n % 2 == 0) for n in range(20)]
    assert sum(line is not None for line in told) == 2


def test_a_result_ends_the_problem():
    watchdog = Watchdog(5.0, now=0.0)
    complain(watchdog, 6.0, status("/image", 6.0))
    watchdog.result(6.5)
    assert watchdog.problem == ""
    assert complain(watchdog, 11.0, status("/image", 4.5, 3)) is None
    assert complain(watchdog, 12.0, status("/image", 5.5, 3))


def test_patience_may_change_meanwhile():
    watchdog = Watchdog(5.0, now=0.0)
    watchdog.patience_s = 9.0
    assert complain(watchdog, 6.0, status("/image", 6.0)) is None
    watchdog.patience_s = 2.0
    assert complain(watchdog, 6.0, status("/image", 6.0))
