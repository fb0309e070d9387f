"""The set-up script: installs what has changed and nothing else, and says what to do where it cannot."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "ros_from_pypi" / "setup_env.py"


@pytest.fixture
def setup_env(tmp_path, monkeypatch):
    """The script, at work in an empty folder."""
    spec = importlib.util.spec_from_file_location("setup_env", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "setup_env", module)
    spec.loader.exec_module(module)
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(module, "STAMPS", tmp_path / ".venv" / "setup_stamps.json")
    monkeypatch.setattr(module, "LOG", tmp_path / ".venv" / "setup.log")
    # Nothing here asks for pip, which takes most of the time of making an environment.
    monkeypatch.setattr(module, "make_venv", lambda clear: subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", *["--clear"] * clear, module.VENV], check=True))
    return module


@pytest.fixture
def steps(setup_env, tmp_path):
    """Two steps with an input file each, which write down that they ran."""
    ran = []
    files = [tmp_path / name for name in ("first.txt", "second.txt")]
    for path in files:
        path.write_text("1")
    made = [setup_env.Step(path.name, (path,), lambda path=path: ran.append(path.name)) for path in files]
    return made, ran


def test_the_second_call_installs_nothing(setup_env, steps):
    made, ran = steps
    assert setup_env.bring_up_to_date(made, "one kind")
    assert ran == ["first.txt", "second.txt"] and setup_env.PYTHON.exists()
    assert not setup_env.bring_up_to_date(made, "one kind")
    assert ran == ["first.txt", "second.txt"]


def test_a_changed_file_repeats_its_step_alone(setup_env, steps, tmp_path):
    made, ran = steps
    setup_env.bring_up_to_date(made, "one kind")
    (tmp_path / "second.txt").write_text("2")
    setup_env.bring_up_to_date(made, "one kind")
    assert ran == ["first.txt", "second.txt", "second.txt"]


def test_another_python_or_ros_starts_over(setup_env, steps):
    made, ran = steps
    setup_env.bring_up_to_date(made, "one kind")
    leftover = setup_env.VENV / "leftover"
    leftover.touch()
    setup_env.bring_up_to_date(made, "another kind")
    assert len(ran) == 4 and not leftover.exists()


def test_a_failed_step_is_tried_again_and_quotes_the_log(setup_env):
    code = "import sys; sys.exit('the index is not reachable')"
    broken = setup_env.Step("broken", (), lambda: setup_env.run_all(("-c", code)))
    for _ in range(2):
        with pytest.raises(setup_env.SetupError, match="the index is not reachable"):
            setup_env.bring_up_to_date([broken], "one kind")


def test_what_a_step_needs_ahead_runs_beside_the_steps_before(setup_env, tmp_path):
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    code = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(1); pathlib.Path({str(ended)!r}).touch()"
    seen = []

    def first():
        while not begun.exists():
            assert not setup_env.run("-c", "import time; time.sleep(0.05)")
        seen.append(ended.exists())

    made = [setup_env.Step("first", (), first),
            setup_env.Step("second", (), lambda: seen.append(ended.exists()), ahead=lambda: (("-c", code),))]
    setup_env.bring_up_to_date(made, "one kind")
    assert seen == [False, True]


def test_when_a_step_fails_nothing_is_left_running(setup_env, tmp_path):
    pid = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"

    def broken():
        while not pid.exists() or not pid.read_text():
            pass
        raise setup_env.SetupError("no")

    made = [setup_env.Step("broken", (), broken), setup_env.Step("slow", (), list, ahead=lambda: (("-c", code),))]
    with pytest.raises(setup_env.SetupError, match="no"):
        setup_env.bring_up_to_date(made, "one kind")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_command_that_fails_ahead_stops_the_set_up(setup_env):
    code = "import sys; sys.exit('does not compile')"
    ran = []
    broken = setup_env.Step("broken", (), lambda: ran.append(1), ahead=lambda: (("-c", code),))
    with pytest.raises(setup_env.SetupError, match="does not compile"):
        setup_env.bring_up_to_date([broken], "one kind")
    assert not ran


@pytest.mark.skipif(not Path("/usr/bin/dpkg-query").exists(), reason="asks Debian's package database")
def test_without_root_the_apt_command_is_named(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env, "SYSTEM_PACKAGES", ("flowpose-no-such-package",))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(setup_env.SetupError, match="sudo apt-get install .*flowpose-no-such-package"):
        setup_env.require_system_packages(None)


def test_a_distribution_counts_only_where_rclpy_can_be_imported(setup_env, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    assert setup_env.sourced_distribution() == ("kilted" if setup_env.importable("rclpy") else None)
    monkeypatch.setattr(setup_env, "importable", lambda name: name != "vision_msgs")
    assert setup_env.sourced_distribution() == "kilted"
    with pytest.raises(setup_env.SetupError, match="apt-get install ros-kilted-vision-msgs$"):
        setup_env.distribution_steps("kilted")


def test_the_library_path_of_another_environment_is_not_handed_on(setup_env, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    monkeypatch.delenv("_ROS_WHEELS_BOOTSTRAP_COMPLETE", raising=False)
    assert setup_env.clean_environment()["LD_LIBRARY_PATH"] == "/elsewhere"
    monkeypatch.setenv("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "1")
    assert "LD_LIBRARY_PATH" not in setup_env.clean_environment()
