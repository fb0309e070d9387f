"""Runs a node until it is finished or asked to stop, and ends the process in time whatever it is doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from flowpose_ros.errors import FlowposeError

GRACE_S = 4.0
"""After the first signal the process ends within this time, even from the middle of a computation."""

POLL_S = 0.1


class RunningNode(Protocol):
    """What run() needs of a rclpy Node beside the usual: begin() is called once, `finished` is asked between callbacks,
    close() ends threads and says whether all have ended."""

    finished: bool

    def begin(self, stopping: Callable[[], bool]) -> None: ...

    def close(self) -> bool: ...

    def destroy_node(self) -> None: ...


class StopRequest:
    """Set by SIGINT and SIGTERM. A second signal changes nothing: Ctrl-C reaches a node twice, once
    from the terminal and once from launch."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def __call__(self) -> bool:
        """Whether the process has been asked to stop."""
        return self._event.is_set()

    def _handle(self, number: int, frame) -> None:
        if not self._event.is_set():
            self._event.set()
            deadline = threading.Timer(GRACE_S, _end_now)
            deadline.daemon = True
            deadline.start()


def run(make_node: Callable[[], RunningNode], args: Sequence[str] | None = None) -> int:
    """Run the node that make_node gives; the exit code: 0, or 2 with one line for a FlowposeError."""
    stop = StopRequest()
    # rclpy's own handlers would shut the context down under a worker that is about to publish.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        _live(make_node(), stop)
    except FlowposeError as error:
        if not stop():
            print(f"error: {error}", file=sys.stderr)
            return 2
    finally:
        rclpy.try_shutdown()
    return 0


def _live(node: RunningNode, stop: StopRequest) -> None:
    try:
        node.begin(stop)
        _spin(node, stop)
    except ExternalShutdownException:
        pass
    finally:
        ended = node.close()
        node.destroy_node()
        if not ended:  # the interpreter's own end would wait for, or crash, a thread in native code
            _end_now()


def _spin(node: RunningNode, stop: StopRequest) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop() and not node.finished:
        executor.spin_once(timeout_sec=POLL_S)
    executor.shutdown(timeout_sec=0)


def _end_now() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
