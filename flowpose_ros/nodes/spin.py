"""Runs a node until it is finished or asked to stop."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from flowpose_ros.errors import FlowposeError
from flowpose_ros.runtime.stop_request import StopRequest, end_now

POLL_S = 0.1
USAGE = """usage: ros2 run flowpose_ros NODE --ros-args [-p NAME:=VALUE ...] [--params-file FILE.yaml] [-r FROM:=TO ...]
Parameters and topics of each node: docs/node.md; `ros2 param describe NODE NAME` says what one is for."""


class RunningNode(Protocol):
    """What run() needs of a rclpy Node beside the usual: begin() is called once, `finished` is asked between callbacks,
    close() ends threads and says whether all have ended."""

    finished: bool

    def begin(self, stopping: StopRequest) -> None: ...

    def close(self) -> bool: ...

    def destroy_node(self) -> None: ...


def run(make_node: Callable[[], RunningNode], args: Sequence[str] | None = None,
        stop: StopRequest | None = None) -> int:
    """Spin the node that make_node gives until it is finished or asked to stop; the exit code."""
    return run_program(lambda stop: _live(make_node(), stop), args, stop)


def run_program(body: Callable[[StopRequest], None], args: Sequence[str] | None = None,
                stop: StopRequest | None = None) -> int:
    """Run `body` with ROS initialised; the exit code: 0, or 2 with one line for a FlowposeError. Another exception goes
    on."""
    words = list(sys.argv[1:] if args is None else args)
    if {"-h", "--help"} & set(words[:words.index("--ros-args")] if "--ros-args" in words else words):
        print(USAGE)
        return 0
    stop = stop or StopRequest()
    # rclpy's own handlers would shut the context down under a worker that is about to publish.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        body(stop)
    except FlowposeError as error:
        return _told(error, stop)
    finally:
        rclpy.try_shutdown()
    return 0


def _told(error: Exception, stop: StopRequest) -> int:
    """Say what ended a program, and the exit code for it; a FlowposeError while it stops is no failure."""
    if not isinstance(error, FlowposeError):
        traceback.print_exception(error)
        return 1
    if stop():
        return 0
    print(f"error: {error}", file=sys.stderr)
    return 2


@contextmanager
def listening(name: str) -> Iterator[Node]:
    """A node of a program that is none itself, spun by a thread while the `with` block lasts."""
    rclpy.init()
    node, executor = rclpy.create_node(name), SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass

    threading.Thread(target=spin, daemon=True).start()
    try:
        yield node
    finally:
        executor.shutdown(timeout_sec=0)
        node.destroy_node()
        rclpy.try_shutdown()


def _live(node: RunningNode, stop: StopRequest) -> None:
    try:
        node.begin(stop)
        _spin(node, stop)
    except ExternalShutdownException:
        _close(node)
    except Exception as error:
        _close(node, lambda: _told(error, stop))
        raise
    else:
        _close(node)


def _close(node: RunningNode, exit_code: Callable[[], int] = lambda: 0) -> None:
    """End a node. Where a thread of it does not end, the process does, at once: the interpreter's own end would wait
    for, or crash, a thread in native code."""
    try:
        ended = node.close()
    finally:
        node.destroy_node()
    if not ended:
        end_now(exit_code())


def _spin(node: RunningNode, stop: StopRequest) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop() and not node.finished:
        executor.spin_once(timeout_sec=POLL_S)
    executor.shutdown(timeout_sec=0)
