"""Flags made from options dataclasses."""

import argparse
from dataclasses import dataclass, field

import pytest

from flowpose_ros.cli.option_flags import add_option_flags, options_from
from flowpose_ros.errors import OptionError
from flowpose_ros.options import Options, option


@dataclass(frozen=True)
class Inner(Options):
    iterations: int = option(5, "outer renders", low=1, high=20)


@dataclass(frozen=True)
class Outer(Options):
    method: str = option("fast", "which way", choices=("fast", "good"))
    share: float = option(0.5, "share, in %", low=0.0, high=1.0)
    check: bool = option(True, "look twice")
    inner: Inner = field(default_factory=Inner)


def parse(*argv, skip=(), **given):
    parser = argparse.ArgumentParser()
    add_option_flags(parser, Outer, skip=skip)
    return options_from(parser.parse_args(argv), Outer, **given)


def test_no_flags_give_the_defaults():
    assert parse() == Outer()


def test_flags_set_fields_also_of_nested_options():
    assert parse("--method", "good", "--share", "0.25", "--no-check", "--inner-iterations", "3") == Outer(
        "good", 0.25, False, Inner(3))


def test_a_skipped_field_has_no_flag_and_takes_the_given_value():
    assert parse(skip=("share",), share=0.75).share == 0.75
    with pytest.raises(SystemExit):
        parse("--share", "0.1", skip=("share",))


def test_a_value_out_of_range_is_an_option_error():
    with pytest.raises(OptionError, match="^--inner-iterations: expected at most 20, got 21"):
        parse("--inner-iterations", "21")


def test_help_states_range_and_default():
    parser = argparse.ArgumentParser()
    add_option_flags(parser, Outer)
    text = " ".join(parser.format_help().split())
    assert "share, in %, 0.0..1.0 (default: 0.5)" in text
    assert "outer renders, 1..20 (default: 5)" in text
