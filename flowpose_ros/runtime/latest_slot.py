"""A mailbox with one place: what is newer replaces what nobody has taken yet."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """Hands the newest item from one thread to another; never blocks the giver."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self.out = False
        """An item was taken and is not done."""

    def put(self, item: T) -> T | None:
        """Lay an item in; returns the one that it replaced, or the item itself once closed."""
        with self._changed:
            if self._closed:
                return item
            replaced, self._item = self._item, item
            self._changed.notify_all()
            return replaced

    def take(self, timeout: float | None = None) -> T | None:
        """Wait up to timeout seconds for an item and empty the slot; None when closed or too late."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None, timeout)
            item, self._item = self._item, None
            self.out = item is not None
            return item

    def done(self) -> None:
        """The item that was taken is done."""
        with self._changed:
            self.out = False
            self._changed.notify_all()

    def wait_idle(self, timeout: float) -> bool:
        """Wait up to timeout seconds until nothing is in the slot and what was taken is done; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._item is None and not self.out, timeout)

    def close(self) -> T | None:
        """Wake whoever waits; nothing goes in or out any more. Returns the item that nobody has taken."""
        with self._changed:
            left, self._item, self._closed = self._item, None, True
            self._changed.notify_all()
            return left

    @property
    def closed(self) -> bool:
        """Whether it takes and gives nothing any more."""
        return self._closed
