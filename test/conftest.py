"""Fixtures shared by all tests: optional data, and real ROS processes on a domain of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from flowpose_ros.runtime.environment import private_ros_environment

REPOSITORY = Path(__file__).resolve().parents[1]

# How long an example takes says more of the machine's load than of what is tested.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def data_root():
    """Folder of the optional test data: FLOWPOSE_DATA, or ../shared/data beside the repository."""
    root = Path(os.environ.get("FLOWPOSE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no test data at {root}; set FLOWPOSE_DATA to the folder that holds it")
    return root


@pytest.fixture(scope="session")
def ros_env(tmp_path_factory):
    """Environment of every ROS process of this test run: this machine alone, a domain and a log folder of its own.

    It is also set for the test process, whose own rclpy contexts must meet those processes.
    """
    pytest.importorskip("rclpy", reason="rclpy is not installed: `make setup` installs it")
    logs = {"ROS_LOG_DIR": str(tmp_path_factory.mktemp("ros_log"))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**private_ros_environment(), **logs}.items():
            patch.setenv(name, value)
        yield dict(os.environ)


@pytest.fixture
def ros_context(ros_env):
    """An rclpy Context for the test itself, shut down at the end."""
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.try_shutdown(context=context)


class NodeProcess:
    """A node in a process of its own; its output goes to a file that a failed assertion can quote."""

    def __init__(self, module, arguments, environment, log):
        self.log = log
        self.judged = False  # the test has looked at the exit code
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def output(self):
        """What the process has printed so far."""
        return self.log.read_text(errors="replace")

    def stop(self, timeout=15):
        """Ask it to end as Ctrl-C does and hold it to exit code 0."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.wait(timeout)
        assert code == 0, f"exit code {code}:\n{self.output}"

    def wait(self, timeout=15):
        """Exit code of a process that ends by itself, for the test to judge."""
        self.judged = True
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s:\n{self.output}") from None

    def kill(self):
        """End it whatever state it is in."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def start_node(ros_env, tmp_path):
    """Start a node: `start_node("estimator_node", "--ros-args", ...)`.

    A node that the test has neither stopped nor waited for is stopped at the end and held to exit code 0.
    """
    started = []

    def start(name, *arguments):
        log = tmp_path / f"{name}_{len(started)}.log"
        started.append(NodeProcess(f"flowpose_ros.nodes.{name}", arguments, ros_env, log))
        return started[-1]

    yield start
    try:
        for node in started:
            if not node.judged:
                node.stop()
    finally:
        for node in started:
            node.kill()
