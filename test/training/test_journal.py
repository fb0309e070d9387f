"""What a run writes down is whole, also when it was killed, and TensorBoard reads it too."""

import json
import sys

import numpy as np
import pytest

from training import journal as journal_module
from training.journal import Journal


def lines_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_that_goes_on_drops_the_lines_of_steps_that_it_takes_again(tmp_path):
    first = Journal(tmp_path / "run", "network", 0, 6)
    for step in (1, 2, 3, 4):
        first.line(step, {"loss": 1.0 / step})
    first.close()
    with (tmp_path / "run" / "log.jsonl").open("a") as out:
        out.write('{"step": 5, "seco')
    again = Journal(tmp_path / "run", "network", 2, 6)
    again.line(3, {"loss": 7.0})
    again.close()
    lines = lines_of(tmp_path / "run")
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 0.5), (3, 7.0)]
    assert all(line["seconds"] >= 0 for line in lines)


def test_without_tensorboard_a_run_says_once_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    journal = Journal(tmp_path, "network", 0, 2)
    for step in (1, 2):
        journal.line(step, {"loss": 1.0})
        journal.picture(step, lambda: pytest.fail("nobody can see it"))
    journal.close()
    said = capsys.readouterr().err
    assert said.count("pip install -r ros_from_pypi/requirements-training.txt") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_run_goes_on_without_a_tensorboard_that_fails(tmp_path, monkeypatch, capsys):
    class Full:
        def add_scalar(self, *figure):
            raise OSError("no space left")

    for step, writer in enumerate((lambda *folder: Full(), lambda *folder: Full().add_scalar()), start=1):
        monkeypatch.setattr(journal_module, "event_writer", writer)
        journal = Journal(tmp_path, "network", 0, 4)
        for line in (step, step + 1):
            journal.line(line, {"loss": 1.0, "epe": 2.0})
            journal.picture(line, lambda: pytest.fail("nobody can see it"))
        journal.close()
        assert capsys.readouterr().err.count("TensorBoard events are written: no space left") == 1
        assert len(lines_of(tmp_path)) == 2


def test_tensorboard_reads_figures_and_pictures_and_no_step_twice(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = Journal(tmp_path, "network", 0, 4)
    for step in (1, 2, 3):
        first.line(step, {"loss": float(step)})
    first.close()
    again = Journal(tmp_path, "network", 2, 4)
    again.line(3, {"loss": 30.0})
    again.picture(3, lambda: np.zeros((8, 16, 3), np.uint8))
    again.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    (image,) = events.Images("samples")
    assert (image.step, image.height, image.width) == (3, 8, 16)
