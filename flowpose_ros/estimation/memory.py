"""Memory that the C library holds unused, given back."""

from __future__ import annotations

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""glibc's; other C libraries have none."""


def give_back_memory() -> None:
    """Give unused memory back to the system: after much work the C library keeps pages between what lives on, and a
    process that works for weeks would grow."""
    if _trim is not None:
        _trim(0)
