"""Two nodes of one process that talk over DDS."""

import time

import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed: `make setup` installs it")
from rclpy.executors import SingleThreadedExecutor  # noqa: E402


@pytest.fixture
def sender(ros_context):
    node = rclpy.create_node("sender", context=ros_context)
    yield node
    node.destroy_node()


@pytest.fixture
def receiver(ros_context):
    node = rclpy.create_node("receiver", context=ros_context)
    yield node
    node.destroy_node()


@pytest.fixture
def spin_until(ros_context, receiver):
    """`spin_until(condition)` serves the receiver until the condition holds; fails after `timeout` seconds."""
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(receiver)

    def spin(condition, timeout=10.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "nothing arrived in time"
            executor.spin_once(timeout_sec=0.05)

    yield spin
    executor.shutdown()
