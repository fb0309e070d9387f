"""Symmetries found from shapes whose group is known."""

import numpy as np
import pytest
import trimesh

from flowpose_ros.objects.load import load_mesh
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.symmetry_hints import coloured_alike, symmetry_hints

MIDDLE = np.array([0.02, -0.01, 0.03])


def hints_of(shape, tmp_path, turn=0.0):
    """Hints for a shape that is turned about an oblique axis and moved off the origin."""
    shape.apply_transform(trimesh.transformations.rotation_matrix(turn, (1, 2, 3)))
    shape.apply_translation(MIDDLE)
    shape.export(tmp_path / "shape.ply")
    return symmetry_hints(load_mesh(tmp_path / "shape.ply", "m"), RaycastRenderer())


def fixes(group, point):
    """Whether every symmetry leaves the point where it is, within 1 mm."""
    moved = group.transforms(0.5) @ [*point, 1]
    return np.abs(moved[:, :3] - point).max() < 1e-3


@pytest.mark.parametrize("turn", [0.0, 0.8])
def test_a_box_has_three_half_turns(turn, tmp_path):
    group = hints_of(trimesh.creation.box((0.08, 0.06, 0.04)), tmp_path, turn)
    assert len(group.discrete) == 3 and not group.axes and fixes(group, MIDDLE)
    np.testing.assert_allclose(np.trace(group.discrete, axis1=1, axis2=2), 0, atol=1e-9)


@pytest.mark.parametrize("sides, count", [((0.06, 0.06, 0.03), 7), ((0.05, 0.05, 0.05), 23)], ids=["square", "cube"])
def test_what_follows_from_the_turns_about_the_axes_belongs_to_the_group(sides, count, tmp_path):
    group = hints_of(trimesh.creation.box(sides), tmp_path)
    assert len(group.discrete) == count and fixes(group, MIDDLE)
    # None is another's twin, and each of two after each other is one of them.
    R = group.transforms()[:, :3, :3]
    alike = np.einsum("aij,bjk,cik->abc", R, R, R) > 3 - 1e-6
    assert alike.sum(2).min() == alike.sum(2).max() == 1


@pytest.mark.parametrize("turn", [0.0, 0.8])
def test_a_cylinder_has_an_axis_and_a_flip(turn, tmp_path):
    group = hints_of(trimesh.creation.cylinder(0.03, 0.1), tmp_path, turn)
    assert len(group.axes) == 1 and len(group.discrete) == 1 and fixes(group, MIDDLE)
    direction = trimesh.transformations.rotation_matrix(turn, (1, 2, 3))[:3, 2]
    assert abs(group.axes[0].direction @ direction) > 0.999


def test_a_sphere_has_two_axes(tmp_path):
    group = hints_of(trimesh.creation.icosphere(subdivisions=3, radius=0.03), tmp_path)
    assert len(group.axes) == 2 and not len(group.discrete)


def test_a_hexagonal_cone_has_five_turns(tmp_path):
    group = hints_of(trimesh.creation.cone(0.04, 0.1, sections=6), tmp_path)
    assert len(group.discrete) == 5 and not group.axes
    angles = np.arccos((np.trace(group.discrete[:, :3, :3], axis1=1, axis2=2) - 1) / 2)
    np.testing.assert_allclose(np.degrees(angles), [60, 120, 180, 120, 60])


def test_a_handle_leaves_none(tmp_path):
    cup, handle = trimesh.creation.cylinder(0.03, 0.1), trimesh.creation.box((0.04, 0.01, 0.05))
    handle.apply_translation((0.04, 0, 0.01))
    assert hints_of(trimesh.util.concatenate([cup, handle]), tmp_path).is_trivial


@pytest.mark.parametrize("painted, left", [((), 3), ((0, 1), 3), ((0,), 1)], ids=["plain", "both ends", "one end"])
def test_print_leaves_the_symmetries_that_it_has(painted, left, tmp_path):
    """A box whose ends along x may be red: half a turn about x keeps each, the other two swap them."""
    box = trimesh.creation.box((0.08, 0.06, 0.04))
    normals, colours = box.face_normals, np.full((len(box.faces), 4), 160, np.uint8)
    for end in painted:
        colours[normals[:, 0] == (1, -1)[end]] = (255, 0, 0, 255)
    box.visual.face_colors = colours
    box.export(tmp_path / "box.ply")
    mesh, renderer = load_mesh(tmp_path / "box.ply", "m"), RaycastRenderer()
    group = coloured_alike(mesh, symmetry_hints(mesh, renderer), renderer)
    assert len(group.discrete) == left
