"""Launch and configuration files name only what exists, and are launched where there is `ros2 launch`."""

import ast
import configparser
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
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


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """This package in the ament index, as colcon puts it there."""
    for module in ("launch_ros", "ros2launch"):
        pytest.importorskip(module, reason=f"{module} comes with a ROS 2 distribution")
    share, programs = (tmp_path / "prefix" / folder / "flowpose_ros" for folder in ("share", "lib"))
    marker = tmp_path / "prefix" / "share" / "ament_index" / "resource_index" / "packages" / "flowpose_ros"
    for folder in (share, programs, marker.parent):
        folder.mkdir(parents=True)
    marker.touch()
    for folder in ("launch", "config"):  # copied: `ros2 launch` does not look into folders that are links
        shutil.copytree(REPOSITORY / folder, share / folder)
    for program in ("estimator_node", "bop_player_node", "evaluator_node"):
        (programs / program).symlink_to(Path(sys.executable).with_name(program))
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'prefix'}:{os.environ.get('AMENT_PREFIX_PATH', '')}")


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=by_name)
def test_launch_files_describe_a_launch(path, installed):
    spec = importlib.util.spec_from_file_location("launch_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate_launch_description().entities


def test_the_parameter_file_decides_where_an_argument_is_not_given(installed):
    from launch import LaunchContext

    spec = importlib.util.spec_from_file_location("launch_file", REPOSITORY / "launch" / "estimator.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for given in ({}, {"mode": "track", "rectified": "true"}):
        context = LaunchContext()
        defaults = {name: default or "" for name, (default, _) in module.ARGUMENTS.items()}
        context.launch_configurations.update(defaults | {"objects": "mugs"} | given)
        (node,) = module.estimator(context)
        stated = {name.perform(context) if hasattr(name, "perform") else "".join(part.perform(context) for part in name)
                  for name in node._Node__parameters[-1]}
        assert stated == {"objects", *given}


@pytest.fixture
def launch(installed, ros_env, tmp_path):
    """`launch(file, **arguments)` starts a launch file as users do; it has ended when the test has."""
    started = []

    def start(file, **arguments):
        words = [f"{name}:={value}" for name, value in arguments.items()]
        with (tmp_path / "launch.txt").open("wb") as output:
            started.append(subprocess.Popen(
                [shutil.which("ros2"), "launch", "flowpose_ros", file, *words], stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
                env={**ros_env, "AMENT_PREFIX_PATH": os.environ["AMENT_PREFIX_PATH"]}))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_demo_is_launched_and_ends_when_interrupted(launch, scene, client, wait_until, tmp_path):
    from vision_msgs.msg import Detection3DArray

    answers = []
    client.create_subscription(Detection3DArray, "/flowpose/poses", answers.append, 10)
    process = launch("demo.launch.py", dataset=scene, rviz="false")
    wait_until(lambda: answers and answers[-1].detections, "poses")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (0, -signal.SIGINT), (tmp_path / "launch.txt").read_text()
    assert (tmp_path / "launch.txt").read_text().count("process has finished cleanly") == 2


def test_a_bag_is_launched_and_scored(launch, scene, tmp_path):
    pytest.importorskip("rosbags", reason="rosbags is not installed: `make setup` installs it")
    from nodes.bags import write_bag

    write_bag(tmp_path / "clip", scene)
    process = launch("replay.launch.py", bag=tmp_path / "clip", objects=scene / "models", dataset=scene, play_rate=0.05,
                     scores=tmp_path / "scores.json")
    assert process.wait(120) == 0, (tmp_path / "launch.txt").read_text()
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert 0 < scores["answered"] <= scores["images"] <= 3


def test_the_middleware_gets_its_profile_before_any_program_starts():
    """Set in one file, which the others include first; what the user has set wins."""
    estimator, *others = sorted(LAUNCH_FILES, key=lambda path: path.name != "estimator.launch.py")
    variable = r'"FASTDDS_DEFAULT_PROFILES_FILE"'
    assert re.search(rf"SetEnvironmentVariable\({variable}, EnvironmentVariable\(\s*{variable}, default_value=",
                     estimator.read_text())
    assert "LaunchDescription([*declarations, profile, OpaqueFunction(" in estimator.read_text()
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
