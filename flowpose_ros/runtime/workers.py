"""Workers that begin and end together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from flowpose_ros.runtime.worker import Worker


class Workers:
    """A worker for each name of `make`, whose functions make them, not yet started; one that died is made anew."""

    def __init__(self, make: Mapping[str, Callable[[], Worker]]) -> None:
        self._make = make
        self._workers: dict[str, Worker] = {}

    def start(self) -> list[str]:
        """Start those that do not live; the names of those that had died of the item in work."""
        died = []
        for name, make in self._make.items():
            old = self._workers.get(name)
            if old is not None and old.alive:
                continue
            if old is not None:
                old.close()  # what waited is lost with it
                if old.busy:
                    died.append(name)
            self._workers[name] = make()
            self._workers[name].start()
        return died

    def __getitem__(self, name: str) -> Worker:
        return self._workers[name]

    @property
    def alive(self) -> list[Worker]:
        """Those whose threads run."""
        return [worker for worker in self._workers.values() if worker.alive]

    @property
    def complete(self) -> bool:
        """Whether none has died."""
        return len(self.alive) == len(self._make)

    @property
    def busy(self) -> bool:
        """Whether one has an item in work, or died of one."""
        return any(worker.busy for worker in self._workers.values())

    def wait_idle(self, timeout: float) -> bool:
        """Wait up to timeout seconds until no living one has an item; whether that is so."""
        until = time.monotonic() + timeout
        return all(worker.slot.wait_idle(max(0.0, until - time.monotonic())) for worker in self.alive)

    def stop(self, timeout: float) -> bool:
        """Take nothing more in, and wait up to timeout seconds; whether all threads have ended."""
        for worker in self._workers.values():
            worker.close()
        until = time.monotonic() + timeout
        return all([worker.stop(max(0.0, until - time.monotonic())) for worker in self._workers.values()])
