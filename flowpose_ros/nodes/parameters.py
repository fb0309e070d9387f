"""ROS parameters made from options dataclasses: typed, described and ranged in one place."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

Options = TypeVar("Options")
MAX_INT64 = 2**63 - 1


def declare_options(node: Node, *options_classes: type) -> None:
    """Declare every field of the options dataclasses as a parameter of its own name."""
    for options_class in options_classes:
        for field in dataclasses.fields(options_class):
            node.declare_parameter(field.name, field.default, _descriptor(field))


def read_options(node: Node, options_class: type[Options], changes: tuple[Parameter, ...] = ()) -> Options:
    """The options that the node's parameters, with `changes` applied, amount to.

    Raises OptionError when they are out of range or contradict each other.
    """
    names = [field.name for field in dataclasses.fields(options_class)]
    values = {name: node.get_parameter(name).value for name in names}
    values.update({change.name: change.value for change in changes if change.name in values})
    return options_class(**values)


def _descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    meta = field.metadata
    descriptor = ParameterDescriptor(description=meta["help"], read_only=not meta["runtime"])
    if meta["choices"]:
        descriptor.additional_constraints = f"one of: {', '.join(map(repr, meta['choices']))}"
    if meta["low"] is not None or meta["high"] is not None:
        _set_range(descriptor, field.default, meta["low"], meta["high"])
    return descriptor


def _set_range(descriptor: ParameterDescriptor, default: Any, low: float | None, high: float | None) -> None:
    if isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(-MAX_INT64 if low is None else low),
                                                 to_value=int(MAX_INT64 if high is None else high))]
        return
    descriptor.floating_point_range = [
        FloatingPointRange(from_value=float(-sys.float_info.max if low is None else low),
                           to_value=float(sys.float_info.max if high is None else high))]
