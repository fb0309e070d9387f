"""The tree builds with colcon as a ROS 2 package and speaks of no particular machine."""

import ast
import configparser
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
COLCON = Path(sys.executable).with_name("colcon")
# Written in two halves so that this file does not hold what it looks for.
MACHINE_PATHS = ["/" + "work/", "/" + "tmp/dev", "/" + "root/", "." + "library"]
SHARED_FOLDERS = ["config", "launch", "demo"]
# Distributions whose module has another name; modules that only one renderer needs.
MODULES = {"opencv-python-headless": "cv2", "open3d-cpu": "open3d", "pillow": "PIL", "PyYAML": "yaml"}
OPTIONAL_MODULES = {"pyrender", "OpenGL"}
PUBLIC_INDEXES = ["pypi" + ".org", "pytorch" + ".org/whl", "pythonhosted" + ".org"]


def tracked_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [REPOSITORY / name for name in listed.stdout.split("\0") if name]


def test_no_file_names_a_machine_or_an_index():
    found = [
        f"{path.relative_to(REPOSITORY)}: {word}"
        for path in tracked_files()
        if path.is_file()
        for word in MACHINE_PATHS + PUBLIC_INDEXES
        if word.encode() in path.read_bytes()
    ]
    assert not found


def imported(*folders):
    """Top-level names of the modules that files below the folders import, the standard library left out."""
    nodes = [node for folder in folders for path in (REPOSITORY / folder).rglob("*.py")
             for node in ast.walk(ast.parse(path.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"flowpose_ros"}


def test_what_is_imported_is_declared():
    package = ElementTree.parse(REPOSITORY / "package.xml")
    ros = {depend.text for depend in package.iter("exec_depend")}
    assert {"rviz2", "rosbag2"} <= ros, "the launch files start these"
    assert imported("launch") <= ros
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    required = {MODULES.get(name, name) for name in setup["options"]["install_requires"].split()}
    assert imported("flowpose_ros") - ros - OPTIONAL_MODULES == required


@pytest.mark.parametrize("folder", SHARED_FOLDERS)
def test_source_distributions_hold_what_is_installed(folder):
    assert f"recursive-include {folder} *" in (REPOSITORY / "MANIFEST.in").read_text().splitlines()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A colcon workspace with a copy of the tracked files."""
    if not COLCON.exists():
        pytest.skip("colcon is not installed: `make setup` installs it")
    root = tmp_path_factory.mktemp("workspace")
    for path in tracked_files():
        if path.is_file():
            copy = root / "src" / "flowpose_ros" / path.relative_to(REPOSITORY)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    return root


def colcon(workspace, *arguments):
    environment = {**os.environ, "PATH": f"{COLCON.parent}:{os.environ['PATH']}"}
    command = [COLCON, *arguments, "--base-paths", "src/flowpose_ros"]
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_colcon_sees_an_ament_python_package(workspace):
    assert colcon(workspace, "list").split("\t") == ["flowpose_ros", "src/flowpose_ros", "(ros.ament_python)\n"]


@pytest.fixture(scope="module")
def prefix(workspace):
    """Where colcon has installed the package."""
    colcon(workspace, "build")
    return workspace / "install" / "flowpose_ros"


def tracked_below(folder):
    return [path.relative_to(REPOSITORY) for path in tracked_files() if path.is_relative_to(REPOSITORY / folder)]


def test_colcon_installs_the_package_markers(prefix):
    assert (prefix / "share/ament_index/resource_index/packages/flowpose_ros").is_file()
    assert (prefix / "share/flowpose_ros/package.xml").is_file()


@pytest.mark.parametrize("folder", SHARED_FOLDERS)
def test_colcon_installs_shared_files(prefix, folder):
    sources = tracked_below(folder)
    assert sources
    assert [path for path in sources if not (prefix / "share/flowpose_ros" / path).is_file()] == []


def test_colcon_installs_the_weights(prefix):
    packages = next(prefix.glob("lib/python*/site-packages"))
    sources = tracked_below("flowpose_ros/weights")
    assert [path for path in sources if not (packages / path).is_file()] == []


@pytest.mark.parametrize("program", ["estimator_node", "bop_player_node", "evaluator_node"])
def test_colcon_installs_the_nodes(prefix, program):
    assert os.access(prefix / "lib" / "flowpose_ros" / program, os.X_OK)


def test_an_installed_program_runs(prefix):
    environment = {**os.environ, "PYTHONPATH": str(next(prefix.glob("lib/python*/site-packages")))}
    command = [prefix / "lib" / "flowpose_ros" / "flowpose", "--help"]
    done = subprocess.run(command, env=environment, cwd=prefix, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "onboard" in done.stdout
