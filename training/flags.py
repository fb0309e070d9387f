"""The fields of a configuration as flags of a command line."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TypeVar

Config = TypeVar("Config")


def add_fields(parser: argparse.ArgumentParser, config_class: type) -> None:
    """A flag for each field of a dataclass, with the field's default."""
    for field in dataclasses.fields(config_class):
        boolean = isinstance(field.default, bool)
        kind = {"action": argparse.BooleanOptionalAction} if boolean else {"type": type(field.default)}
        parser.add_argument(f"--{field.name.replace('_', '-')}", default=field.default, **kind)


def taken_fields(given: dict, config_class: type[Config]) -> Config:
    """The configuration of parsed flags, which are taken out of `given`."""
    return config_class(**{field.name: given.pop(field.name) for field in dataclasses.fields(config_class)})
