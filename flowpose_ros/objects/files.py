"""Paths that may not leave the objects folder."""

from __future__ import annotations

from pathlib import Path

from flowpose_ros.errors import FlowposeError


def inside(root: Path, path: str | Path, what: str,
           error: type[FlowposeError]) -> Path:
    """`path`, taken relative to `root`, links resolved.

    Raises `error`, naming `what`, when it leaves `root`: absolute, through `..`, or through a link.
    """
    resolved = (root / path).resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise error(f"{what}: expected a file inside {root}, got {path} (it leads to {resolved})")
    return resolved
