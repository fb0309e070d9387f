"""Options of a stage: one frozen dataclass each, the only place where its defaults stand.

ROS parameters and command-line flags are made from the fields: each has a dotted name, in which a nested stage's name
stands before its own options' (`genflow.iterations`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

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


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of options: each field is made by option(), or holds the Options of a further stage.

    Raises OptionError when a field is outside its range or choices.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, meta = getattr(self, field.name), field.metadata
            if meta.get("choices") and value not in meta["choices"]:
                raise OptionError(field.name, f"expected one of {', '.join(meta['choices'])}, got {value!r}")
            if meta.get("low") is not None and not value >= meta["low"]:
                raise OptionError(field.name, f"expected at least {meta['low']}, got {value!r}")
            if meta.get("high") is not None and not value <= meta["high"]:
                raise OptionError(field.name, f"expected at most {meta['high']}, got {value!r}")


AnyOptions = TypeVar("AnyOptions", bound=Options)


def named_fields(options_class: type[Options], prefix: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    """The dotted name and the field of every option of a class, those of nested stages included."""
    for field in dataclasses.fields(options_class):
        default = default_of(field)
        if isinstance(default, Options):
            yield from named_fields(type(default), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field


def named_values(options: Options, prefix: str = "") -> dict[str, Any]:
    """The value of every option by its dotted name."""
    values = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        values |= named_values(value, f"{prefix}{field.name}.") if isinstance(value, Options) else {prefix + field.name: value}
    return values


def options_of(options_class: type[AnyOptions], values: Mapping[str, Any], prefix: str = "") -> AnyOptions:
    """Options of values by dotted name; what is not among them has its default.

    Raises OptionError with the dotted name of what is out of range or contradicts another.
    """
    given = {}
    for field in dataclasses.fields(options_class):
        default = default_of(field)
        if isinstance(default, Options):
            given[field.name] = options_of(type(default), values, f"{prefix}{field.name}.")
        elif prefix + field.name in values:
            given[field.name] = values[prefix + field.name]
    try:
        return options_class(**given)
    except OptionError as error:
        raise OptionError(prefix + error.option, error.problem) from error


def default_of(field: dataclasses.Field) -> Any:
    """The default of an option's field."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
