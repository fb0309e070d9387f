"""One supervised thread that works through a slot."""

from __future__ import annotations

import threading
from typing import Callable, Generic, TypeVar

from flowpose_ros.runtime.latest_slot import LatestSlot

T = TypeVar("T")
R = TypeVar("R")


class Worker(Generic[T, R]):
    """Takes items from its slot, runs `function` on each and hands results to `on_result`.

    An exception of either goes to `on_error(item, exception)` and the next item is served. All three run in the
    worker's thread. After close() nothing is handed on: `on_lost(item)` is told of the item that waits and of the one
    in work.
    """

    def __init__(self, function: Callable[[T], R], on_result: Callable[[R], None],
                 on_error: Callable[[T, Exception], None], on_lost: Callable[[T], None] = lambda item: None) -> None:
        self.slot: LatestSlot[T] = LatestSlot()
        self._function, self._on_result, self._on_error, self._on_lost = function, on_result, on_error, on_lost
        # A daemon, so that a computation that cannot be interrupted never keeps a process alive.
        self._thread = threading.Thread(target=self._run, name="flowpose-worker", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs; False after start() and before stop() means that it died."""
        return self._thread.is_alive()

    @property
    def busy(self) -> bool:
        """An item is in work, or the thread died of one."""
        return self.slot.out

    def close(self) -> None:
        """Take nothing more in and hand nothing on."""
        left = self.slot.close()
        if left is not None:
            self._on_lost(left)

    def stop(self, timeout: float) -> bool:
        """Close and wait up to timeout seconds; whether the thread has ended."""
        self.close()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self.slot.closed:
            item = self.slot.take()
            if item is None:
                continue
            try:
                result = self._function(item)
                # What ends after close() may belong to objects that are no longer in use.
                if self.slot.closed:
                    self._on_lost(item)
                else:
                    self._on_result(result)
            except Exception as error:  # whatever one frame does, the next one is served
                self._on_error(item, error)
            self.slot.done()
