"""Files that are whole or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch


def save_whole(path: Path, content: Any) -> None:
    """Write a file of torch's; an older one stays whole until the end.

    Raises OSError saying how much room there is when it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        torch.save(content, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # a full disk is a RuntimeError of torch's
        free = shutil.disk_usage(path.parent).free / 2 ** 20
        raise OSError(f"{path}: expected room to write it, got {free:.0f} MiB free ({error})") from error
    finally:
        part.unlink(missing_ok=True)
