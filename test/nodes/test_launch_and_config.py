"""Launch and configuration files name only what exists."""

import ast
import configparser
import importlib.util
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted((REPOSITORY / "launch").glob("*.launch.py"))


def by_name(path):
    return path.name


def test_there_is_a_launch_file_for_each_purpose():
    assert [path.name for path in LAUNCH_FILES] == [
        "demo.launch.py", "estimator.launch.py", "replay.launch.py"]


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=by_name)
def test_launch_files_start_programs_of_this_package(path):
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    programs = set(re.findall(r"^(\w+) =", setup["options.entry_points"]["console_scripts"], re.MULTILINE))
    source = path.read_text()
    nodes = [{k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
             for call in ast.walk(ast.parse(source))
             if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Node"]
    own = [node["executable"] for node in nodes if node["package"] == "flowpose_ros"]
    assert own and set(own) <= programs


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=by_name)
def test_launch_files_name_files_that_are_installed(path):
    named = re.findall(r'SHARE / "(\w+)" / "([\w.]+)"', path.read_text())
    assert named
    for folder, name in named:
        assert (REPOSITORY / folder / name).is_file()


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=by_name)
def test_launch_files_describe_a_launch(path):
    pytest.importorskip("launch_ros", reason="launch comes with a ROS 2 distribution")
    spec = importlib.util.spec_from_file_location("launch_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate_launch_description().entities


def test_the_middleware_gets_its_profile_before_any_program_starts():
    """Set in one file, which the others include first; what the user has set wins."""
    estimator, *others = sorted(LAUNCH_FILES, key=lambda path: path.name != "estimator.launch.py")
    variable = r'"FASTDDS_DEFAULT_PROFILES_FILE"'
    assert re.search(rf"SetEnvironmentVariable\({variable}, EnvironmentVariable\(\s*{variable}, default_value=",
                     estimator.read_text())
    assert "LaunchDescription([*declarations, profile, estimator])" in estimator.read_text()
    for path in others:
        assert "LaunchDescription([*declarations, estimator, " in path.read_text(), path.name


def test_the_configuration_gives_the_node_its_own_parameters_and_defaults():
    pytest.importorskip("rclpy", reason="rclpy is not installed: `make setup` installs it")
    from flowpose_ros.nodes.estimator import OPTION_CLASSES

    defaults = {name: value for options in OPTION_CLASSES for name, value in asdict(options()).items()}
    configured = yaml.safe_load((REPOSITORY / "config" / "estimator.yaml").read_text())["/**"]["ros__parameters"]
    assert configured == {name: defaults[name] for name in configured}


def test_rviz_listens_to_the_nodes_topics():
    displays = yaml.safe_load((REPOSITORY / "config" / "flowpose.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert topics == {"/flowpose/markers", "/flowpose/overlay"}
