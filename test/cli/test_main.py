"""The program itself: what a user can mend is one line and a non-zero exit code."""

import os
import signal
import subprocess
import sys

import pytest

from flowpose_ros.cli import doctor
from flowpose_ros.cli import main as cli
from flowpose_ros.errors import OptionError

main = cli.main


@pytest.mark.parametrize("error", [OptionError("name", "too long"), PermissionError(13, "Permission denied", "poses.png")])
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


def test_ctrl_c_in_the_middle_of_the_imports_takes_effect_after_them(monkeypatch):
    came = []

    def imported(chosen):
        os.kill(os.getpid(), signal.SIGINT)
        came.append("the rest of the import")

    monkeypatch.setattr(cli, "make_parser", imported)
    assert main(["doctor"]) == 130 and came
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_reads_no_further_is_told_nothing():
    program = [sys.executable, "-m", "flowpose_ros.cli.main", "--help"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
