"""The views that a scorer learns from are those that coarse estimation confuses."""

import json
import signal
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flowpose_ros.geometry.rotations import angles_between, random_rotations
from flowpose_ros.networks.flow import GenFlow
from flowpose_ros.networks.scorer import Scorer
from flowpose_ros.networks.weights import save_weights, shipped_folder
from training import journal, train_scorer
from training.loop import one_cycle
from training.train_scorer import FAR, NEAR, ScorerTraining, scorer_loss, train, view_rotations

CONFIG = ScorerTraining(near=40, between=40, flipped=200, anywhere=40)


def test_views_are_near_between_turned_about_an_axis_and_anywhere():
    rng = np.random.default_rng(0)
    R_gt = random_rotations(1, rng)[0]
    views = view_rotations(R_gt, CONFIG, rng)
    assert views.shape == (320, 3, 3)
    assert np.allclose(views @ views.transpose(0, 2, 1), np.eye(3), atol=1e-6)
    near, between, turned, anywhere = np.split(angles_between(R_gt[None], views)[0], [40, 80, 280])
    assert np.median(near) < NEAR
    assert between.min() >= NEAR - 1e-6 and between.max() <= np.pi / 2 + 1e-6
    assert turned.min() > FAR and 0.3 < (turned > np.radians(155)).mean() < 0.8
    assert anywhere.mean() > np.radians(90)


def test_turned_views_are_turned_about_an_axis_of_the_object():
    rng = np.random.default_rng(1)
    R_gt = random_rotations(1, rng)[0]
    turned = view_rotations(R_gt, CONFIG, rng)[80:280]
    relative = R_gt.T @ turned
    # What a turn about an axis leaves where it was: one axis of the object, up to the noise.
    assert np.median(np.abs(relative[:, [0, 1, 2], [0, 1, 2]]).max(1)) > np.cos(np.radians(15))


@pytest.mark.usefixtures("same_everywhere")
def test_training_lowers_the_loss_on_samples_it_has_not_seen(tmp_path, monkeypatch):
    pictures = []
    monkeypatch.setattr(journal, "event_writer", lambda folder, step: SimpleNamespace(
        add_scalar=lambda *figure: None, flush=lambda: None, close=lambda: None,
        add_image=lambda name, picture, step, dataformats: pictures.append((step, picture.shape))))
    config = ScorerTraining(crop=64, steps=30, queries=2, near=3, between=0, flipped=1, anywhere=2)
    last = {}
    for name, rate in (("learning", 3e-3), ("still", 0.0)):  # on the same samples
        train(replace(config, learning_rate=rate), shipped_folder() / "genflow_t.safetensors", tmp_path / name,
              workers=0, threads=1, log_every=10, save_every=15)
        last[name] = json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1])
    assert last["learning"]["step"] == 30
    assert last["learning"]["loss"] < 0.9 * last["still"]["loss"], last
    assert pictures == 2 * [(15, (2 * 64, 7 * 64, 3)), (30, (2 * 64, 7 * 64, 3))]


def test_a_run_can_begin_with_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWPOSE_DATA", str(tmp_path / "no_data"))
    threads = torch.get_num_threads()
    network, scorer = GenFlow(), Scorer()
    save_weights(tmp_path / "genflow.safetensors", network.state_dict(), kind="genflow", config=network.config)
    save_weights(tmp_path / "start.safetensors", scorer.state_dict(), kind="scorer", config=scorer.config)
    begun = train(ScorerTraining(crop=64, steps=0, queries=1), tmp_path / "genflow.safetensors", tmp_path / "run",
                  workers=0, threads=1, start=tmp_path / "start.safetensors")
    torch.set_num_threads(threads)
    torch.testing.assert_close(load_file(begun), load_file(tmp_path / "start.safetensors"), rtol=0, atol=0)


def checkpoint_of(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.mark.usefixtures("same_everywhere")
def test_a_run_that_a_signal_ended_goes_on_exactly_and_exports_the_average(tmp_path, monkeypatch):
    config = ScorerTraining(crop=64, steps=5, queries=1, near=2, between=0, flipped=1, anywhere=1)
    refiner, how = shipped_folder() / "genflow_t.safetensors", {"workers": 0, "threads": 1}
    train(config, refiner, tmp_path / "whole", **how)
    losses = count(1)

    def signalled(*given):
        if next(losses) == 2:
            signal.raise_signal(signal.SIGTERM)
        return scorer_loss(*given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_scorer, "scorer_loss", signalled)
        train(config, refiner, tmp_path / "parts", **how)
    assert checkpoint_of(tmp_path / "parts")["step"] == 2
    train(config, refiner, tmp_path / "parts", **how)
    whole, parts = (checkpoint_of(tmp_path / name) for name in ("whole", "parts"))
    assert parts.pop("config") == whole.pop("config")
    torch.testing.assert_close(parts, whole, rtol=0, atol=0)
    assert whole["step"] == whole["average_count"] == 5
    assert whole["optimiser"]["param_groups"][0]["lr"] == config.learning_rate * one_cycle(4, 5)
    exported = load_file(tmp_path / "parts" / "scorer.safetensors")
    torch.testing.assert_close(exported, {k: v.half() for k, v in whole["average"].items()}, rtol=0, atol=0)
    assert any(not torch.equal(whole["average"][k], whole["module"][k]) for k in exported)
    with pytest.raises(ValueError, match="init_from: checkpoint None, asked for"):
        train(config, refiner, tmp_path / "parts", start=shipped_folder() / "scorer.safetensors", **how)
