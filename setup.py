"""Installs flowpose_ros with colcon (ament_python) or pip; options that never change stand in setup.cfg."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import setup

SHARE = Path("share/flowpose_ros")


def shared_files(*folders):
    """The files of each folder, with the place under share/flowpose_ros that keeps their layout."""
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                yield str(SHARE / path.parent), [str(path)]


setup(
    version=ElementTree.parse("package.xml").findtext("version"),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/flowpose_ros"]),
        (str(SHARE), ["package.xml"]),
        *shared_files("config", "launch", "demo"),
    ],
)
