"""docs/promises.md names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", (HERE.parent / "docs" / "promises.md").read_text())


def test_promises_are_held_by_tests():
    assert len(NAMED) > 30


@pytest.mark.parametrize("file, name", NAMED)
def test_the_test_that_holds_a_promise_exists(file, name):
    functions = {node.name for node in ast.parse((HERE / file).read_text()).body if isinstance(node, ast.FunctionDef)}
    assert name in functions
