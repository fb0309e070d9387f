"""Weights are shipped when all are right and go together, or not at all."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from flowpose_ros.errors import WeightsError
from flowpose_ros.networks.scorer import Scorer
from flowpose_ros.networks.weights import REGISTRY, features_hash, file_hash, save_weights, shipped_folder
from training.ship import ship


@pytest.fixture
def folder(tmp_path):
    """A folder like the shipped one."""
    return shutil.copytree(shipped_folder(), tmp_path / "weights")


def scorer_for(features, folder):
    """The weights of a scorer that has learnt on such features."""
    torch.manual_seed(0)
    scorer = Scorer()
    save_weights(folder / "scorer.safetensors", scorer.state_dict(), kind="scorer", config=scorer.config,
                 features=features)
    return folder / "scorer.safetensors"


def contents_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_shipped_is_listed_and_the_rest_stays(folder, tmp_path):
    before = contents_of(folder)
    scorer = scorer_for(features_hash(folder / "genflow_t.safetensors"), tmp_path)
    listed = ship([scorer], folder)
    after = contents_of(folder)
    assert after.keys() == before.keys() and after["scorer.safetensors"] == scorer.read_bytes()
    assert {name for name in after if after[name] != before[name]} == {"scorer.safetensors", REGISTRY}
    assert json.loads(after[REGISTRY]) == listed
    assert listed == {path.name: file_hash(path) for path in folder.glob("*.safetensors")}


def test_what_is_not_right_leaves_the_folder_as_it_is(folder, tmp_path):
    before, good = contents_of(folder), scorer_for(features_hash(folder / "genflow_t.safetensors"), tmp_path)
    (tmp_path / "README.md").write_text("weights")
    (tmp_path / "geometry.safetensors").write_text("no tensors")
    shutil.copy(good, tmp_path / "verifier.safetensors")
    shutil.copy(shipped_folder() / "genflow_t.safetensors", tmp_path / "genflow_x.safetensors")
    for name, error, reason in (("README.md", ValueError, "expected a file called .*; got README.md"),
                                ("pose_score.safetensors", FileNotFoundError, "pose_score.safetensors"),
                                ("geometry.safetensors", WeightsError, "expected a safetensors file"),
                                ("verifier.safetensors", WeightsError, "expected a network of kind 'verifier'"),
                                ("genflow_x.safetensors", WeightsError, "expected one file genflow_")):
        with pytest.raises(error, match=reason):
            ship([good, tmp_path / name], folder)
        assert contents_of(folder) == before
    other = scorer_for("f" * 64, tmp_path)
    with pytest.raises(WeightsError, match="expected a network for the features of genflow_t.safetensors"):
        ship([other], folder)
    assert contents_of(folder) == before


def test_a_failed_write_leaves_the_older_weights_whole(tmp_path, monkeypatch):
    path = scorer_for(None, tmp_path)
    before = path.read_bytes()

    def disk_full(part, content):
        with part.open("wb") as out:
            out.write(content[:100])
        raise OSError("no space left")

    monkeypatch.setattr(type(path), "write_bytes", disk_full)
    with pytest.raises(OSError, match="no space left"):
        scorer_for("f" * 64, tmp_path)
    assert path.read_bytes() == before and load_file(path)
    assert [p.name for p in tmp_path.iterdir()] == ["scorer.safetensors"]
