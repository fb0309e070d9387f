"""Where things computed once are kept between runs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


def cache_folder() -> Path:
    """FLOWPOSE_CACHE, or flowpose_ros under the user's cache folder (XDG)."""
    if "FLOWPOSE_CACHE" in os.environ:
        return Path(os.environ["FLOWPOSE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flowpose_ros"


def kept(folder: Path, key: str, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Tensors by name, on the CPU, from the file of `key` in a folder, or made and then written there.

    key: everything that they depend on. A file that is truncated, changed or of another key is made again; a folder
    that cannot be written is done without.
    """
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    found = _read(path)
    if found is None:
        found = {name: tensor.cpu().contiguous() for name, tensor in make().items()}
        _write(path, found)
    return found


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    try:
        with safe_open(str(path), "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}
            whole = (file.metadata() or {}).get("digest") == _digest(path, found)
    except (OSError, SafetensorError):
        return None
    return found if whole else None


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write whole or not at all."""
    part = path.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, part, {"digest": _digest(path, tensors)})
        os.replace(part, path)
    except (OSError, SafetensorError):
        with contextlib.suppress(OSError):
            part.unlink()


def _digest(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    """Of the content, and of the name, so that a file of something else is not taken for this."""
    digest = hashlib.sha256(path.stem.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy())
    return digest.hexdigest()
