"""Unused memory goes back to the system."""

import ctypes
from pathlib import Path

import pytest

from flowpose_ros.estimation.memory import give_back_memory

PIECES, SIZE = 2000, 60_000


def resident_mb():
    """What of this process is in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_pages_between_what_lives_on_are_given_back():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    pieces = [libc.malloc(SIZE) for _ in range(PIECES)]
    for piece in pieces:
        ctypes.memset(piece, 1, SIZE)
    for piece in pieces[::2]:  # the others keep the heap from shrinking
        libc.free(piece)
    before = resident_mb()
    give_back_memory()
    assert before - resident_mb() > 0.6 * PIECES / 2 * SIZE / 1e6
    for piece in pieces[1::2]:
        libc.free(piece)
