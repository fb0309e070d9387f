"""Where things computed once are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """FLOWPOSE_CACHE, or flowpose_ros under the user's cache folder (XDG)."""
    if "FLOWPOSE_CACHE" in os.environ:
        return Path(os.environ["FLOWPOSE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "flowpose_ros"
