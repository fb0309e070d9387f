"""The program itself: what a user can mend is one line and a non-zero exit code."""

import pytest

from flowpose_ros.cli import doctor
from flowpose_ros.cli.main import main
from flowpose_ros.errors import OptionError


@pytest.mark.parametrize("error", [OptionError("too long"), PermissionError(13, "Permission denied", "poses.png")])
def test_expected_errors_are_one_line(monkeypatch, capsys, error):
    def fail(args):
        raise error

    monkeypatch.setattr(doctor, "run", fail)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == f"flowpose: {error}\n"


def test_ctrl_c_is_130(monkeypatch):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "run", interrupt)
    assert main(["doctor"]) == 130
