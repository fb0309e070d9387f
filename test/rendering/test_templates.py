"""Templates: what they show, and a cache that is never believed blindly."""

import numpy as np
import pytest
import torch

from flowpose_ros.geometry.rotations import super_fibonacci
from flowpose_ros.rendering.templates import load_templates, render_views
from rendering.meshes import moved, textured_box

COUNT, SIZE = 12, 48


@pytest.fixture
def mesh():
    return textured_box((0.1, 0.07, 0.05))


class Counting:
    """A real renderer that counts the views it makes."""

    def __init__(self, renderer):
        self.renderer, self.views = renderer, 0

    def render(self, mesh, T_cam_obj, K, size):
        self.views += len(K)
        return self.renderer.render(mesh, T_cam_obj, K, size)


@pytest.fixture
def counting(raycast):
    return Counting(raycast)


def cached_file(cache):
    (path,) = (cache / "templates").iterdir()
    return path


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def test_views_fill_their_crops_and_show_the_rotations_asked_for(mesh, raycast):
    rotations = super_fibonacci(COUNT)
    views = render_views(mesh, raycast, rotations, SIZE)
    assert views.rgb.shape == (COUNT, 3, SIZE, SIZE) and views.rgb.dtype == torch.uint8
    # The middle of the object is on the axis, so the crop's camera hardly turns.
    assert np.abs(views.rotations.numpy() - rotations).max() < 0.1
    border = torch.cat([views.mask[:, [0, -1]].flatten(1), views.mask[:, :, [0, -1]].flatten(1)], 1)
    assert not border.any() and views.mask.float().mean() > 0.15
    assert views.rgb[views.mask[:, None].expand_as(views.rgb)].float().mean() > 40
    assert (views.rgb * ~views.mask[:, None]).max() == 0


def test_size_and_place_of_the_mesh_change_nothing(mesh, raycast):
    rotations = super_fibonacci(3)
    a = render_views(mesh, raycast, rotations, SIZE)
    b = render_views(moved(mesh, (0.3, 0.2, -0.1)), raycast, rotations, SIZE)
    assert (a.mask ^ b.mask).float().mean() < 0.002


def test_progress_ends_at_one(mesh, raycast):
    shares = []
    render_views(mesh, raycast, super_fibonacci(40), 16, shares.append)
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) == 3


def test_templates_are_rendered_once(mesh, counting, tmp_path):
    first = load_templates(mesh, counting, COUNT, SIZE, tmp_path)
    again = load_templates(mesh, counting, COUNT, SIZE, tmp_path)
    assert counting.views == COUNT and same(first, again)


def test_another_look_count_or_size_are_other_templates(mesh, counting, tmp_path):
    load_templates(mesh, counting, COUNT, SIZE, tmp_path)
    load_templates(textured_box((0.1, 0.07, 0.05), seed=5), counting, COUNT, SIZE, tmp_path)
    load_templates(mesh, counting, COUNT + 1, SIZE, tmp_path)
    load_templates(mesh, counting, COUNT, SIZE + 2, tmp_path)
    assert counting.views == 4 * COUNT + 1


@pytest.mark.parametrize("damage", [
    lambda data: data[:len(data) // 2],
    lambda data: b"",
    lambda data: b"not safetensors at all",
    lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
], ids=["truncated", "empty", "foreign", "one bit"])
def test_a_damaged_file_is_made_again(mesh, counting, tmp_path, damage):
    first = load_templates(mesh, counting, COUNT, SIZE, tmp_path)
    path = cached_file(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert same(first, load_templates(mesh, counting, COUNT, SIZE, tmp_path))
    assert counting.views == 2 * COUNT and path.read_bytes() == whole


def test_the_file_of_another_object_is_not_taken(mesh, counting, tmp_path):
    load_templates(mesh, counting, COUNT, SIZE, tmp_path)
    own = cached_file(tmp_path)
    other = textured_box((0.1, 0.07, 0.05), seed=5)
    expected = load_templates(other, counting, COUNT, SIZE, tmp_path)
    (path,) = set((tmp_path / "templates").iterdir()) - {own}
    path.write_bytes(own.read_bytes())
    assert same(expected, load_templates(other, counting, COUNT, SIZE, tmp_path))


def test_a_cache_that_cannot_be_written_is_done_without(mesh, counting, tmp_path):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    assert load_templates(mesh, counting, COUNT, SIZE, blocked).rgb.any()
    assert blocked.read_text() == ""
