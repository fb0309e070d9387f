"""Pictures for people show what they say they show."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flowpose_ros.geometry.camera import pixel_grid
from flowpose_ros.networks.flow import GenFlow
from flowpose_ros.networks.geometry_net import GeometryNet
from training.geometry_loss import true_geometry
from training.losses import view_of
from training.pairs import PairMaker, collate
from training.pictures import STRIP, geometry_rows, pair_rows, refiner_rows, scorer_rows, warped_back

S = 64


@pytest.fixture(scope="module")
def batch():
    maker = PairMaker(0, S)
    return collate([maker.sample(i) for i in range(2)])


def tiles_of(picture, count):
    """Columns [n][B,S,S,3] of a picture, in [0,1]."""
    assert picture.dtype == np.uint8 and picture.shape[1] == count * S
    return np.moveaxis(picture.reshape(-1, S, count, S, 3), 2, 0) / 255


def test_a_query_is_warped_to_where_the_flow_points(batch):
    grid = pixel_grid(S, S).permute(2, 0, 1).expand(2, -1, -1, -1)
    found = warped_back(grid, batch.gt_flow)
    inside = ((grid + batch.gt_flow >= 0) & (grid + batch.gt_flow <= S - 1)).all(1, keepdim=True)
    torch.testing.assert_close(found * inside, (grid + batch.gt_flow) * inside, atol=1e-3, rtol=0)


def test_a_pairs_row_shows_query_render_and_where_the_query_is_seen(batch):
    query, render, warped, visible, depth = tiles_of(pair_rows(batch), 5)
    np.testing.assert_allclose(query, batch.query_rgb.permute(0, 2, 3, 1), atol=1 / 254)
    shown = batch.visible.numpy()
    assert abs(warped - render)[shown].mean() < abs(query - render)[shown].mean()
    np.testing.assert_allclose(visible[shown], render[shown], atol=1 / 254)
    assert depth[batch.query_depth.numpy() == 0].max(initial=0) == 0


def test_a_refiner_that_is_right_shows_twice_the_same(batch):
    with torch.no_grad():
        network = GenFlow()
        update = network(network.encode(batch.query_rgb), view_of(batch))[-1]
    certainty = 20.0 * batch.visible[:, None] - 10
    true = replace(update, field=replace(update.field, flow=batch.gt_flow, certainty=certainty))
    *_, by_said, by_true, certainty, visible = tiles_of(refiner_rows(true, batch), 6)
    np.testing.assert_array_equal(by_said, by_true)
    np.testing.assert_allclose(certainty, visible, atol=1 / 254)
    *_, by_said, by_true, _, _ = tiles_of(refiner_rows(update, batch), 6)
    assert not np.array_equal(by_said, by_true)


def test_a_geometry_network_that_is_right_shows_twice_the_same(batch):
    refiner, network = GenFlow(), GeometryNet()
    with torch.no_grad():
        said = network(refiner.encode(batch.query_rgb), refiner.encode(batch.render_rgb), view_of(batch))
    truth, visible = true_geometry(batch, said.pixel)
    _, _, points, true_points, seen, true_seen = tiles_of(
        geometry_rows(replace(said, xyz=truth, visible=20 * visible - 10), batch), 6)
    np.testing.assert_array_equal(points, true_points)
    np.testing.assert_allclose(seen, true_seen, atol=1 / 254)
    assert 0 < true_seen.mean() < 1


def test_a_scorers_row_begins_with_its_favourite_and_colours_what_is_near_and_far():
    views = torch.full((1, 3, 3, S, S), 0.5)
    logits = torch.tensor([[0.1, 3.0, -2.0]])
    near, far = torch.tensor([[False, True, False]]), torch.tensor([[True, False, False]])
    query, *ordered = tiles_of(scorer_rows(torch.ones(1, 3, S, S), views, logits, near, far), 4)
    assert query.min() == 1
    assert [view[0, -1, 0].tolist() for view in ordered] == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert all(np.allclose(view[0, :-STRIP], 0.5, atol=1 / 254) for view in ordered)
