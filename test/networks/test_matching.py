"""Matches of constructed features, whose places are known."""

import pytest
import torch
import torch.nn.functional as F

from flowpose_ros.networks.matching import SHARE_FLOOR, STRIDE, found_in_place, joint_features, match_cells


def distinct(seed, channels, size):
    return 4 * torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(seed))


def everywhere(size):
    """All cells, each of which counts."""
    return torch.arange(size * size)[None], torch.ones(1, size * size, dtype=torch.bool)


@pytest.mark.parametrize("shift", [(0, 0), (5, -3)])
def test_cells_are_found_where_they_went(shift):
    source = distinct(0, 64, 16)
    target = torch.roll(source, (shift[1], shift[0]), (2, 3))
    matches = match_cells(source, target, *everywhere(16))
    v, u = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    stays = ((u + shift[0] >= 0) & (u + shift[0] < 16) & (v + shift[1] >= 0) & (v + shift[1] < 16)).flatten()
    expected = (torch.stack([u + shift[0], v + shift[1]], -1).reshape(-1, 2) * STRIDE + 1.5).float()
    torch.testing.assert_close(matches.pixel[0][stays], expected[stays], atol=0.05, rtol=0)
    assert matches.confidence[0][stays].min() > 0.9


def test_a_cell_between_two_is_placed_between_them():
    target = F.normalize(distinct(1, 64, 8), dim=1) * 20
    source = target.clone()
    source[..., 3, 3] = (target[..., 3, 3] + target[..., 3, 4]) / 2
    source[..., 3, 4] = 0  # its own claim would win
    place = match_cells(source, target, *everywhere(8)).pixel[0, 3 * 8 + 3]
    assert place[0] == pytest.approx(3.5 * STRIDE + 1.5, abs=1.0) and place[1] == pytest.approx(3 * STRIDE + 1.5, abs=0.2)


def test_what_two_cells_want_is_certain_for_neither():
    source = distinct(2, 64, 8)
    target = source.clone()
    source[..., 0, 1] = source[..., 0, 0]
    confidence = match_cells(source, target, *everywhere(8)).confidence[0]
    assert confidence[:2].max() < 0.6 < confidence[2:].min()
    # A rival off the object is none.
    cells, counts = everywhere(8)
    counts[0, 1] = False
    assert match_cells(source, target, cells, counts).confidence[0, 0] > 0.9


def test_asking_fewer_cells_is_as_if_the_others_did_not_count():
    source, target = distinct(5, 16, 8) / 4, distinct(6, 16, 8) / 4
    cells, counts = everywhere(8)
    asked = torch.arange(3, 64, 5)
    counts[0] = torch.isin(cells[0], asked)
    some = match_cells(source, target, asked[None], torch.ones(1, len(asked), dtype=torch.bool))
    whole = match_cells(source, target, cells, counts)
    torch.testing.assert_close(some.pixel[0], whole.pixel[0, asked])
    torch.testing.assert_close(some.confidence[0], whole.confidence[0, asked])


def test_where_no_cell_counts_places_and_confidences_are_numbers_all_the_same():
    source = distinct(7, 64, 8)
    cells, counts = everywhere(8)
    found = match_cells(source, source, cells, counts & False)
    assert torch.isfinite(found.pixel).all() and ((found.confidence >= 0) & (found.confidence <= 1)).all()


def test_joint_correlation_is_the_sum_of_both_levels():
    fine, coarse = distinct(3, 32, 8), distinct(4, 96, 4)
    joint = joint_features((fine, coarse)).flatten(2)[0]
    big = F.interpolate(coarse, size=(8, 8), mode="bilinear").flatten(2)[0]
    small = fine.flatten(2)[0]
    torch.testing.assert_close(joint.T @ joint / 128 ** 0.5, small.T @ small / 32 ** 0.5 + big.T @ big / 96 ** 0.5,
                               atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("shift, found", [(0, True), (1, True), (3, False)])
def test_what_is_in_place_is_found_there(shift, found):
    source = distinct(7, 64, 16)
    target = torch.roll(source, shift, 3)
    cells = torch.arange(16 * 16).reshape(16, 16)[2:14, 2:12].reshape(1, -1)
    said = found_in_place(source, target, cells, torch.ones_like(cells, dtype=torch.bool))
    expected = torch.tensor([(1.0 if found else 0.0) + SHARE_FLOOR]).log()
    torch.testing.assert_close(said, expected, atol=0.1, rtol=0)


def test_hidden_cells_and_cells_off_the_object_count_as_they_should():
    source = distinct(8, 64, 8)
    target = torch.cat([source[..., :4], distinct(9, 64, 8)[..., 4:]], 3)  # the right half is hidden
    cells, counts = everywhere(8)
    whole = found_in_place(source, target, cells, counts)
    left = found_in_place(source, target, cells, counts & (cells % 8 < 3))
    low, high = torch.tensor([SHARE_FLOOR, 1 + SHARE_FLOOR]).log().tolist()
    assert left == pytest.approx(high, abs=0.1) and whole == pytest.approx((low + high) / 2, abs=0.3)
