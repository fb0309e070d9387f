"""What the scorer compares: each cell with those around its own place."""

import torch

from flowpose_ros.geometry.camera import pixel_grid
from flowpose_ros.networks.correlation import sample_window
from flowpose_ros.networks.scorer import CHANNELS, WINDOW, Scorer, match_maps, near_cells


def test_near_cells_are_a_window_of_the_volume():
    h, w = 5, 7
    similarity = torch.randn(3, h * w, h * w, generator=torch.Generator().manual_seed(0))
    cells = pixel_grid(h, w).reshape(1, h * w, 2).expand(3, -1, -1)
    expected = sample_window(similarity.reshape(3, h * w, h, w), cells, WINDOW)
    torch.testing.assert_close(near_cells(similarity, h, w), expected)


def test_equal_pictures_match_at_their_own_place_and_one_query_serves_all_templates():
    template = torch.randn(2, 16, 6, 6, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 1, 6, 6)
    maps = match_maps(template, mask, template)
    assert maps.shape == (2, CHANNELS, 6, 6)
    own = maps[:, (2 * WINDOW + 1) ** 2 // 2]
    torch.testing.assert_close(own, torch.ones_like(own))
    one = match_maps(template, mask, template[:1])
    torch.testing.assert_close(one[0], maps[0])
    assert Scorer()(template, mask, template[:1]).shape == (2,)
