"""Command-line flags made from an options dataclass, so that each default stands in one place."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import Any

from flowpose_ros.errors import OptionError
from flowpose_ros.options import AnyOptions, Options, default_of, named_fields, options_of

_PREFIX = "option_"


def add_option_flags(parser: argparse.ArgumentParser, options_class: type[Options], *,
                     skip: Collection[str] = ()) -> None:
    """Add a flag for each option: --genflow-iterations for `genflow.iterations`.

    skip: dotted names of options that get no flag.
    """
    for name, field in named_fields(options_class):
        if name not in skip:
            _add_flag(parser, name, default_of(field), field.metadata)


def options_from(args: argparse.Namespace, options_class: type[AnyOptions], **given: Any) -> AnyOptions:
    """The options that the flags of add_option_flags ask for; `given` sets options that got no flag.

    Raises OptionError, with the flag's name, when a value is outside its range or contradicts another.
    """
    flags = {name: getattr(args, _PREFIX + name) for name, _ in named_fields(options_class) if hasattr(args, _PREFIX + name)}
    try:
        return options_of(options_class, flags | given)
    except OptionError as error:
        raise OptionError(_flag(error.option), error.problem) from error


def _flag(name: str) -> str:
    return "--" + name.replace(".", "-").replace("_", "-")


def _add_flag(parser: argparse.ArgumentParser, name: str, default: Any, meta: Any) -> None:
    flag, dest = _flag(name), _PREFIX + name
    text = (meta["help"] + _range(meta)).replace("%", "%%") + " (default: %(default)s)"
    if isinstance(default, bool):
        parser.add_argument(flag, dest=dest, default=default, help=text, action=argparse.BooleanOptionalAction)
    elif meta["choices"]:
        parser.add_argument(flag, dest=dest, default=default, help=text, choices=meta["choices"])
    else:
        parser.add_argument(flag, dest=dest, default=default, help=text, type=type(default),
                            metavar={int: "N", float: "X"}.get(type(default), "TEXT"))


def _range(meta: Any) -> str:
    low, high = meta["low"], meta["high"]
    if low is None and high is None:
        return ""
    return f", {low}..{high}" if low is not None and high is not None else (
        f", at least {low}" if high is None else f", at most {high}")
