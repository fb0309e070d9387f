"""Samples from the store must be as true as fresh ones, whatever was done to them."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.testing import assert_close

from flowpose_ros.geometry.camera import pixel_grid, project
from flowpose_ros.geometry.transforms import transform_points
from training.pairs import PairBatch, PairMaker, collate
from training.replay import Replay, mirrored, recoloured, replayed, restocked


@pytest.fixture(scope="module")
def batch() -> PairBatch:
    maker = PairMaker(0, 64)
    return collate([maker.sample(i) for i in range(4)])


def assert_render_and_query_lie_where_the_poses_say(batch: PairBatch) -> None:
    for i in range(len(batch.K)):
        cells = batch.render_mask[i] & batch.visible[i]
        xyz = batch.render_xyz[i].permute(1, 2, 0)[cells]
        pixels = pixel_grid(64, 64)[cells]
        assert len(pixels) > 30
        for T, moved in ((batch.T_init[i], 0), (batch.T_gt[i], batch.gt_flow[i].permute(1, 2, 0)[cells])):
            seen = project(transform_points(T[None], xyz)[0], batch.K[i])
            assert_close(seen, pixels + moved, atol=0.02, rtol=0)
        # What the query shows of the object lies, at its depth, on the surface that the render shows too.
        u, v = (pixels + batch.gt_flow[i].permute(1, 2, 0)[cells]).round().long().clamp(0, 63).unbind(1)
        depth = batch.target_depth[i, v, u]
        expected = transform_points(batch.T_gt[i:i + 1], xyz)[0, :, 2]
        assert ((depth - expected).abs()[depth > 0] / batch.radius[i]).median() < 0.05
        assert (depth > 0).float().mean() > 0.9


def test_a_mirrored_sample_still_says_where_its_render_lies(batch):
    turned = mirrored(batch)
    assert_render_and_query_lie_where_the_poses_say(turned)
    for T in (turned.T_init, turned.T_gt):
        assert_close(torch.det(T[:, :3, :3]), torch.ones(4))


def test_a_mirrored_samples_normals_belong_to_its_object(batch):
    turned = mirrored(batch)
    sign = torch.tensor([-1.0, 1.0, 1.0])[:, None]
    before = batch.T_init[:, :3, :3].transpose(1, 2) @ batch.render_normal.flip(-1).flatten(2)
    after = turned.T_init[:, :3, :3].transpose(1, 2) @ turned.render_normal.flatten(2)
    assert_close(after, before * sign, atol=1e-5, rtol=0)


def test_mirrored_twice_is_as_before(batch):
    for name, value in vars(mirrored(mirrored(batch))).items():
        assert_close(value, getattr(batch, name))


def test_channels_change_places_in_query_and_render_alike(batch):
    painted = vars(batch) | {"query_rgb": torch.ones(4, 3, 64, 64) * torch.tensor([0.2, 0.5, 0.8])[:, None, None]}
    painted["render_rgb"] = painted["query_rgb"].clone()
    orders = set()
    for seed in range(8):
        got = recoloured(PairBatch(**painted), torch.Generator().manual_seed(seed))
        query, render = got.query_rgb.mean((2, 3)), got.render_rgb.mean((2, 3))
        assert torch.equal(query.argsort(1), render.argsort(1))
        assert_close(query, render, atol=0.25, rtol=0)
        orders |= {tuple(row) for row in render.argsort(1).tolist()}
    assert len(orders) == 6


def test_what_is_drawn_is_true_and_in_all_placements(batch):
    replay = Replay(4, "cpu", seed=0)
    replay.add(batch)
    drawn = replay.draw(16)
    assert_render_and_query_lie_where_the_poses_say(drawn)
    assert len({tuple(T.flatten().tolist()) for T in drawn.T_init}) >= 8


def test_the_newest_samples_take_the_place_of_the_oldest(batch):
    replay = Replay(3, "cpu", seed=0)
    replay.add(batch)
    assert (len(replay), replay.seen) == (3, 4)
    depths = set(batch.T_gt[1:, 2, 3].tolist())
    assert set(replay.draw(80).T_gt[:, 2, 3].tolist()) == depths


def test_the_same_seed_draws_the_same(batch):
    draws = []
    for _ in range(2):
        replay = Replay(4, "cpu", seed=5)
        replay.add(batch)
        draws.append(replay.draw(8))
    assert all(torch.equal(a, b) for a, b in zip(*(vars(draw).values() for draw in draws)))


def test_a_stream_is_stored_while_it_is_drawn_from(batch):
    goes_on = threading.Event()

    def fresh():
        yield batch
        goes_on.wait(10)
        while True:
            yield batch

    replay = Replay(64, "cpu", seed=0)
    stream = replayed(fresh(), replay, 8, least=4)
    assert len(next(stream).K) == 8 and replay.seen == 4
    goes_on.set()
    while replay.seen < 64:
        next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "replay"]


def test_a_broken_stream_says_so(batch):
    def fresh():
        yield batch
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        for _ in replayed(fresh(), Replay(64, "cpu", seed=0), 8, least=4):
            pass


def test_an_empty_stream_ends(batch):
    assert not list(replayed([], Replay(64, "cpu", seed=0), 8))


def test_each_batch_that_is_stored_is_followed_by_as_many_drawn_ones(batch):
    made = []

    def fresh():
        for i in range(4):
            made.append(batch.T_gt[i, 2, 3].item())
            yield PairBatch(**{name: value[i:i + 1] for name, value in vars(batch).items()})

    drawn_of = []
    for drawn in restocked(fresh(), Replay(2, "cpu", seed=0), 3, 16):
        assert_render_and_query_lie_where_the_poses_say(drawn)
        assert set(drawn.T_gt[:, 2, 3].tolist()) == set(made[-2:])  # the newest two, whichever order they came in
        drawn_of.append(len(made))
    assert drawn_of == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3


def test_samples_used_once_stay_as_they_were_made(batch):
    replay = Replay(4, "cpu", seed=0)
    assert list(restocked([batch], replay, 1, 8)) == [batch]
    assert len(replay) == 0
