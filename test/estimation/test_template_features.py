"""Features are made once for a mesh and a set of weights."""

from dataclasses import replace

import pytest
import torch

from flowpose_ros.estimation.networks import load_networks
from flowpose_ros.estimation.template_features import load_template_features
from flowpose_ros.rendering.raycast import RaycastRenderer
from rendering.meshes import textured_box

COUNT = 12


class Counting(RaycastRenderer):
    views = 0

    def render(self, mesh, T_cam_obj, K, size):
        self.views += len(T_cam_obj)
        return super().render(mesh, T_cam_obj, K, size)


@pytest.fixture(scope="module")
def networks():
    return load_networks("", "cpu")


@pytest.fixture
def load(networks, tmp_path):
    """load(networks): the features, the views rendered for them and the files kept."""
    def make(networks=networks):
        renderer = Counting()
        found = load_template_features(textured_box((0.1, 0.07, 0.05)), renderer, networks, COUNT, tmp_path)
        return found, renderer.views, sorted((tmp_path / "features").iterdir())
    return make


def same(a, b):
    return (a.rotations == b.rotations).all() and torch.equal(a.features, b.features) and torch.equal(a.cover, b.cover)


def test_the_second_time_features_are_read(load):
    (first, rendered, (file,)), (again, rendered_again, _) = load(), load()
    assert same(first, again) and (rendered, rendered_again) == (COUNT, 0)
    assert first.features.dtype == torch.float16 and file.stat().st_size < COUNT * 60_000


def test_features_of_other_weights_are_never_used(load, networks):
    _, _, (own,) = load()
    others = replace(networks, fingerprint="0" * 64)
    _, _, files = load(others)
    (other,) = set(files) - {own}
    other.write_bytes(own.read_bytes())
    assert same(load(others)[0], load()[0]) and other.read_bytes() != own.read_bytes()


def test_a_truncated_file_is_made_again(load):
    first, _, (file,) = load()
    whole = file.read_bytes()
    file.write_bytes(whole[:len(whole) // 2])
    assert same(load()[0], first) and file.read_bytes() == whole
