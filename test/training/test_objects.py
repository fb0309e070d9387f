"""Procedural objects: deterministic, closed outward, within the limits, with true symmetries."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial import cKDTree

from training import shapes
from training.objects import DIAMETER, FAMILIES, random_object

SEEDS = range(60)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_seed_is_one_object(family):
    for seed in range(5):
        assert (random_object(seed, family).mesh.content_hash == random_object(seed, family).mesh.content_hash)
    assert random_object(0, family).mesh.content_hash != random_object(1, family).mesh.content_hash


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_within_the_stated_ranges(family):
    for seed in SEEDS:
        mesh = random_object(seed, family).mesh
        assert DIAMETER[0] <= mesh.diameter <= DIAMETER[1], seed
        assert 100 <= len(mesh.faces) <= 4000, seed
        assert np.isfinite(mesh.vertices).all() and mesh.faces.max() < len(mesh.vertices)
        assert mesh.uv.shape == (len(mesh.faces), 3, 2) and -0.01 <= mesh.uv.min() and mesh.uv.max() <= 1.01


def signed_volume(shape: shapes.Shape) -> float:
    a, b, c = shape.vertices[shape.faces].transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


def regular(n: int, radius: float) -> np.ndarray:
    angle = 2 * np.pi * np.arange(n) / n
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1)


CIRCLE = np.array([[0.5, -1.0], [0.5, 1.0]])
SOLIDS = {
    "box": (shapes.rounded_box(np.array([1.0, 2, 3]), 0.002, 600), 6.0),
    "ball": (shapes.superquadric(np.array([2.0, 2, 2]), 1.0, 1.0, 4000), 4 / 3 * np.pi),
    "cylinder": (shapes.lathe(CIRCLE, 2000, equal_ends=True), np.pi / 2),
    "torus": (shapes.torus(1.0, 0.3, 4000), 2 * np.pi ** 2 * 0.09),
    "cube": (shapes.extrusion(regular(4, np.sqrt(0.5)), 1.0, 200, 4), 1.0),
    "nut": (shapes.ring_extrusion(regular(64, 1.0), regular(64, 0.5), 2.0), 1.5 * np.pi),
    "column": (shapes.loft(regular(4, np.sqrt(0.5)), np.linspace(0, 3, 40), np.ones(40), np.linspace(0, 1, 40)), 3.0),
    "pipe": (shapes.tube(np.stack([np.zeros(9), np.zeros(9), np.linspace(0, 4, 9)], 1), np.full(9, 0.5), 600), np.pi),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_shapes_are_closed_face_outward_and_have_the_known_volume(name):
    shape, volume = SOLIDS[name]
    assert signed_volume(shape) == pytest.approx(volume, rel=0.04)
    position = np.unique(np.round(shape.vertices, 6), axis=0, return_inverse=True)[1].reshape(-1)[shape.faces]
    edges = np.concatenate([position[:, [i, (i + 1) % 3]] for i in range(3)])
    forward, count = np.unique(edges, axis=0, return_counts=True)
    assert (count == 1).all() and {tuple(e) for e in forward} == {tuple(e[::-1]) for e in forward}


@pytest.mark.parametrize("name", SOLIDS)
def test_text_on_a_chart_is_not_mirrored(name):
    shape, _ = SOLIDS[name]
    a, b, c = shape.uv.transpose(1, 0, 2)
    (bx, by), (cx, cy) = (b - a).T, (c - a).T
    assert (bx * cy - by * cx > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_symmetries_map_geometry_and_colours_onto_themselves(family):
    seen = 0
    for seed in range(150):
        made = random_object(seed, family)
        if made.symmetries.is_trivial:
            continue
        seen += 1
        mesh = made.mesh
        points = mesh.surface_points(4000)
        tree = cKDTree(np.concatenate([points, mesh.vertices]))
        spacing = np.quantile(cKDTree(points).query(points, k=2)[0][:, 1], 0.99)
        for S in made.symmetries.transforms(step_rad=0.7):
            moved = points[:500] @ S[:3, :3].T + S[:3, 3]
            assert tree.query(moved)[0].max() < 3 * spacing, (seed, made.kind)
    assert seen >= 5


def test_a_box_has_the_group_of_its_extents():
    for extents, order in (([1, 2, 3], 4), ([2, 2, 3], 8), ([2, 2, 2], 24)):
        group = shapes.cuboid_group(np.array(extents, float))
        assert len(group.discrete) + 1 == order
        for a, b in itertools.product(group.transforms(), repeat=2):
            assert np.abs(group.transforms() - a @ b).max((1, 2)).min() < 1e-9


def test_a_moved_group_turns_the_moved_shape_onto_itself():
    rng = np.random.default_rng(0)
    R, t = shapes.rotation_z(0.7) @ np.diag([1.0, -1, -1]), rng.normal(size=3)
    group = shapes.moved_group(shapes.round_group(flip=True), R, t)
    circle = regular(90, 1.0)
    points = np.concatenate([np.c_[circle, np.full(90, z)] for z in (-1, 1)]) @ R.T + t
    for S in group.transforms(step_rad=np.pi / 44.5):
        assert cKDTree(points).query(points @ S[:3, :3].T + S[:3, 3])[0].max() < 1e-6
