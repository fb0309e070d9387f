"""What speaks for a pose in the picture alone."""

from __future__ import annotations

import pytest
import torch

from flowpose_ros.estimation.agreement import colour_agreement, contour_agreement, texture_agreement


def test_colours_agree_whatever_the_exposure_and_not_when_turned():
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).repeat_interleave(4, 2)
    picture = picture.repeat_interleave(4, 3)
    mask = torch.zeros(1, 128, 128, dtype=torch.bool)
    mask[:, 20:100, 30:110] = True
    assert colour_agreement(picture * mask[:, None], mask, 0.4 * picture + 0.1) > 0.98
    assert colour_agreement(picture * mask[:, None], mask, picture.flip(-1)) < 0.6
    plain = torch.full_like(picture, 0.3) * mask[:, None]
    assert colour_agreement(plain, mask, picture) == pytest.approx(0.5, abs=0.02)


def blocks(side: int = 4) -> torch.Tensor:
    """A picture [1,3,128,128] of random blocks."""
    picture = torch.rand(1, 3, 128 // side, 128 // side, generator=torch.Generator().manual_seed(0))
    return picture.repeat_interleave(side, 2).repeat_interleave(side, 3)


def square(left: int, top: int, side: int) -> torch.Tensor:
    """A mask [1,128,128] of a square."""
    mask = torch.zeros(1, 128, 128, dtype=torch.bool)
    mask[:, top:top + side, left:left + side] = True
    return mask


def test_texture_agrees_whatever_the_light_of_each_place_and_not_when_moved_by_a_few_pixels():
    picture, mask = blocks(), square(24, 24, 80)
    lit = picture * torch.linspace(0.3, 0.9, 128) + 0.05
    assert texture_agreement(picture * mask[:, None], mask, lit) > 0.9
    assert texture_agreement(picture * mask[:, None], mask, picture.roll(4, -1)) < 0.3
    plain = torch.full_like(picture, 0.3)
    assert texture_agreement(plain, mask, picture) == pytest.approx(0, abs=0.02)
    assert texture_agreement(picture, torch.zeros_like(mask), picture) == 0


def test_contour_is_strongest_where_the_picture_has_it():
    query = 0.2 + 0.5 * square(40, 40, 48)[:, None].float().expand(-1, 3, -1, -1)
    here, moved, smaller, none = (contour_agreement(mask, query) for mask in
                                  (square(40, 40, 48), square(46, 40, 48), square(46, 46, 36), square(0, 0, 0)))
    assert here > 1.5 * moved > 0 and smaller < 0.05 * here and none == 0


def test_an_object_that_fills_the_crop_has_no_contour():
    assert contour_agreement(square(0, 0, 128), blocks()) == 0
