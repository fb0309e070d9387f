"""The look of a surface: textures, vertex colours, smooth normals."""

import numpy as np
import pytest
import trimesh

from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.shading import sample_texture, surface_at
from rendering.meshes import sphere, textured_box
from reference import texture as slow


def test_texture_look_up_matches_its_definition():
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    uv = rng.uniform(-2, 3, (300, 2)).astype(np.float32)
    expected = [slow.sample(texture, *point) for point in uv.astype(np.float64)]
    assert np.allclose(sample_texture(texture, uv), expected, atol=1e-5)


def test_texture_row_zero_is_at_the_top():
    texture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    top_left = sample_texture(texture, np.array([[0.125, 0.75]], np.float32))
    assert np.allclose(top_left * 255, [[0, 1, 2]], atol=1e-4)


def test_each_face_has_its_own_texture():
    mesh = textured_box((0.1, 0.1, 0.1))
    thirds = np.full((2, 3), 1 / 3)
    found = surface_at(mesh, np.array([0, 2]), thirds).albedo
    for i, face in enumerate((0, 2)):
        texture = mesh.textures[mesh.face_texture[face]]
        assert np.allclose(found[i], slow.sample(texture, *mesh.uv[face].mean(0).astype(float)), atol=1e-5)


def test_colours_and_normals_are_interpolated():
    mesh = sphere(1.0, 16)
    face = np.arange(40, 200)
    surface = surface_at(mesh, face, np.tile([0.5, 0.3, 0.2], (160, 1)))
    corners = mesh.vertices[mesh.faces[face]]
    expected = np.einsum("k,nki->ni", [0.5, 0.3, 0.2], corners)
    assert np.allclose(surface.xyz, expected, atol=1e-6)
    assert np.allclose(surface.albedo, (expected + 1) / 2, atol=1e-5)
    outward = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert (surface.normal * outward).sum(1).min() > np.cos(np.radians(4))


@pytest.mark.parametrize("sections, height", [(32, 0.01), (32, 0.06), (12, 0.2)])
def test_the_side_of_a_turned_part_is_smooth_and_its_rim_sharp_however_few_its_faces(sections, height):
    part = trimesh.creation.cylinder(0.03, height, sections=sections)
    count = len(part.faces)
    mesh = Mesh(part.vertices.astype(np.float32), part.faces.astype(np.int32), np.ones((count, 3, 3), np.float32),
                np.zeros((count, 3, 2), np.float32), np.full(count, -1, np.int16))
    cap = np.abs(part.face_normals[:, 2]) > 0.5
    assert np.allclose(mesh.corner_normals[cap], part.face_normals[cap, None], atol=1e-6)
    outward = mesh.vertices[mesh.faces[~cap]] * (1, 1, 0) / 0.03
    # At a corner more of the faces of one side than of the other may meet.
    assert (mesh.corner_normals[~cap] * outward).sum(-1).min() > np.cos(np.pi / sections / 2)


def test_a_corners_normal_is_nearer_to_that_of_the_larger_face():
    """A fold of 20 degrees between a wide and a narrow strip."""
    turn = np.radians(20)
    corners = np.array([[0, 0, 0], [0, 1, 0], [-3, 0, 0], [-3, 1, 0], [np.cos(turn), 0, np.sin(turn)],
                        [np.cos(turn), 1, np.sin(turn)]], np.float32) / 10
    faces = np.array([[0, 1, 2], [1, 3, 2], [0, 4, 1], [1, 4, 5]], np.int32)
    mesh = Mesh(corners, faces, np.ones((4, 3, 3), np.float32), np.zeros((4, 3, 2), np.float32),
                np.full(4, -1, np.int16), ())
    from_wide = np.degrees(np.arccos(abs(mesh.corner_normals[0, 1, 2])))  # corner 1: two wide triangles, two narrow
    assert from_wide == pytest.approx(np.degrees(np.arctan2(np.sin(turn), 3 + np.cos(turn))), abs=0.1)
