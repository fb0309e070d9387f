import json

import pytest
import torch
from safetensors.torch import save_file

from flowpose_ros.errors import WeightsError
from flowpose_ros.networks.flow import GenFlow, GenFlowConfig
from flowpose_ros.networks.geometry_net import GeometryConfig, GeometryNet
from flowpose_ros.networks.scorer import Scorer, ScorerConfig
from flowpose_ros.networks.weights import REGISTRY, file_hash, load_config, load_network, load_weights, save_weights


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    scorer = Scorer()
    path = tmp_path / "scorer.safetensors"
    save_weights(path, scorer.state_dict(), kind="scorer", config=scorer.config)
    return path, scorer


def test_weights_come_back_in_half_precision(saved):
    path, scorer = saved
    again = Scorer(load_config(path, "scorer", ScorerConfig))
    load_weights(path, again)
    for name, value in scorer.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float())


def test_equal_states_give_equal_files(saved, tmp_path):
    path, scorer = saved
    others = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for other in others:
        save_weights(other, scorer.state_dict(), kind="scorer", config=scorer.config)
    assert {other.read_bytes() for other in others} == {path.read_bytes()}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match="none.safetensors: expected a safetensors file, found none"):
        load_config(tmp_path / "none.safetensors", "scorer", ScorerConfig)


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / "scorer.safetensors"
    torch.save(Scorer().state_dict(), path)
    with pytest.raises(WeightsError, match="expected a safetensors file"):
        load_config(path, "scorer", ScorerConfig)


def test_another_kind_of_network_is_refused(saved):
    with pytest.raises(WeightsError, match="expected a network of kind 'genflow', got 'scorer'"):
        load_config(saved[0], "genflow", ScorerConfig)


def test_other_shapes_are_refused_with_the_tensor_and_both_shapes(saved):
    with pytest.raises(WeightsError, match=r"tensor .*: expected shape \[.*\], got \["):
        load_weights(saved[0], Scorer(ScorerConfig(width=24)))


def test_a_missing_tensor_is_named(tmp_path):
    state = Scorer().state_dict()
    del state["logit.0.bias"]
    path = tmp_path / "scorer.safetensors"
    save_file(state, str(path), {"kind": "scorer", "config": json.dumps({"width": 48})})
    with pytest.raises(WeightsError, match="tensor logit.0.bias: expected shape .*, got None"):
        load_weights(path, Scorer())


def test_a_wrong_hash_is_refused(saved):
    path, _ = saved
    (path.parent / REGISTRY).write_text(json.dumps({path.name: file_hash(path)}))
    load_weights(path, Scorer())
    (path.parent / REGISTRY).write_text(json.dumps({path.name: "0" * 64}))
    with pytest.raises(WeightsError, match="expected sha256 0000"):
        load_weights(path, Scorer())


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_a_broken_registry_is_named(saved, text):
    (saved[0].parent / REGISTRY).write_text(text)
    with pytest.raises(WeightsError, match="weights.json: expected a JSON object"):
        load_weights(saved[0], Scorer())


@pytest.mark.parametrize("config, said", [
    ("[]", "ScorerConfig"), ("{", "ScorerConfig"), ('{"depth": 3}', "depth"), ('{"width": 0}', "width: .*got 0"),
    ('{"width": 1000000000}', "from 1 to 1024, got 1000000000"), ('{"width": "wide"}', "got 'wide'"),
    ('{"width": 5}', "expected the sizes of a scorer network, got .*width=5"), ('{"width": [48]}', "width=")])
def test_a_header_that_gives_no_network_is_refused(tmp_path, config, said):
    path = tmp_path / "scorer.safetensors"
    save_file(Scorer().state_dict(), str(path), {"kind": "scorer", "config": config})
    with pytest.raises(WeightsError, match=said):
        load_network(path, "scorer", ScorerConfig, Scorer)


@pytest.mark.parametrize("config, said", [
    ('{"encoded": 1}', "encoded: expected a bool, got 1"), ('{"upsampling": 3}', "upsampling: expected a str, got 3"),
    ('{"attention": "none"}', "attention: expected correlation or learned, got 'none'"),
    ('{"value": true}', "value: expected whole numbers from 1 to 1024, got True")])
def test_a_header_with_an_unknown_choice_is_refused(tmp_path, config, said):
    path = tmp_path / "geometry.safetensors"
    save_file({"nothing": torch.zeros(1)}, str(path), {"kind": "geometry", "config": config})
    with pytest.raises(WeightsError, match=said):
        load_config(path, "geometry", GeometryConfig)


def test_choices_come_back_from_a_header(tmp_path):
    network = GeometryNet(GeometryConfig(encoded=False, upsampling="bilinear", attention="learned"))
    path = tmp_path / "geometry.safetensors"
    save_weights(path, network.state_dict(), kind="geometry", config=network.config)
    assert load_network(path, "geometry", GeometryConfig, GeometryNet).config == network.config


def test_a_refiner_without_finer_updates_comes_back(tmp_path):
    network = GenFlow(GenFlowConfig(updates_fine=0))
    path = tmp_path / "genflow.safetensors"
    save_weights(path, network.state_dict(), kind="genflow", config=network.config)
    assert load_network(path, "genflow", GenFlowConfig, GenFlow).config == network.config


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(saved, value):
    path, scorer = saved
    state = scorer.state_dict()
    state["logit.0.bias"][3] = value
    save_weights(path, state, kind="scorer", config=scorer.config)
    with pytest.raises(WeightsError, match="tensor logit.0.bias: expected finite numbers"):
        load_network(path, "scorer", ScorerConfig, Scorer)
