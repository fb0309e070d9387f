"""ROS parameters made from options dataclasses: typed, described and ranged in one place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import Field
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from flowpose_ros.errors import OptionError
from flowpose_ros.options import AnyOptions, Options, default_of, named_fields, options_of

MAX_INT64 = 2**63 - 1
YAML_SWITCH = {True: "on", False: "off"}
"""What an unquoted on or off in a parameter file, or after -p, becomes in YAML 1.1."""


def declare_options(node: Node, *options_classes: type[Options]) -> None:
    """Declare every option as a parameter of its dotted name.

    Raises OptionError when a value given at start is of another type or out of range.
    """
    for options_class in options_classes:
        for name, field in named_fields(options_class):
            try:
                node.declare_parameter(name, default_of(field), _descriptor(field))
            except (InvalidParameterTypeException, InvalidParameterValueException) as error:
                raise OptionError(f"parameter {name}", str(error)) from error


def undeclared(node: Node) -> list[str]:
    """Names of parameters that were given at start and that nothing has declared: misspelt ones, most likely."""
    given = getattr(node, "_parameter_overrides", {})  # rclpy has no public way to ask
    return sorted(name for name in given if not node.has_parameter(name) and not name.startswith("qos_overrides."))


def read_options(node: Node, options_class: type[AnyOptions], changes: Sequence[Parameter] = ()) -> AnyOptions:
    """The options that the node's parameters, with `changes` applied, amount to.

    Raises OptionError when they are out of range or contradict each other.
    """
    values = {name: node.get_parameter(name).value for name, _ in named_fields(options_class)}
    values.update({change.name: change.value for change in changes if change.name in values})
    for name, field in named_fields(options_class):
        if _is_switch(field) and isinstance(values[name], bool):
            values[name] = YAML_SWITCH[values[name]]
    return options_of(options_class, values)


def _is_switch(field: Field) -> bool:
    return set(YAML_SWITCH.values()) <= set(field.metadata["choices"] or ())


def _descriptor(field: Field) -> ParameterDescriptor:
    meta = field.metadata
    descriptor = ParameterDescriptor(description=meta["help"], read_only=not meta["runtime"],
                                     dynamic_typing=_is_switch(field))
    if meta["choices"]:
        descriptor.additional_constraints = f"one of: {', '.join(map(repr, meta['choices']))}"
    if meta["low"] is not None or meta["high"] is not None:
        _set_range(descriptor, default_of(field), meta["low"], meta["high"])
    return descriptor


def _set_range(descriptor: ParameterDescriptor, default: Any, low: float | None, high: float | None) -> None:
    if isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(-MAX_INT64 if low is None else low),
                                                 to_value=int(MAX_INT64 if high is None else high))]
        return
    descriptor.floating_point_range = [
        FloatingPointRange(from_value=float(-sys.float_info.max if low is None else low),
                           to_value=float(sys.float_info.max if high is None else high))]
