"""Ctrl-C and its like: heard once, obeyed in time."""

from __future__ import annotations

import os
import signal
import sys
import threading

GRACE_S = 4.0
"""After the first signal the process ends within this time, even from the middle of a computation."""


class StopRequest:
    """Set by SIGINT and SIGTERM. A second signal changes nothing: Ctrl-C reaches a node twice, once
    from the terminal and once from launch."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._deadline: threading.Timer | None = None
        self._patient = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def __call__(self) -> bool:
        """Whether the process has been asked to stop."""
        return self._event.is_set()

    def take_time(self) -> None:
        """What is left to do is worth waiting for: the process is no longer ended in the middle of it."""
        self._patient = True
        if self._deadline is not None:
            self._deadline.cancel()

    def _handle(self, number: int, frame) -> None:
        if not self._event.is_set():
            self._event.set()
            if not self._patient:
                self._deadline = threading.Timer(GRACE_S, end_now)
                self._deadline.daemon = True
                self._deadline.start()


def end_now(code: int = 0) -> None:
    """End the process with that exit code, whatever its threads are doing."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
