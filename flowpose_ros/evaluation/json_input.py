"""Read JSON files, and mappings in YAML, with errors that name the file and the entry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from flowpose_ros.errors import DatasetError


def read_json(path: Path, kind: type) -> Any:
    """The content of a JSON file whose outermost value is a `kind` (dict or list).

    Raises DatasetError when the file is missing, not JSON, or of another kind.
    """
    return _read(Path(path), json.loads, "JSON", kind)


def read_mapping(path: Path) -> dict:
    """The content of a JSON or YAML file that maps names to values; raises DatasetError as read_json does."""
    return read_json(path, dict) if path.suffix.lower() == ".json" else _read(path, yaml.safe_load, "YAML", dict)


def _read(path: Path, parse: Callable[[str], Any], language: str, kind: type) -> Any:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: expected a file, got nothing there") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DatasetError(f"{path}: expected {language}, got {' '.join(str(error).split())}") from None
    if not isinstance(content, kind):
        raise DatasetError(f"{path}: expected a {language} {kind.__name__}, got {type(content).__name__}")
    return content


def take_numbers(entry: Any, key: str, count: int, where: str) -> np.ndarray:
    """The `count` finite numbers [count] float64 at entry[key]; raises DatasetError naming `where`."""
    value = entry.get(key) if isinstance(entry, dict) else None
    try:
        numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise DatasetError(f"{where}: {key}: expected {count} finite numbers, got {value!r}")
    return numbers


def take_int(entry: Any, key: str, where: str) -> int:
    """The integer at entry[key]; raises DatasetError naming `where`."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise DatasetError(f"{where}: {key}: expected an integer, got {value!r}")
    return value


def take_number(entry: Any, key: str, default: float, where: str) -> float:
    """The finite number at entry[key], or the default; raises DatasetError naming `where`."""
    value = entry.get(key, default) if isinstance(entry, dict) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not np.isfinite(value):
        raise DatasetError(f"{where}: {key}: expected a finite number, got {value!r}")
    return float(value)
