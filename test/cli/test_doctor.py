"""`flowpose doctor` on this machine, and on the same machine with one part spoilt."""

import json
import os
import subprocess
import sys

import pytest

from flowpose_ros.cli import doctor
from flowpose_ros.networks import weights


def flowpose(*arguments, **environment):
    command = [sys.executable, "-m", "flowpose_ros.cli.main", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of weights with one registered file, in place of the one that comes with the package."""
    (tmp_path / "net.safetensors").write_bytes(b"weights")
    registry = {"net.safetensors": weights.file_hash(tmp_path / "net.safetensors")}
    (tmp_path / weights.REGISTRY).write_text(json.dumps(registry))
    monkeypatch.setattr(weights, "shipped_folder", lambda: tmp_path)
    return tmp_path


def test_every_part_gets_a_line_and_every_problem_a_command(capsys):
    code = doctor.run(None)
    lines = capsys.readouterr().out.splitlines()
    statuses = [line.split()[0] for line in lines if not line.lstrip().startswith("->")]
    assert len(statuses) == len(doctor.CHECKS)
    assert sum(line.lstrip().startswith("->") for line in lines) == len(statuses) - statuses.count("OK")
    assert code == int("MISSING" in statuses)


def test_intact_weights_are_ok(shipped):
    assert doctor.weights().status == "OK"


def test_spoilt_weights_are_missing(shipped):
    (shipped / "net.safetensors").write_bytes(b"other")
    assert doctor.weights().status == "MISSING"
    (shipped / "net.safetensors").unlink()
    assert doctor.weights().status == "MISSING"


def test_weights_without_a_registry_are_missing(shipped):
    (shipped / weights.REGISTRY).unlink()
    assert doctor.weights().status == "MISSING"


def test_a_missing_profile_is_named(monkeypatch):
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/nowhere/profile.xml")
    finding = doctor.middleware()
    assert finding.status == "MISSING" and "/nowhere/profile.xml" in finding.detail
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE")
    assert doctor.middleware().status == "WARN"
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", doctor.middleware().mend.split("=")[1])
    assert doctor.middleware().status == "OK"


def test_a_module_that_cannot_load_is_missing(tmp_path, monkeypatch):
    (tmp_path / "open3d.py").write_text("raise OSError('libusb-1.0.so.0: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    finding = doctor.open3d()
    assert finding.status == "MISSING" and "libusb-1.0-0" in finding.mend


def test_a_missing_library_is_named(monkeypatch):
    assert doctor.libraries().status == "OK"
    monkeypatch.setitem(sys.modules, "rosbags", None)
    finding = doctor.libraries()
    assert finding.status == "MISSING" and "rosbags" in finding.detail and finding.mend == "make setup"


def test_help_lists_all_commands_without_their_libraries():
    script = "import sys; from flowpose_ros.cli.main import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert all(name in done.stdout for name in ("onboard", "estimate", "bop", "evaluate", "replay", "doctor", "demo"))
    assert done.stdout.splitlines()[-1] == "False"


def test_unknown_commands_are_refused_with_usage():
    done = flowpose("dance")
    assert done.returncode == 2
    assert "invalid choice: 'dance'" in done.stderr and "Traceback" not in done.stderr
