"""Parameters from options dataclasses and back."""

from dataclasses import dataclass, field

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: `make setup` installs it")

import rclpy
from rclpy.parameter import Parameter

from flowpose_ros.errors import OptionError
from flowpose_ros.nodes.parameters import declare_options, read_options, undeclared
from flowpose_ros.options import Options, option


@dataclass(frozen=True)
class Inner(Options):
    steps: int = option(3, "inner steps", low=1)
    kind: str = option("x", "an inner kind", choices=("x", "y"))


@dataclass(frozen=True)
class Outer(Options):
    slop: float = option(0.5, "a tolerance", low=0.0, high=1.0)
    mode: str = option("a", "a mode", choices=("a", "b"))
    folder: str = option("", "a folder", runtime=False)
    on: bool = option(True, "a switch")
    depth: str = option("auto", "a choice", choices=("auto", "on", "off"))
    inner: Inner = field(default_factory=Inner)


@pytest.fixture
def node(ros_context):
    node = rclpy.create_node("parameters", context=ros_context)
    declare_options(node, Outer)
    yield node
    node.destroy_node()


def test_defaults_come_from_the_dataclass(node):
    assert read_options(node, Outer) == Outer()


def test_descriptors_carry_description_range_choices_and_read_only(node):
    slop, mode, folder, steps = node.describe_parameters(["slop", "mode", "folder", "inner.steps"])
    assert slop.description == "a tolerance"
    assert (slop.floating_point_range[0].from_value, slop.floating_point_range[0].to_value) == (0.0, 1.0)
    assert "'a', 'b'" in mode.additional_constraints
    assert folder.read_only and not slop.read_only
    assert steps.integer_range[0].from_value == 1


@pytest.mark.parametrize("given, read", [("True", "on"), ("off", "off"), ("on", "on"), ("auto", "auto")])
def test_on_and_off_need_no_quotes(given, read):
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "-p", f"depth:={given}"], context=context)
    node = rclpy.create_node("parameters", context=context)
    declare_options(node, Outer)
    assert read_options(node, Outer).depth == read
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize("given, told", [("slop:=a", "parameter slop: .*'a'.*STRING.*DOUBLE"),
                                         ("slop:=9.0", "parameter slop: .*9.0"), ("folder:=7", "parameter folder: .*7")])
def test_a_value_of_another_type_or_out_of_range_is_named(given, told):
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "-p", given], context=context)
    node = rclpy.create_node("parameters", context=context)
    with pytest.raises(OptionError, match=told):
        declare_options(node, Outer)
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_changes_are_checked_together_with_the_rest(node):
    assert read_options(node, Outer, [Parameter("inner.steps", value=9)]).inner.steps == 9
    with pytest.raises(OptionError, match="^mode: expected one of a, b, got 'c'"):
        read_options(node, Outer, [Parameter("mode", value="c")])
    with pytest.raises(OptionError, match="^inner.kind: expected one of x, y, got 'z'"):
        read_options(node, Outer, [Parameter("inner.kind", value="z")])


def test_a_parameter_that_nothing_declares_is_named(ros_env):
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "-p", "slop:=0.1", "-p", "slpo:=0.1", "-p", "qos_overrides./image.subscription.depth:=3"],
               context=context)
    try:
        node = rclpy.create_node("parameters", context=context)
        declare_options(node, Outer)
        assert undeclared(node) == ["slpo"]
        node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
