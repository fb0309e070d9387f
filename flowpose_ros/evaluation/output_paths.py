"""Where results go: made or refused before the work that fills them."""

from __future__ import annotations

import os
from pathlib import Path

from flowpose_ros.errors import DatasetError


def make_folder(path: Path) -> None:
    """Create a folder and those above it; raises DatasetError saying why that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{path}: expected a folder to write to, got {error.strerror}") from None


def make_room_for(path: Path) -> None:
    """Create the folder of a file that will be written; raises DatasetError when it cannot be."""
    make_folder(path.parent)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        found = "a folder" if path.is_dir() else "no permission to write"
        raise DatasetError(f"{path}: expected a writable path, got {found}")
