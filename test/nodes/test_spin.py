"""How a program ends: its exit code and what it says, whatever its threads are doing."""

import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: `make setup` installs it")

PROGRAM = """
import sys, threading
from rclpy.node import Node
from flowpose_ros.errors import DeviceLostError
from flowpose_ros.nodes import spin

class Failing(Node):
    finished = False

    def __init__(self):
        super().__init__("failing")
        # As a frame that a lost GPU, or a slow CPU, does not finish.
        self._work = threading.Thread(target=threading.Event().wait, daemon=True)
        if sys.argv[2] == "busy":
            self._work.start()

    def begin(self, stopping):
        def fail():
            if sys.argv[1] == "lost":
                raise DeviceLostError("device cuda:0: expected an answer, got 'illegal memory access'")
            1 / 0
        self.create_timer(0.05, fail)

    def close(self):
        return not self._work.is_alive()

sys.exit(spin.run(Failing))
"""


@pytest.mark.parametrize("node", ["estimator_node", "bop_player_node", "evaluator_node", "replay_node"])
def test_help_says_how_parameters_are_given(ros_env, node):
    asked = subprocess.run([sys.executable, "-m", f"flowpose_ros.nodes.{node}", "--help"], env=ros_env,
                           capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0 and "-p NAME:=VALUE" in asked.stdout


@pytest.mark.parametrize("work", ["busy", "idle"])
@pytest.mark.parametrize("what, code, told", [("lost", 2, "error: device cuda:0: expected an answer"),
                                              ("bug", 1, "ZeroDivisionError")])
def test_a_node_that_fails_ends_with_an_error_code_and_the_reason(ros_env, what, code, told, work):
    ended = subprocess.run([sys.executable, "-c", PROGRAM, what, work], env=ros_env, capture_output=True, text=True,
                           timeout=60)
    assert ended.returncode == code and told in ended.stderr
