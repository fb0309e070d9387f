"""Blender as a Python module: its import, and silence while it works."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType

from flowpose_ros.errors import FlowposeError

HOW_TO_INSTALL = "pip install --no-deps -r ros_from_pypi/requirements-photoreal.txt (Python 3.11)"


def load_bpy() -> ModuleType:
    """Blender's module; raises FlowposeError that says how to install it."""
    try:
        # It complains of a missing sound card and of numpy 2, for the sake of parts that are not used here.
        with silent(1, 2):
            import bpy
    except ImportError as error:
        raise FlowposeError(f"Blender's Python module cannot be imported ({error}); install it with: {HOW_TO_INSTALL}"
                            ) from error
    return bpy


def empty_scene():
    """The only scene of a new, empty Blender file."""
    bpy = load_bpy()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return bpy.context.scene


@contextlib.contextmanager
def silent(*descriptors: int) -> Iterator[None]:
    """Throw away what is written to these file descriptors."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(os.devnull, "w") as nowhere:
        kept = [os.dup(descriptor) for descriptor in descriptors]
        try:
            for descriptor in descriptors:
                os.dup2(nowhere.fileno(), descriptor)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, copy in zip(descriptors, kept):
                os.dup2(copy, descriptor)
                os.close(copy)
