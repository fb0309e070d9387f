"""Samples used again must be as true as fresh ones."""

from __future__ import annotations

import weakref

import torch
from torch.testing import assert_close

from flowpose_ros.geometry.camera import back_project, pixel_grid, project
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.rendering.raycast import RaycastRenderer
from training.pairs import PairMaker
from training.reuse import quarter_turned, reused


def test_four_quarter_turns_are_none():
    batch = PairMaker(0, 64).sample(0)
    turned = batch
    for _ in range(4):
        turned = quarter_turned(turned, 1)
    for name, value in vars(batch).items():
        assert_close(getattr(turned, name), value, atol=1e-5, rtol=1e-5)


def test_a_turned_sample_still_says_where_its_render_lies():
    batch = quarter_turned(PairMaker(0, 64).sample(1), 3)
    cells = batch.render_mask[0] & batch.visible[0]
    xyz = batch.render_xyz[0].permute(1, 2, 0)[cells]
    pixels = pixel_grid(64, 64)[cells]
    assert len(pixels) > 30
    for T, moved in ((batch.T_init, 0), (batch.T_gt, batch.gt_flow[0].permute(1, 2, 0)[cells])):
        seen = project(transform_points(T, xyz)[0], batch.K[0])
        assert_close(seen, pixels + moved, atol=0.02, rtol=0)


def test_a_turned_samples_depth_of_the_object_is_that_of_its_surface():
    batch, thing = PairMaker(0, 64).sample_with_object(1)
    for turns in range(4):
        turned = quarter_turned(batch, turns)
        seen = turned.target_depth[0] > 0
        points = back_project(pixel_grid(64, 64)[seen], turned.target_depth[0][seen], turned.K[0])
        points = (points - turned.T_gt[0, :3, 3]) @ turned.T_gt[0, :3, :3]
        view = RaycastRenderer().render(thing.mesh, turned.T_gt, turned.K, (64, 64))
        apart = (points - view.xyz[0].permute(1, 2, 0)[seen]).norm(dim=1) / batch.radius
        assert len(points) > 60 and apart.quantile(0.9) < 0.03


def test_a_turned_samples_normals_face_the_camera_as_before():
    batch = PairMaker(0, 64).sample(2)
    turned = quarter_turned(batch, 1)
    before = batch.T_init[0, :3, :3].T @ batch.render_normal[0].rot90(-1, (-2, -1)).flatten(1)
    after = turned.T_init[0, :3, :3].T @ turned.render_normal[0].flatten(1)
    assert_close(after, before, atol=1e-5, rtol=0)  # in the object's frame nothing turned


def test_each_fresh_batch_comes_once_and_others_are_drawn_from_what_was_seen():
    maker = PairMaker(0, 64)
    fresh = [maker.sample(i) for i in range(3)]
    got = list(reused(fresh, 3, [0]))
    assert len(got) == 9
    assert [got[i] is fresh[i // 3] for i in (0, 3, 6)] == [True] * 3
    depths = [float(batch.T_gt[0, 2, 3]) for batch in fresh]
    assert all(any(abs(float(batch.T_gt[0, 2, 3]) - z) < 1e-6 for z in depths[:i // 3 + 1])
               for i, batch in enumerate(got))
    again = list(reused(fresh, 3, [0]))
    assert all(torch.equal(a.T_gt, b.T_gt) for a, b in zip(got, again))


def test_used_once_each_batch_comes_as_it_is_and_none_is_kept():
    maker = PairMaker(0, 64)
    batches, alive = [maker.sample(0), maker.sample(1)], []

    def fresh():
        while batches:
            alive.append(weakref.ref(batches[-1].K))
            yield batches.pop()

    stream = reused(fresh(), 1, [0])
    for _ in range(2):
        next(stream)
    assert alive[0]() is None and next(stream, None) is None
