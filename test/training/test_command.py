"""Command lines end with one line and a code for what their user can mend, and say what data there is."""

import signal
import sys

import pytest

from training import pair_sheet
from training.command import command
from training.pools import Backgrounds, tell_data
from training.signals import PATIENCE, signals_kept


@pytest.mark.parametrize("error, code, said", [
    (ValueError("crop: expected more"), 2, "train: crop: expected more\n"),
    (FileNotFoundError("no mesh"), 2, "train: no mesh\n"), (KeyboardInterrupt(), 130, "")])
def test_what_a_user_can_mend_is_one_line(error, code, said, monkeypatch, capsys):
    @command
    def main():
        raise error

    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code and capsys.readouterr().err == said


def test_what_nobody_foresaw_keeps_its_trace():
    with pytest.raises(ZeroDivisionError):
        command(lambda: 1 / 0)()


def test_who_does_not_wait_sends_more_signals():
    sent = []
    with pytest.raises(KeyboardInterrupt), signals_kept() as came:
        for _ in range(PATIENCE + 5):
            signal.raise_signal(signal.SIGINT)
            sent.append(len(came))
    assert sent == list(range(1, PATIENCE + 1))


def test_the_data_that_there_is_is_told_and_a_folder_that_is_none_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FLOWPOSE_DATA", str(tmp_path))
    for name in ("mug", "box"):
        (tmp_path / "meshes" / name).mkdir(parents=True)
    (tmp_path / "meshes" / "mug" / "mesh.ply").touch()
    tell_data()
    assert capsys.readouterr().err == f"{tmp_path}: 1 meshes, 0 photographs\n"
    monkeypatch.setenv("FLOWPOSE_DATA", str(tmp_path / "no_data"))
    with pytest.raises(ValueError, match="FLOWPOSE_DATA: expected a folder, got .*no_data"):
        tell_data()


@pytest.mark.parametrize("broken", ["[{", '[{"path": "a.jpg"}]', "3"])
def test_a_broken_manifest_is_named(broken, tmp_path):
    (tmp_path / "backgrounds").mkdir()
    (tmp_path / "backgrounds" / "manifest.json").write_text(broken)
    with pytest.raises(ValueError, match="manifest.json: expected a list of entries with a file each"):
        Backgrounds(tmp_path)


def test_a_sheet_that_cannot_be_written_is_an_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FLOWPOSE_DATA", str(tmp_path))
    asked = f"{tmp_path / 'no' / 'sheet.png'} --crop 32 --count 1"
    monkeypatch.setattr(sys, "argv", ["pair_sheet.py", *asked.split()])
    with pytest.raises(SystemExit) as ended:
        pair_sheet.main()
    assert ended.value.code == 2 and "sheet.png: expected a place to write a picture to" in capsys.readouterr().err
