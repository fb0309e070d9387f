"""A small scene in BOP layout, rendered here, and a client that listens as a robot would."""

import threading
import time
from collections import defaultdict

import pytest

from nodes.scene import write_scene


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    """Folder of a dataset in BOP layout: one scene of three RGB-D images with two objects."""
    root = tmp_path_factory.mktemp("bop")
    write_scene(root, images=3)
    return root


@pytest.fixture
def client(ros_context):
    """A node of the test's own, spinning in a thread."""
    rclpy = pytest.importorskip("rclpy")
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    node = rclpy.create_node("test_client", context=ros_context)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)

    def spin():
        try:
            executor.spin()
        except ExternalShutdownException:
            pass

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(10)
    node.destroy_node()


@pytest.fixture
def counts(client):
    """The latest values of the node's diagnostics, as they come."""
    from diagnostic_msgs.msg import DiagnosticArray

    values = defaultdict(lambda: "0")
    client.create_subscription(DiagnosticArray, "/diagnostics", lambda message: values.update(
        {value.key: value.value for value in message.status[0].values}), 10)
    return values


def all_accounted_for(counts):
    """Whether every image that came was answered or dropped with a reason."""
    return int(counts["images_received"]) == int(counts["images_answered"]) + int(counts["images_dropped"])


@pytest.fixture
def wait_until():
    """Wait for a condition; fails with the description, and the output of the processes given."""

    def wait(condition, what, *processes, timeout=60):
        deadline = time.monotonic() + timeout
        while not condition():
            output = "\n".join(process.output for process in processes)
            assert all(p.process.poll() is None for p in processes), f"a process ended before {what}:\n{output}"
            assert time.monotonic() < deadline, f"no {what} within {timeout} s:\n{output}"
            time.sleep(0.02)

    return wait
