"""The fields of a configuration as flags of a command line."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, TypeVar

Config = TypeVar("Config")


def add_fields(parser: argparse.ArgumentParser, config_class: type) -> None:
    """A flag for each field of a dataclass, with the field's default and the `choices` that its metadata name."""
    for field in dataclasses.fields(config_class):
        boolean = isinstance(field.default, bool)
        kind = ({"action": argparse.BooleanOptionalAction} if boolean
                else {"type": type(field.default), "choices": field.metadata.get("choices")})
        parser.add_argument(f"--{field.name.replace('_', '-')}", default=field.default, **kind)


def at_least_one(text: str) -> int:
    """The whole number of a flag; raises ValueError when it is less than one."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def check(name: str, value: Any, right: bool, wanted: str) -> None:
    """Raise ValueError unless the value of a field is right."""
    if not right:
        raise ValueError(f"{name}: expected {wanted}, got {value}")


def taken_fields(given: dict, config_class: type[Config]) -> Config:
    """The configuration of parsed flags, which are taken out of `given`."""
    return config_class(**{field.name: given.pop(field.name) for field in dataclasses.fields(config_class)})
