"""Boxes of posed objects."""

from types import SimpleNamespace

import numpy as np
import pytest
import trimesh

from flowpose_ros.objects.load import load_mesh
from flowpose_ros.tracking.boxes import Boxes

K = np.array([[100.0, 0, 50], [0, 200.0, 40], [0, 0, 1]])


@pytest.fixture
def mesh(tmp_path):
    """A cube of 0.2 m whose middle is 1 m before its origin."""
    trimesh.creation.box((0.2, 0.2, 0.2)).apply_translation((0, 0, 1)).export(tmp_path / "cube.ply")
    return load_mesh(tmp_path / "cube.ply", "m")


def test_a_box_surrounds_the_object_in_the_picture(mesh):
    T = np.eye(4)
    T[2, 3] = 0.1  # the near face is at 1 m
    box = Boxes({"cube": SimpleNamespace(mesh=mesh)}).of("cube", T, K)
    assert box.dtype == np.float64 and np.allclose(box, [40, 20, 60, 60], atol=0.5)


def test_the_points_of_an_object_are_drawn_once():
    drawn = []

    def surface_points(count):
        drawn.append(count)
        return np.ones((count, 3), np.float32)

    boxes = Boxes({"cube": SimpleNamespace(mesh=SimpleNamespace(surface_points=surface_points))})
    for _ in range(3):
        boxes.of("cube", np.eye(4), K)
    assert len(drawn) == 1
