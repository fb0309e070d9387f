"""The poses that only an object's looks tell apart."""

import numpy as np
import pytest
import torch

from flowpose_ros.estimation.turns import shape_turns
from flowpose_ros.geometry.rotations import angles_between
from flowpose_ros.geometry.symmetry import SymmetryAxis, SymmetryGroup
from flowpose_ros.objects.catalogue import ObjectModel
from flowpose_ros.rendering.raycast import RaycastRenderer
from rendering.meshes import joined, moved, sphere, textured_box
from training.objects import vertex_coloured
from training.shapes import lathe


def model(mesh, symmetries=SymmetryGroup.none()):
    return ObjectModel("thing", None, mesh, symmetries, None)


def turns_of(*args):
    return shape_turns(model(*args), RaycastRenderer())


@pytest.fixture(scope="module")
def can():
    """A cone about z, which cannot be stood on its head."""
    shape = lathe(np.array([(0.0, -0.06), (0.04, -0.06), (0.01, 0.06), (0.0, 0.06)]), 1200)
    return vertex_coloured(shape, np.full((len(shape.faces), 3, 3), 0.5))



def test_a_box_has_three_half_turns_about_its_middle():
    mesh = textured_box((0.12, 0.08, 0.05))
    turns = turns_of(mesh).double().numpy()
    assert len(turns) == 3
    np.testing.assert_allclose(np.degrees(angles_between(turns[:, :3, :3], np.eye(3)[None])), 180, atol=0.1)
    for S in turns:
        np.testing.assert_allclose(S[:3, :3] @ mesh.center + S[:3, 3], mesh.center, atol=1e-5)


def test_quarter_turns_of_a_square_box_and_their_products_are_all_there():
    assert len(turns_of(textured_box((0.12, 0.06, 0.06)))) == 7


def test_what_the_looks_do_not_tell_apart_is_left_out():
    mesh = textured_box((0.12, 0.08, 0.05))
    half = np.eye(4)
    half[:3, :3] = np.diag([-1.0, -1, 1])
    half[:3, 3] = mesh.center - half[:3, :3] @ mesh.center
    # With one half turn declared, the two others look the same.
    assert len(turns_of(mesh, SymmetryGroup(half[None]))) == 1


def test_a_thing_of_no_symmetry_has_none():
    mesh = joined(textured_box((0.06, 0.1, 0.04)), moved(sphere(0.03, 24), (0.06, 0.04, 0)))
    assert turns_of(mesh).shape == (0, 4, 4)


def test_a_turned_thing_turns_about_its_axis_unless_it_looks_the_same_all_round(can):
    turns = turns_of(can)
    assert len(turns) == 7 and torch.allclose(turns[:, 2, 2], torch.ones(len(turns)), atol=1e-4)
    assert len(turns_of(can, SymmetryGroup(np.zeros((0, 4, 4)), (SymmetryAxis(np.array([0.0, 0, 1]), np.zeros(3)),)))) == 0
