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


@pytest.fixture
def answers_to_ctrl_c():
    """The handler that gives it; tests may run where Ctrl-C is ignored."""
    def set_handler(handler):
        signal.signal(signal.SIGINT, handler)

    before = signal.getsignal(signal.SIGINT)
    yield set_handler
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_that_is_ignored_stays_so(answers_to_ctrl_c, monkeypatch):
    answers_to_ctrl_c(signal.SIG_IGN)
    monkeypatch.setattr(doctor, "run", lambda args: os.kill(os.getpid(), signal.SIGINT) or 0)
    monkeypatch.setattr(cli, "make_parser", lambda chosen, make=cli.make_parser: (
        os.kill(os.getpid(), signal.SIGINT), make(chosen))[1])
    assert main(["doctor"]) == 0


def test_ctrl_c_in_the_middle_of_the_imports_takes_effect_after_them(answers_to_ctrl_c, monkeypatch):
    answers_to_ctrl_c(signal.default_int_handler)
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
