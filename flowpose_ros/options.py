"""Options of a stage: one frozen dataclass each, the only place where its defaults stand.

ROS parameter descriptors and command-line flags are made from the fields' metadata.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from flowpose_ros.errors import OptionError


def option(default: Any, help: str, *, low: float | None = None, high: float | None = None,
           choices: tuple[str, ...] | None = None, runtime: bool = True) -> Any:
    """A dataclass field with its description, closed range or choices.

    `runtime` says whether the value may be changed while a node runs.
    """
    return dataclasses.field(
        default=default,
        metadata={"help": help, "low": low, "high": high, "choices": choices, "runtime": runtime},
    )


def check_options(options: Any) -> None:
    """Raise OptionError when a field of an options dataclass, or of one nested in it, is outside its range or
    choices."""
    for field in dataclasses.fields(options):
        value, meta = getattr(options, field.name), field.metadata
        if dataclasses.is_dataclass(value):
            check_options(value)
        name = f"{type(options).__name__}.{field.name}"
        if meta.get("choices") and value not in meta["choices"]:
            raise OptionError(f"{name}: expected one of {', '.join(meta['choices'])}, got {value!r}")
        if meta.get("low") is not None and not value >= meta["low"]:
            raise OptionError(f"{name}: expected at least {meta['low']}, got {value!r}")
        if meta.get("high") is not None and not value <= meta["high"]:
            raise OptionError(f"{name}: expected at most {meta['high']}, got {value!r}")
