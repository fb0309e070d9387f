"""Photoreal scenes: composed the same everywhere, whole in the image, and what Cycles sees lies where the pose says."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from flowpose_ros.errors import FlowposeError
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.evaluation.view import Window, depth_in_window
from flowpose_ros.objects.load import load_mesh
from flowpose_ros.rendering.raycast import RaycastRenderer
from training.objects import random_object
from training.photoreal.__main__ import Settings, main, make_dataset
from training.photoreal.compose import TURN_DEG, Scene, aim, around, at_rest, compose
from training.photoreal.light import LUMINANCE, temperature_color
from training.photoreal.render import render
from training.photoreal.settle import settle
from training.photoreal.things import Thing, find_meshes, load_things, one_look
from training.pools import Backgrounds

needs_bpy = pytest.mark.skipif(importlib.util.find_spec("bpy") is None,
                               reason="Blender's Python module is not installed: docs/photoreal.md")
SETTINGS = Settings(seed=3, room="mixed", family="all", unit="mm", size=(60, 80), samples=1)


@pytest.fixture(scope="module")
def things():
    return [Thing(seed, f"object_{seed}", random_object(seed, "train").mesh) for seed in range(1, 7)]


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory):
    return Backgrounds(tmp_path_factory.mktemp("none"))


@pytest.fixture(scope="module")
def in_the_air(things, backgrounds):
    """Some scenes before anything falls."""
    return [compose(things, backgrounds, kind, (seed, 0, 0)) for seed in range(4) for kind in ("table", "bin")]


def world_points(item):
    return item.thing.mesh.vertices @ item.T_world_obj[:3, :3].T + item.T_world_obj[:3, 3]


def numbers(scene: Scene):
    """Everything of a scene that is drawn."""
    yield from (item.T_world_obj for item in scene.placed)
    yield np.array([[item.thing.obj_id, item.roughness] for item in scene.placed])
    for lamp in scene.light.lamps:
        yield np.array([*lamp.position, lamp.side, lamp.power, *lamp.color])
    for slab in scene.room.slabs:
        yield np.array([*slab.low, *slab.high, slab.roughness])
        yield slab.picture


def test_a_scene_is_the_same_whatever_was_composed_before_it(things, backgrounds):
    alone = compose(things, backgrounds, "mixed", (7, 5, 0))
    after_others = [compose(things, backgrounds, "mixed", (7, index, 0)) for index in range(2, 6)]
    for a, b in zip(numbers(alone), numbers(after_others[-1]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(alone.placed[0].T_world_obj, after_others[0].placed[0].T_world_obj)
    assert {scene.room.kind for scene in after_others} == {"table", "bin"}


def test_things_do_not_overlap_before_they_fall(in_the_air):
    for scene in in_the_air:
        middles = np.array([item.T_world_obj[:3, :3] @ item.thing.mesh.center + item.T_world_obj[:3, 3]
                            for item in scene.placed])
        radii = np.array([item.thing.mesh.radius for item in scene.placed])
        apart = np.linalg.norm(middles[:, None] - middles, axis=2) + np.eye(len(radii)) * 10
        assert (apart > radii[:, None] + radii).all()
        assert all(world_points(item)[:, 2].min() > 0 for item in scene.placed)
        assert (np.abs(middles[:, :2]) <= scene.room.half).all()


@pytest.mark.parametrize("size", [(480, 640), (300, 200)])
def test_all_things_are_whole_in_the_image(in_the_air, size):
    for seed, scene in enumerate(in_the_air):
        camera = aim(scene, size, (seed, 0))
        points = np.concatenate([world_points(item) for item in scene.placed])
        seen = (points @ camera.T_cam_world[:3, :3].T + camera.T_cam_world[:3, 3]) @ camera.K.T
        pixels = seen[:, :2] / seen[:, 2:]
        margin = 0.04 * np.array([size[1], size[0]])
        assert (seen[:, 2] > 0.1).all() and (pixels > margin).all() and (pixels < [size[1], size[0]] - margin).all()
        assert np.ptp(pixels, axis=0).max() > 0.35 * min(size)
        assert camera.T_cam_world[2, 2] < -0.3  # looks down


def test_a_camera_that_goes_round_the_pile_keeps_all_things_whole_in_its_images(in_the_air):
    for seed, scene in enumerate(in_the_air):
        first = aim(scene, (480, 640), (seed, 0))
        np.testing.assert_array_equal(around(scene, first, 1)[0].T_cam_world, first.T_cam_world)
        path = around(scene, first, 30)
        points = np.concatenate([world_points(item) for item in scene.placed])
        for camera in path:
            seen = (points @ camera.T_cam_world[:3, :3].T + camera.T_cam_world[:3, 3]) @ camera.K.T
            pixels = seen[:, :2] / seen[:, 2:]
            assert (seen[:, 2] > 0.1).all() and (pixels > [25, 19]).all() and (pixels < [614, 460]).all()
        for before, after in zip(path, path[1:]):
            turn = Rotation.from_matrix(after.T_cam_world[:3, :3].T @ before.T_cam_world[:3, :3]).as_rotvec(degrees=True)
            np.testing.assert_allclose(turn, [0, 0, -TURN_DEG], atol=1e-9)


def test_what_left_the_table_is_taken_away(in_the_air):
    scene = in_the_air[0]
    poses = [item.T_world_obj.copy() for item in scene.placed]
    poses[0][0, 3] += 5
    poses[1][2, 3] -= 5
    assert [item.thing for item in at_rest(scene, poses).placed] == [item.thing for item in scene.placed[2:]]


def test_a_lamp_has_the_colour_of_its_temperature():
    daylight, bulb, shade = (temperature_color(kelvin) for kelvin in (6500, 2800, 9000))
    np.testing.assert_allclose(daylight, 1, atol=0.08)
    assert bulb[0] > 1.5 * bulb[1] > 3 * bulb[2] and shade[2] > shade[0]
    np.testing.assert_allclose([LUMINANCE @ color for color in (daylight, bulb, shade)], 1)


def test_a_mesh_that_cannot_be_used_is_left_out_by_name(tmp_path):
    trimesh.creation.box([0.1, 0.1, 0.1]).export(tmp_path / "a.ply")
    (tmp_path / "b.obj").write_text("nothing")
    (tmp_path / "c").mkdir()
    trimesh.creation.icosphere(1, 0.05).export(tmp_path / "c" / "mesh.ply")
    trimesh.creation.box([2.0, 0.1, 0.1]).export(tmp_path / "d.glb")
    trimesh.Trimesh([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]], [[0, 1, 2]]).export(tmp_path / "e.ply")
    (tmp_path / "notes.txt").write_text("no mesh")
    things, skipped = load_things(find_meshes(tmp_path, "all"), "m")
    assert [(thing.obj_id, thing.name) for thing in things] == [(1, "a"), (3, "c")]
    assert list(skipped) == ["b", "d", "e"] and "0.6 m" in skipped["d"]
    assert "e.ply: expected vertices with a convex hull, got others: QH" in skipped["e"]


def test_a_folder_without_meshes_is_refused(tmp_path):
    with pytest.raises(FlowposeError, match="expected meshes of family train"):
        find_meshes(tmp_path, "train")


def test_several_textures_become_colours_of_corners(things):
    mesh = next(thing.mesh for thing in things if thing.mesh.textures)
    np.testing.assert_array_equal(one_look(mesh).textures[0], mesh.textures[0])
    tinted = one_look(replace(mesh, colors=mesh.colors * np.float32([1, 0.5, 0])))
    np.testing.assert_allclose(tinted.textures[0], mesh.textures[0] * [1, 0.5, 0], atol=0.51)
    assert (tinted.colors == 1).all()
    blue, red = (np.full((4, 4, 3), color, np.uint8) for color in ((0, 0, 255), (255, 0, 0)))
    half = len(mesh.faces) // 2
    plain = one_look(replace(mesh, textures=(blue, red), colors=np.ones_like(mesh.colors),
                             face_texture=np.repeat([0, 1], [half, len(mesh.faces) - half]).astype(np.int16)))
    assert not plain.textures and (plain.face_texture == -1).all()
    np.testing.assert_allclose(plain.colors[:half], np.broadcast_to([0, 0, 1], (half, 3, 3)), atol=1e-6)
    np.testing.assert_allclose(plain.colors[half:, :, 0], 1, atol=1e-6)


def test_without_blender_one_line_says_how_to_install_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "bpy", None)
    asked = f"training/photoreal/__main__.py --meshes {tmp_path} --output {tmp_path / 'out'}"
    monkeypatch.setattr(sys, "argv", asked.split())
    with pytest.raises(SystemExit) as stopped:
        main()
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.startswith("photoreal: ")
    assert "requirements-photoreal.txt" in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", [("--shard", "4/4"), ("--shard", "1"), ("--size", "640"), ("--size", "8x8"),
                                  ("--views", "0")])
def test_a_wrong_flag_is_refused(monkeypatch, capsys, flag):
    monkeypatch.setattr(sys, "argv", ["photoreal", "--meshes", ".", "--output", "out", *flag])
    with pytest.raises(SystemExit):
        main()
    assert flag[0] in capsys.readouterr().err


# --- with Blender --------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def resting(in_the_air):
    return {scene.room.kind: settle(scene) for scene in in_the_air[:2]}


@needs_bpy
@pytest.mark.parametrize("kind", ["table", "bin"])
def test_things_rest_on_the_table_or_on_each_other(resting, kind):
    scene = resting[kind]
    assert len(scene.placed) >= 3
    lowest = np.array([world_points(item)[:, 2].min() for item in scene.placed])
    assert lowest.min() > -0.002 and (lowest < 0.002).sum() >= 2
    later = settle(scene)
    moved = [np.abs(a.T_world_obj[:3, 3] - b.T_world_obj[:3, 3]).max() for a, b in zip(scene.placed, later.placed)]
    assert len(later.placed) == len(scene.placed) and np.median(moved) < 0.002


@needs_bpy
@pytest.mark.parametrize("kind", ["table", "bin"])
def test_cycles_sees_each_thing_where_its_pose_puts_it(resting, kind):
    scene = resting[kind]
    camera = aim(scene, (240, 320), (5, 0))
    picture, = render(scene, [camera], 1, 0)
    renderer, window = RaycastRenderer(), Window(0, 0, 320, 240)
    depths = np.stack([depth_in_window(renderer, item.thing.mesh, camera.T_cam_world @ item.T_world_obj, camera.K,
                                       window) for item in scene.placed])
    nearest = np.where(depths > 0, depths, np.inf).min(0)
    in_front = (picture.placed == -1) & (picture.depth < nearest - 1e-4)  # a wall of the bin
    for index, depth in enumerate(depths):
        expected, seen = (depth > 0) & (depth == nearest) & ~in_front, picture.placed == index
        if expected.sum() > 100:
            assert (expected & seen).sum() > 0.98 * (expected | seen).sum(), scene.placed[index].thing.name
            both = expected & seen
            assert np.median(np.abs(picture.depth[both] - depth[both])) < 1e-4
    assert (picture.placed >= 0).sum() > 2000 and (picture.depth > 0).mean() > 0.9
    assert np.isfinite(picture.linear).all() and picture.linear.mean() > 0.01


@pytest.fixture
def folder(tmp_path, things):
    """Meshes on disk, one of them broken."""
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    for thing in things[:3]:
        corners = thing.mesh.vertices[thing.mesh.faces].reshape(-1, 3) * 1000
        shape = trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), process=False)
        shape.visual.vertex_colors = np.random.default_rng(0).integers(0, 256, (len(corners), 3))
        shape.export(meshes / f"{thing.name}.ply")
    (meshes / "broken.ply").write_bytes(b"ply")
    return meshes


@needs_bpy
def test_shards_write_the_scenes_of_one_run_and_a_finished_scene_stays(folder, tmp_path):
    made, skipped = make_dataset(folder, tmp_path / "whole", SETTINGS, range(2))
    assert made == 2 and list(skipped) == ["broken"]
    assert [make_dataset(folder, tmp_path / "part", SETTINGS, range(1, 2, 2))[0] for _ in range(2)] == [1, 0]
    assert [path.name for path in (tmp_path / "part" / "test").iterdir()] == ["000001"]
    for name in ("scene_gt.json", "scene_gt_info.json", "scene_camera.json", "depth/000000.png"):
        whole, part = (tmp_path / run / "test" / "000001" / name for run in ("whole", "part"))
        assert whole.read_bytes() == part.read_bytes()
    with pytest.raises(FlowposeError, match="choose another --output"):
        make_dataset(folder, tmp_path / "part", replace(SETTINGS, seed=4), range(2))
    check_dataset(BopDataset(tmp_path / "whole"), folder)


@needs_bpy
def test_a_clip_has_the_poses_of_all_its_images(folder, tmp_path):
    make_dataset(folder, tmp_path / "clip", replace(SETTINGS, views=3), range(1))
    dataset = BopDataset(tmp_path / "clip")
    assert len(dataset.images) == 3
    check_dataset(dataset, folder)


def check_dataset(dataset, folder):
    """Poses, boxes, masks, depth and models as the package reads them."""
    renderer = RaycastRenderer()
    for sample in dataset.samples():
        assert len(sample.ground_truth) >= 2
        height, width = sample.frame.image.shape[:2]
        for truth, mask in zip(sample.ground_truth, dataset.masks(sample.image_id)):
            assert 0 <= truth.visib_fract <= 1
            if truth.box is not None:
                rows, columns = np.nonzero(mask)
                np.testing.assert_array_equal(truth.box, [columns.min(), rows.min(), columns.max(), rows.max()])
            depth = depth_in_window(renderer, dataset.catalogue[truth.label].mesh, truth.T_cam_obj, sample.frame.K,
                                    Window(0, 0, width, height))
            both = mask & (depth > 0)
            if both.sum() > 20:
                assert both.sum() > 0.95 * mask.sum()
                assert np.median(np.abs(sample.frame.depth[both] - depth[both])) < 1e-3
    for path in folder.glob("object_*.ply"):
        written = dataset.catalogue[dataset.label_of(1 + sorted(p.stem for p in folder.glob("*")).index(path.stem))]
        np.testing.assert_allclose(written.mesh.diameter, load_mesh(path, "mm").diameter, rtol=1e-5)
