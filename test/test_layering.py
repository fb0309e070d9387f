"""Imports run downward only, and ROS stays at the door."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "flowpose_ros"

CORE = {"errors", "cache", "options", "records", "geometry", "objects", "networks", "rendering"}
MAY_IMPORT = {
    "__init__": set(),
    "errors": set(),
    "cache": set(),
    "options": {"errors"},
    "records": {"errors", "geometry"},
    "geometry": {"errors", "options"},
    "objects": {"errors", "options", "records", "geometry"},
    "networks": {"errors", "options", "records", "geometry"},
    "rendering": CORE - {"rendering"},
    "estimation": CORE,
    "tracking": CORE | {"estimation"},
    "evaluation": CORE - {"networks"},
    "runtime": CORE | {"estimation", "tracking", "evaluation"},
    "nodes": CORE | {"estimation", "tracking", "evaluation", "runtime"},
    "cli": CORE | {"estimation", "tracking", "evaluation", "runtime"},
}
ROS_PACKAGES = {"rclpy", "tf2_ros", "tf2_py", "cv_bridge", "sensor_msgs_py", "launch", "launch_ros", "ament_index_python"}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path):
    """First name below flowpose_ros: a folder, or a module that stands there."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path):
    """Absolute names of all modules that a file imports, wherever in the file; `from a import b` gives a.b."""
    package = ["flowpose_ros", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{name.name}" for name in node.names)


def is_ros(module):
    top = module.split(".")[0]
    return top in ROS_PACKAGES or top.endswith(("_msgs", "_srvs", "_interfaces"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    part = part_of(path)
    used = {module.split(".")[1] for module in imported_modules(path) if module.startswith("flowpose_ros.")}
    upward = used - MAY_IMPORT[part] - {part}
    assert not upward, f"{part} must not import {sorted(upward)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_ros_is_imported_by_nodes_alone(path):
    if part_of(path) != "nodes":
        assert not [module for module in imported_modules(path) if is_ros(module)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_training_stays_offline(path):
    assert not [module for module in imported_modules(path) if module.split(".")[0] in ("training", "test")]


def test_the_arrows_have_no_cycle():
    finished = set()
    while len(finished) < len(MAY_IMPORT):
        ready = {part for part, below in MAY_IMPORT.items() if part not in finished and below <= finished}
        assert ready, f"a cycle among {sorted(set(MAY_IMPORT) - finished)}"
        finished |= ready
