"""Samples made on a device, a batch at once: the same world as the one that is cast and lit pixel by pixel."""

from dataclasses import fields, replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from scipy.spatial.transform import Rotation

from flowpose_ros.geometry.camera import pixel_grid, project
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.rendering.raycast import RaycastRenderer
from training import device_pairs, lighting, trainer
from training.device_pairs import DevicePairMaker, device_batches
from training.gbuffer import Instance, Material, Plane, Scene, render_gbuffer, scene_depths
from training.on_device.jpeg import as_jpeg
from training.on_device import layout
from training.on_device.layout import draw_layout, nearest, on, perturbed
from training.on_device.light import draw_lights, shade
from training.on_device.resample import blurring, resizing, separable
from training.on_device.sensor import draw_depth_sensors, sense_depths
from training.on_device.shelf import BATCHES, Library, draw_pictures, shelf_of
from training.on_device.surfaces import look, render_starts, scene_triangles, surfaces_of, with_walls
from training.on_device.targets import flow_targets
from training.pairs import LEAST_PIXELS, LEAST_VISIBLE, PairMaker, PairStream, random_pose
from training.perturb import EARLY, LATE, NEAR, SEARCH, perturb_pose
from training.pools import ObjectPool
from training.targets import flow_target
from training.train_refiner import RefinerTraining, train

SIZE, COUNT = 64, 8
HELD = {"procedural": 6, "pictures": 8}

pytestmark = pytest.mark.usefixtures("same_everywhere")


@pytest.fixture(scope="module")
def things(same_everywhere):
    return [ObjectPool().procedural(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def world(things):
    """Shelf, starts, scenes and the pictures behind them."""
    shelf, pictures = shelf_of(things, "cpu"), draw_pictures(96, 0, "cpu", 8)
    return shelf, *draw_layout(COUNT, shelf, len(pictures), SIZE, SEARCH, False, np.random.default_rng(1)), pictures


@pytest.fixture(scope="module")
def rendered(world):
    shelf, starts, _, _ = world
    return render_starts(shelf, starts, SIZE)


@pytest.fixture(scope="module")
def seen(world):
    """Views and surfaces of the scenes at the crops' own size."""
    shelf, starts, scenes, pictures = world
    part, there = scene_triangles(shelf, scenes), on(scenes, "cpu")
    views, triangles = look(there, part, starts.K.float(), SIZE)
    return views, surfaces_of(shelf, there, pictures, part, views, triangles)


@pytest.fixture(scope="module")
def maker(same_everywhere):
    return DevicePairMaker(3, SIZE, 6, **HELD)


@pytest.fixture(scope="module")
def batch(maker):
    return maker.make(0)


@pytest.fixture(scope="module")
def raycast():
    return RaycastRenderer()


def mesh_of(things, entry):
    thing = things[int(entry) // 2]
    return (thing.flat if entry % 2 else thing).mesh


def scene_of(things, scenes, pictures, i) -> Scene:
    """Scene i as those are that workers make; owners are counted among what is present."""
    one = {f.name: getattr(scenes, f.name)[i].numpy() for f in fields(scenes)}
    instances = []
    for k in np.flatnonzero(one["present"]):
        T, scale = one["T"][k].copy(), np.cbrt(np.linalg.det(one["T"][k, :3, :3]))
        T[:3, :3] /= scale
        material = Material(one["gain"][k].astype(np.float32), *one["gloss"][k])
        instances.append(Instance(mesh_of(things, one["entry"][k]), T, material, scale))
    picture = pictures[one["cloth"]].numpy().astype(np.float32) / 255
    table = Plane(one["normal"], one["offset"], one["foot"], one["reach"], picture, one["period"])
    wall = one["wall"] if np.isfinite(one["wall"][3]) else None
    return Scene(tuple(instances), table if one["tabled"] else None, np.zeros((8, 8, 3), np.float32), wall)


def slots_of(scenes, i, owner):
    """Owners among what is present as slots."""
    slots = np.append(np.flatnonzero(scenes.present[i].numpy()), (-2, -1))  # the last two for owners -2 and -1
    return slots[owner]


# --- the same world


def test_renders_are_those_of_ray_casting(things, world, rendered, raycast):
    _, starts, _, _ = world
    for i in range(COUNT):
        cast = raycast.render(mesh_of(things, starts.known[i]), starts.T_init[i:i + 1], starts.K[i:i + 1],
                              (SIZE, SIZE))
        both = cast.mask[0] & rendered.mask[i]
        assert (cast.mask[0] ^ rendered.mask[i]).sum() <= 0.01 * both.sum() + 2
        for name, allowed in (("depth", 0.01 * starts.radius[i]), ("xyz", 0.01 * starts.radius[i]), ("rgb", 0.02),
                              ("normal", 0.02)):
            apart = (getattr(cast, name)[0] - getattr(rendered, name)[i]).abs()[..., both]
            assert apart.quantile(0.97) < allowed, (i, name)


def test_scenes_are_those_of_ray_casting(things, world, seen, raycast):
    _, starts, scenes, pictures = world
    views, surfaces = seen
    clean = with_walls(views, on(scenes, "cpu").wall)
    for i in range(COUNT):
        scene, K = scene_of(things, scenes, pictures, i), starts.K[i].numpy()
        cast = render_gbuffer(raycast, scene, K, (SIZE, SIZE))
        owner = slots_of(scenes, i, cast.owner).reshape(SIZE, SIZE)
        same = owner == views.owner[i].numpy()
        assert same.mean() > 0.99
        there = same & (owner != -1)
        pairs = [(cast.z, views.z, 0.01 * starts.radius[i]), (cast.albedo, surfaces.albedo, 0.02),
                 (cast.normal, surfaces.normal, 0.02), (cast.gloss, surfaces.gloss, 1e-4)]
        for wanted, got, allowed in pairs:
            apart = np.abs(wanted.reshape(SIZE, SIZE, -1)[there] - got[i].numpy().reshape(SIZE, SIZE, -1)[there])
            assert np.quantile(apart, 0.97) < allowed, i
        depth, _ = scene_depths(raycast, scene, K, (SIZE, SIZE))
        assert np.quantile(np.abs(depth - clean[i].numpy())[same] / np.maximum(depth, 1e-3)[same], 0.97) < 1e-3


def lit_both(things, world, seen, raycast, lights):
    """The same scenes lit here and by training.lighting, where the same surface is seen, one pair per scene."""
    shelf, starts, scenes, pictures = world
    views, surfaces = seen
    here = shade(shelf, scenes, lights, views, surfaces).numpy()
    for i in range(COUNT):
        scene = scene_of(things, scenes, pictures, i)
        buffer = render_gbuffer(raycast, scene, starts.K[i].numpy(), (SIZE, SIZE))
        lamps = [lighting.Light(lights.place[i, k].numpy(), bool(lights.near[i, k]), lights.colour[i, k].numpy(),
                                float(lights.shadow[i]) if k == 0 else 0.0, float(lights.softness[i]))
                 for k in range(3)]
        cast = lighting.shade(buffer, scene, lighting.Lighting(lights.ambient[i].numpy(), tuple(lamps),
                                                               float(lights.gamma[i])), raycast)
        same = slots_of(scenes, i, buffer.owner).reshape(SIZE, SIZE) == views.owner[i].numpy()
        same &= (buffer.owner != -1).reshape(SIZE, SIZE)
        yield here[i][same], cast[same]


def test_light_is_that_of_ray_casting(things, world, seen, raycast):
    lights = draw_lights(world[2], np.random.default_rng(2))
    lights = replace(lights, shadow=torch.zeros_like(lights.shadow))
    for here, cast in lit_both(things, world, seen, raycast, lights):
        assert np.quantile(np.abs(here - cast), 0.95) < 0.02


@pytest.mark.parametrize("near", [False, True])
def test_shadows_fall_where_rays_are_blocked(things, world, seen, raycast, near):
    scenes, direction = world[2], torch.nn.functional.normalize(torch.tensor([0.6, -0.8, -0.2]).double(), dim=0)
    bare = draw_lights(scenes, np.random.default_rng(3))
    place = scenes.middle + 8 * scenes.radius[:, None] * direction if near else direction.expand_as(scenes.middle)
    bare = replace(bare, place=place[:, None].expand(-1, 3, -1), near=torch.full_like(bare.near, near),
                   colour=torch.ones_like(bare.colour), shadow=torch.zeros_like(bare.shadow))
    lights = replace(bare, shadow=torch.full_like(bare.shadow, 0.9))
    lit = zip(lit_both(things, world, seen, raycast, lights), lit_both(things, world, seen, raycast, bare))
    taken = [(light - dark, cast_light - cast_dark) for (dark, cast_dark), (light, cast_light) in lit]
    here, cast = (np.concatenate([pair[k].mean(1) for pair in taken]) for k in (0, 1))
    assert (cast > 0.05).mean() > 0.05
    assert np.abs(here - cast).mean() < 0.25 * cast.mean()
    assert np.corrcoef(here, cast)[0, 1] > 0.9


def test_flow_and_visibility_are_those_of_one_sample(world, rendered, seen):
    _, starts, scenes, _ = world
    here, clean = on(starts, "cpu"), with_walls(seen[0], on(scenes, "cpu").wall)
    flow, visible = flow_targets(rendered, clean, here.T_init, here.T_gt, here.K, 2 * here.radius)
    for i in range(COUNT):
        wanted = flow_target(rendered.xyz[i].numpy(), rendered.normal[i].numpy(), rendered.mask[i].numpy(),
                             clean[i].numpy(), starts.T_init[i].numpy(), starts.T_gt[i].numpy(), starts.K[i].numpy(),
                             2 * float(starts.radius[i]))
        np.testing.assert_allclose(flow[i].numpy(), wanted.flow, atol=0.01)
        assert (visible[i].numpy() != wanted.visible).sum() <= 2  # float32 at the tolerance


def test_flow_and_visibility_are_those_of_ray_casting(things, world, rendered, seen, raycast):
    _, starts, scenes, pictures = world
    here, clean = on(starts, "cpu"), with_walls(seen[0], on(scenes, "cpu").wall)
    flow, visible = flow_targets(rendered, clean, here.T_init, here.T_gt, here.K, 2 * here.radius)
    for i in range(COUNT):
        T, K = starts.T_init[i:i + 1], starts.K[i].numpy()
        cast = raycast.render(mesh_of(things, starts.known[i]), T, starts.K[i:i + 1], (SIZE, SIZE))
        depth, _ = scene_depths(raycast, scene_of(things, scenes, pictures, i), K, (SIZE, SIZE))
        wanted = flow_target(*(part[0].numpy() for part in (cast.xyz, cast.normal, cast.mask)), depth, T[0].numpy(),
                             starts.T_gt[i].numpy(), K, 2 * float(starts.radius[i]))
        inside = binary_erosion(cast.mask[0].numpy() & rendered.mask[i].numpy())
        apart = np.abs(flow[i].numpy() - wanted.flow).max(0)[inside]
        assert np.quantile(apart, 0.98) < 0.05
        assert (visible[i].numpy() != wanted.visible)[inside].mean() < 0.02


# --- starts


def test_the_nearest_equivalent_is_that_of_the_symmetry_group(things):
    shelf, rng = shelf_of(things, "cpu"), np.random.default_rng(5)
    groups = [group for thing in things for group in (thing.symmetries, thing.shape_symmetries)]
    assert any(group.axes for group in groups) and any(len(group.discrete) > 3 for group in groups)
    entry = np.repeat(np.arange(len(groups)), 3)
    T, T_reference = (np.stack([random_pose(np.zeros(3), 0.1, rng) for _ in entry]) for _ in range(2))
    for got, k, one, reference in zip(nearest(shelf.forms, entry, T, T_reference), entry, T, T_reference):
        np.testing.assert_allclose(got, groups[k].nearest(one, reference), atol=1e-6)


def test_the_truth_of_a_symmetric_object_is_that_nearest_to_the_start(things, monkeypatch):
    monkeypatch.setattr(layout, "FLAT_SHARE", 1.0)  # many shapes without texture are symmetric
    shelf, rng, turned = shelf_of(things, "cpu"), np.random.default_rng(5), 0
    groups = [group for thing in things for group in (thing.symmetries, thing.shape_symmetries)]
    starts, scenes = draw_layout(200, shelf, 1, SIZE, SEARCH, False, rng)
    poses = (T.numpy() for T in (starts.T_gt, starts.T_init, scenes.T[:, 0]))
    for k, T_gt, T_init, T_real in zip(starts.known, *poses):
        others = T_gt @ groups[k].transforms(step_rad=0.3)
        alike = (others[:, :3, :3] * T_init[:3, :3]).sum((1, 2))
        assert alike.max() < (T_gt[:3, :3] * T_init[:3, :3]).sum() + 1e-6
        turned += not np.allclose(T_gt[:3, :3], T_real[:3, :3], atol=1e-3)
    print("TURNED", turned)
    assert turned > 10


@pytest.mark.parametrize("mixture", [EARLY, LATE, NEAR])
def test_starts_are_as_far_off_as_those_of_one_sample(mixture):
    rng, center, n = np.random.default_rng(6), np.array([0.02, 0.0, 0.01]), 3000
    T = np.stack([random_pose(center, 0.1, rng) for _ in range(n)])
    many = perturbed(T, np.tile(center, (n, 1)), np.full(n, 0.2), mixture, rng)
    one = np.stack([perturb_pose(pose, center, 0.2, rng, mixture) for pose in T])

    def off(starts):
        turn = Rotation.from_matrix(T[:, :3, :3].swapaxes(1, 2) @ starts[:, :3, :3]).magnitude()
        before, after = (P[:, :3, :3] @ center + P[:, :3, 3] for P in (T, starts))
        sideways = np.linalg.norm(after[:, :2] / after[:, 2:] - before[:, :2] / before[:, 2:], axis=1) * before[:, 2]
        return np.stack([turn, sideways, np.abs(after[:, 2] / before[:, 2] - 1)])

    for share in (0.2, 0.5, 0.8):
        got, wanted = (np.quantile(off(starts), share, axis=1) for starts in (many, one))
        np.testing.assert_allclose(got, wanted, rtol=0.12)


# --- sensors


@pytest.mark.parametrize("own", [40, 63, 64, 90, 96])
def test_pictures_are_resized_as_by_opencv(own):
    picture = np.random.default_rng(0).random((96, 96, 3), np.float32)
    small, large = torch.tensor([own]), torch.tensor([96])
    shrunk = separable(resizing(large, small, 96, 96), torch.from_numpy(picture.transpose(2, 0, 1))[None])
    wanted = cv2.resize(picture, (own, own), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(shrunk[0, :, :own, :own].numpy(), wanted.transpose(2, 0, 1), atol=1e-4)
    back = separable(resizing(small, large, 96, 96), shrunk)[0].numpy()
    np.testing.assert_allclose(back, cv2.resize(wanted, (96, 96)).transpose(2, 0, 1), atol=1e-3)


def test_blur_stays_in_the_picture_and_keeps_its_level():
    lines = blurring(torch.tensor([0.0, 1.5]), torch.tensor([64, 40]), 64)
    assert torch.equal(lines[0], torch.eye(64))
    picture = torch.rand(1, 1, 64, 64)
    blurred = separable(lines[1:], picture)[0, 0, :40, :40]
    wanted = cv2.GaussianBlur(picture[0, 0, :40, :40].numpy(), (0, 0), 1.5)
    np.testing.assert_allclose(blurred[5:-5, 5:-5].numpy(), wanted[5:-5, 5:-5], atol=2e-3)


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_jpeg_is_nearly_that_of_opencv(batch, quality):
    picture = np.round(255 * batch.render_rgb[0].permute(1, 2, 0).numpy()).astype(np.uint8)
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    wanted = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.float32)
    # OpenCV takes the first channel for blue.
    got = as_jpeg(torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255,
                  torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy()[..., ::-1] * 255
    lost = np.abs(wanted - picture).mean()
    assert lost > 0.2 and np.abs(got - wanted).mean() < 0.5 * lost


def test_depth_sensors_are_nearly_right_and_miss_some():
    depth = torch.linspace(0.6, 0.7, SIZE).expand(200, SIZE, SIZE).contiguous()
    sensors = draw_depth_sensors(200, np.random.default_rng(0))
    sensed = sense_depths(depth, torch.full((200,), 48), on(sensors, "cpu"), torch.Generator().manual_seed(0))
    present = sensed.flatten(1).any(1)
    assert torch.equal(present, sensors.present) and 0.6 < present.float().mean() < 0.8
    known = sensed[present] > 0
    assert 0.8 < known.float().mean() < 0.99
    assert ((sensed - depth).abs()[present][known]).quantile(0.9) < 0.01


# --- whole batches


def test_batches_are_as_those_of_workers(batch):
    wanted = PairMaker(0, SIZE).sample(0)
    for f in fields(batch):
        got, one = getattr(batch, f.name), getattr(wanted, f.name)
        assert (got.shape, got.dtype) == ((6, *one.shape[1:]), one.dtype), f.name
        assert torch.isfinite(got).all(), f.name
    assert 0 <= batch.query_rgb.min() and batch.query_rgb.max() <= 1
    assert batch.query_rgb.flatten(1).std(1).min() > 0.01


def test_enough_of_each_object_is_visible(batch):
    visible, mask = (value.flatten(1).sum(1) for value in (batch.visible, batch.render_mask))
    assert (visible >= LEAST_PIXELS).all() and (visible >= LEAST_VISIBLE * mask).all()
    assert not (batch.visible & ~batch.render_mask).any()


def test_render_and_query_lie_where_the_poses_say(batch):
    for i in range(len(batch.K)):
        cells = batch.visible[i]
        xyz, pixels = batch.render_xyz[i].permute(1, 2, 0)[cells], pixel_grid(SIZE, SIZE)[cells]
        for T, moved in ((batch.T_init[i], 0), (batch.T_gt[i], batch.gt_flow[i].permute(1, 2, 0)[cells])):
            where = project(transform_points(T[None], xyz)[0], batch.K[i])
            torch.testing.assert_close(where, pixels + moved, atol=0.02, rtol=0)
        u, v = (pixels + batch.gt_flow[i].permute(1, 2, 0)[cells]).round().long().clamp(0, SIZE - 1).unbind(1)
        depth, expected = batch.target_depth[i, v, u], transform_points(batch.T_gt[i:i + 1], xyz)[0, :, 2]
        assert (depth > 0).float().mean() > 0.9
        assert ((depth - expected).abs()[depth > 0] / batch.radius[i]).median() < 0.05


def equal(a, b):
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


def test_a_batch_is_the_same_whoever_makes_it(maker, batch):
    stream = device_batches(PairStream(3, SIZE, start_index=6, batch=6), "cpu", **HELD)
    second = next(stream)
    assert equal(maker.make(1), second) and equal(maker.make(0), batch)
    assert not equal(second, batch)


def test_starts_are_nearer_from_a_sample_on(maker, batch):
    late = DevicePairMaker(3, SIZE, 6, late_from=6, **HELD)
    assert equal(late.make(0), batch)
    assert not torch.equal(late.make(1).start_angle, maker.make(1).start_angle)


def test_hidden_objects_are_no_samples(monkeypatch, maker):
    monkeypatch.setattr(device_pairs, "LEAST_VISIBLE", 2.0)
    monkeypatch.setattr(device_pairs, "ATTEMPTS", 2)
    with pytest.raises(RuntimeError, match="batch 0 of seed 3: 6 of 6 targets not visible after 2 rounds"):
        maker.make(0)


def test_procedural_objects_change_slowly(monkeypatch):
    monkeypatch.setattr("training.on_device.shelf.RENEWED", 2)
    library = Library(4, "train", "cpu", procedural=4)
    first = library.shelf(0)
    assert library.shelf(BATCHES - 1) is first
    second, again = library.shelf(BATCHES), Library(4, "train", "cpu", procedural=4).shelf(BATCHES)
    np.testing.assert_array_equal(first.forms.radius[4:], second.forms.radius[:4])
    assert not np.isin(second.forms.radius[4:], first.forms.radius).any()
    np.testing.assert_array_equal(second.forms.first, again.forms.first)
    assert torch.equal(second.mesh.table, again.mesh.table) and torch.equal(second.mesh.pages, again.mesh.pages)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_makes_the_samples_of_a_cpu(maker, batch):
    there = DevicePairMaker(maker.seed, SIZE, 6, "cuda", **HELD).make(0)
    assert all(value.is_cuda for value in vars(there).values())
    assert (batch.render_mask ^ there.render_mask.cpu()).float().mean() < 1e-3
    assert (batch.visible ^ there.visible.cpu()).float().mean() < 1e-2
    torch.testing.assert_close(batch.T_gt, there.T_gt.cpu())
    assert (batch.query_rgb - there.query_rgb.cpu()).abs().mean() < 0.05  # another noise


# --- training


def test_training_takes_batches_made_on_the_device_and_goes_on_with_the_next(monkeypatch, tmp_path):
    monkeypatch.setattr(trainer, "device_batches", partial(device_batches, **HELD))
    config = RefinerTraining(crop=SIZE, steps=2, batch=2, features_until=0.0, alternate_from=1.0)
    how = {"workers": 0, "threads": 1, "save_every": 1000, "max_minutes": None, "made_on": "device"}
    train(config, tmp_path / "whole", **how)
    train(replace(config, steps=1), tmp_path / "parts", **how)
    train(config, tmp_path / "parts", **how)
    whole, parts = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "parts"))
    torch.testing.assert_close(parts["module"], whole["module"], rtol=0, atol=0)
    assert whole["step"] == parts["step"] == 2
