"""ROS parameters made from options dataclasses: typed, described and ranged in one place."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from flowpose_ros.errors import OptionError
from flowpose_ros.options import check_options

Options = TypeVar("Options")
MAX_INT64 = 2**63 - 1
YAML_SWITCH = {True: "on", False: "off"}
"""What an unquoted on or off in a parameter file, or after -p, becomes in YAML 1.1."""


def declare_options(node: Node, *options_classes: type) -> None:
    """Declare every field of the options dataclasses as a parameter of its name.

    The fields of a field that is itself such a dataclass follow after a dot: `refine.iterations`. Raises OptionError
    when a value given at start is of another type or out of range.
    """
    for options_class in options_classes:
        for name, field in _leaves(options_class):
            try:
                node.declare_parameter(name, _default(field), _descriptor(field))
            except (InvalidParameterTypeException, InvalidParameterValueException) as error:
                raise OptionError(f"parameter {name}: {error}") from error


def undeclared(node: Node) -> list[str]:
    """Names of parameters that were given at start and that nothing has declared: misspelt ones, most likely."""
    given = getattr(node, "_parameter_overrides", {})  # rclpy has no public way to ask
    return sorted(name for name in given if not node.has_parameter(name) and not name.startswith("qos_overrides."))


def read_options(node: Node, options_class: type[Options], changes: Sequence[Parameter] = ()) -> Options:
    """The options that the node's parameters, with `changes` applied, amount to.

    Raises OptionError when they are out of range or contradict each other.
    """
    names = [name for name, _ in _leaves(options_class)]
    values = {name: node.get_parameter(name).value for name in names}
    values.update({change.name: change.value for change in changes if change.name in values})
    for name, field in _leaves(options_class):
        if _is_switch(field) and isinstance(values[name], bool):
            values[name] = YAML_SWITCH[values[name]]
    options = _build(options_class, values)
    check_options(options)  # not every options class checks itself
    return options


def _leaves(options_class: type, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    for field in dataclasses.fields(options_class):
        default = _default(field)
        if dataclasses.is_dataclass(default):
            yield from _leaves(type(default), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field


def _build(options_class: type[Options], values: dict[str, Any], prefix: str = "") -> Options:
    given = {}
    for field in dataclasses.fields(options_class):
        default = _default(field)
        given[field.name] = (_build(type(default), values, f"{prefix}{field.name}.")
                             if dataclasses.is_dataclass(default) else values[prefix + field.name])
    return options_class(**given)


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _is_switch(field: dataclasses.Field) -> bool:
    return set(YAML_SWITCH.values()) <= set(field.metadata["choices"] or ())


def _descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    meta = field.metadata
    descriptor = ParameterDescriptor(description=meta["help"], read_only=not meta["runtime"],
                                     dynamic_typing=_is_switch(field))
    if meta["choices"]:
        descriptor.additional_constraints = f"one of: {', '.join(map(repr, meta['choices']))}"
    if meta["low"] is not None or meta["high"] is not None:
        _set_range(descriptor, _default(field), meta["low"], meta["high"])
    return descriptor


def _set_range(descriptor: ParameterDescriptor, default: Any, low: float | None, high: float | None) -> None:
    if isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(-MAX_INT64 if low is None else low),
                                                 to_value=int(MAX_INT64 if high is None else high))]
        return
    descriptor.floating_point_range = [
        FloatingPointRange(from_value=float(-sys.float_info.max if low is None else low),
                           to_value=float(sys.float_info.max if high is None else high))]
