"""Command-line flags made from an options dataclass, so that each default stands in one place."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection
from typing import Any, TypeVar

Options = TypeVar("Options")

_PREFIX = "option_"


def add_option_flags(parser: argparse.ArgumentParser, options_class: type, *,
                     skip: Collection[str] = (), prefix: str = "") -> None:
    """Add one flag per field of an options dataclass; a field that is itself one gives --field-name.

    skip: fields that get no flag.
    """
    for field in dataclasses.fields(options_class):
        if field.name in skip:
            continue
        default = _default(field)
        if dataclasses.is_dataclass(default):
            add_option_flags(parser, type(default), prefix=f"{prefix}{field.name}_")
        else:
            _add_flag(parser, prefix + field.name, default, field.metadata)


def options_from(args: argparse.Namespace, options_class: type[Options], *, prefix: str = "",
                 **given: Any) -> Options:
    """The options that the flags of add_option_flags ask for; `given` sets fields that got no flag.

    Raises OptionError when a value is outside its range.
    """
    values = dict(given)
    for field in dataclasses.fields(options_class):
        default, dest = _default(field), _PREFIX + prefix + field.name
        if dataclasses.is_dataclass(default):
            values.setdefault(field.name, options_from(args, type(default), prefix=f"{prefix}{field.name}_"))
        elif hasattr(args, dest):
            values.setdefault(field.name, getattr(args, dest))
    return options_class(**values)


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _add_flag(parser: argparse.ArgumentParser, name: str, default: Any, meta: Any) -> None:
    flag, dest = "--" + name.replace("_", "-"), _PREFIX + name
    text = (meta.get("help", "") + _range(meta)).replace("%", "%%") + " (default: %(default)s)"
    if isinstance(default, bool):
        parser.add_argument(flag, dest=dest, default=default, help=text, action=argparse.BooleanOptionalAction)
    elif meta.get("choices"):
        parser.add_argument(flag, dest=dest, default=default, help=text, choices=meta["choices"])
    else:
        parser.add_argument(flag, dest=dest, default=default, help=text, type=type(default),
                            metavar={int: "N", float: "X"}.get(type(default), "TEXT"))


def _range(meta: Any) -> str:
    low, high = meta.get("low"), meta.get("high")
    if low is None and high is None:
        return ""
    return f", {low}..{high}" if low is not None and high is not None else (
        f", at least {low}" if high is None else f", at most {high}")
