"""Signals that let a run end after its step."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

KEPT = signal.SIGINT, signal.SIGTERM
PATIENCE = 2
"""One more ends a run at once; torchrun sends a second after that of Ctrl-C."""


@contextmanager
def signals_kept() -> Iterator[list[int]]:
    """SIGINT and SIGTERM stand in a list, for whoever ends well when there are any; then they are a
    KeyboardInterrupt."""
    came: list[int] = []

    def keep(number: int, frame) -> None:
        came.append(number)
        if len(came) > PATIENCE:
            raise KeyboardInterrupt

    ours = KEPT if threading.current_thread() is threading.main_thread() else ()  # others have no signals
    before = {number: signal.signal(number, keep) for number in ours}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        print("ended by a signal; the same command goes on", file=sys.stderr)
        raise KeyboardInterrupt
