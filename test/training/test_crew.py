"""Scenes are worked through once, by processes that may end."""

import os
from functools import partial

import pytest

from training.crew import RECORD, kept_scenes, work_through

SEEDED = {"seed": 1, "weights": "ab"}


def test_what_is_made_of_scenes_is_kept_in_order_and_more_are_made_beside_it(tmp_path):
    work_through(tmp_path, SEEDED, 3, 2, partial, pow, 2)  # partial(pow, 2)(index)
    assert kept_scenes(tmp_path) == [1, 2, 4]
    (tmp_path / "000001.pt").unlink()
    before = (tmp_path / "000002.pt").stat().st_mtime_ns
    work_through(tmp_path, SEEDED, 5, 1, partial, pow, 2)
    assert kept_scenes(tmp_path) == [1, 2, 4, 8, 16] and (tmp_path / "000002.pt").stat().st_mtime_ns == before
    work_through(tmp_path, SEEDED, 2, 1, os._exit)  # they are there: nobody works


def test_scenes_of_other_settings_are_refused(tmp_path):
    work_through(tmp_path, SEEDED, 1, 1, partial, pow, 2)
    with pytest.raises(ValueError, match=r"expected scenes .* settings, got others \(seed: there 1, asked for 2\)"):
        work_through(tmp_path, SEEDED | {"seed": 2}, 2, 1, partial, pow, 2)
    (tmp_path / RECORD).unlink()  # as those of a time when nothing was said
    with pytest.raises(ValueError, match="seed: there None, asked for 1"):
        work_through(tmp_path, SEEDED, 2, 1, partial, pow, 2)
    assert kept_scenes(tmp_path) == [1]


@pytest.mark.timeout(60)
def test_a_process_that_ends_before_its_work_ends_the_command(tmp_path):
    with pytest.raises(ChildProcessError, match="expected 2 processes .*, got one that ended"):
        work_through(tmp_path, SEEDED, 4, 2, partial, os._exit)
