"""Work that is done again and again: on a GPU it is recorded once as a CUDA graph and then played, so that its many small
kernels start without Python between them."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch

from flowpose_ros.estimation.batches import is_memory_shortage, mapped, tensors_of

KEPT = 32
"""Recordings of one function that are kept, the most recently played ones."""
WARM_UPS = 2
"""Calls before a recording: libraries choose their kernels and take their memory."""
ALONE = threading.Lock()
"""What a recording reads and writes are the same places each time it is played, and one is made at a time."""


class Recorded:
    """A function (batch, *settings) of a record of tensors and of anything hashable that gives a record of tensors.

    On a GPU there is a recording for each set of shapes and settings. What it does must not depend on numbers in the
    tensors, nor wait for them; it draws no random numbers. On a CPU it is called as it is; so it is on a GPU, with a
    RuntimeWarning, where it cannot be recorded.
    """

    def __init__(self, function: Callable) -> None:
        self._function = function
        self._recordings: OrderedDict[Hashable, Recording | None] = OrderedDict()

    def __call__(self, batch: Any, *settings: Hashable) -> Any:
        tensors = tensors_of(batch)
        if not tensors[0].is_cuda:
            return self._function(batch, *settings)
        key = tuple((tensor.shape, tensor.dtype) for tensor in tensors), settings
        with ALONE:
            if key not in self._recordings:
                self._recordings[key] = self._recording(batch, settings)
                if len(self._recordings) > KEPT:
                    self._recordings.popitem(last=False)
            self._recordings.move_to_end(key)
            recording = self._recordings[key]
            if recording is not None:
                return recording.played(tensors)
        return self._function(batch, *settings)

    def _recording(self, batch: Any, settings: tuple[Hashable, ...]) -> Recording | None:
        """What plays the function; None where it cannot be recorded."""
        try:
            return Recording(lambda given: self._function(given, *settings), batch)
        except RuntimeError as error:
            if is_memory_shortage(error):
                raise
            warnings.warn(f"cannot be recorded as a CUDA graph and stays slower: {error}", RuntimeWarning)
            return None


class Recording:
    """A function of tensors of certain shapes on a GPU, recorded with a batch of such shapes."""

    def __init__(self, function: Callable, batch: Any) -> None:
        given = mapped(torch.clone, batch)
        self._given = tensors_of(given)
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                function(given)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads go on meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._result = function(given)

    def played(self, tensors: list[torch.Tensor]) -> Any:
        """What the function gives for other tensors of the same shapes."""
        for given, tensor in zip(self._given, tensors):
            given.copy_(tensor)
        self._graph.replay()
        return mapped(torch.clone, self._result)
