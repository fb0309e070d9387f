"""The verifier's looks and its training."""

import json
import os
import signal
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flowpose_ros.estimation.evidence import similarities
from flowpose_ros.networks.verifier import CHANNELS, DEPTH, NEAR, Verifier, VerifierConfig
from flowpose_ros.networks.weights import load_network
from training import looks as looks_module
from training import train_verifier
from training.crew import claim
from training.looks import NOWHERE, LookMaker, Looks
from training.loop import one_cycle
from training.train_verifier import VerifierTraining, load_looks, scenes_of, train, varied, verifier_loss


def toy_looks(scenes=12, poses=6):
    """Poses that are right where their cosines are high."""
    torch.manual_seed(0)
    error = torch.linspace(0.01, 0.6, poses).repeat(scenes)
    maps = torch.randint(-20, 20, (scenes * poses, CHANNELS, 16, 16))
    maps[:, 0] = 127
    maps[:, NEAR[0]] += (100 * (0.6 - error))[:, None, None, None].long()
    return Looks(maps.to(torch.int8), error, torch.arange(scenes).repeat_interleave(poses))


def test_placements_of_the_maps_are_the_maps_of_placed_pictures():
    source, query = torch.randn(2, 1, 8, 16, 16).unbind(0)
    seen = set()
    for seed in range(12):
        rng = torch.Generator().manual_seed(seed)
        maps = torch.zeros(1, CHANNELS, 16, 16)
        maps[:, NEAR[0]] = similarities(source, query, 16)
        maps[:, 0] = torch.arange(256.0).reshape(16, 16)
        out = varied(maps, rng, without_depth=0.0)
        found = [(turns, mirrored) for turns in range(4) for mirrored in (False, True) if torch.equal(
            out[:, 0], placed(maps[:, 0], turns, mirrored))]
        assert len(found) == 1
        a, b = (placed(x, *found[0]) for x in (source, query))
        assert torch.allclose(out[:, NEAR[0]], similarities(a, b, 16), atol=1e-6)
        seen |= set(found)
    assert len(seen) > 4


def placed(x, turns, mirrored):
    x = x.rot90(turns, (-2, -1))
    return x.flip(-1) if mirrored else x


def test_depth_is_left_out_at_times():
    maps = torch.ones(2, CHANNELS, 8, 8)
    assert not varied(maps, torch.Generator().manual_seed(0), without_depth=1.0)[:, -DEPTH:].any()
    assert varied(maps, torch.Generator().manual_seed(0), without_depth=0.0)[:, -DEPTH:].all()


def test_the_loss_wants_the_best_of_a_scene_first_and_nothing_where_all_are_wrong():
    error, scene = torch.tensor([0.01, 0.3, 0.02, NOWHERE, NOWHERE]), torch.tensor([0, 0, 0, 1, 1])
    good, bad = torch.tensor([5.0, -5, 4, -5, -5]), torch.tensor([-5.0, 5, -4, 5, 5])
    assert verifier_loss(good, error, scene, 8.0) < verifier_loss(bad, error, scene, 8.0) - 5
    only = verifier_loss(good[3:], error[3:], scene[3:], 8.0)
    assert torch.isclose(only, torch.nn.functional.softplus(torch.tensor(-5.0)))


def test_training_falls_goes_on_and_exports(tmp_path):
    looks = toy_looks()
    path = train(VerifierTraining(steps=60, scenes=3), looks, "f" * 64, tmp_path)
    log = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    network = load_network(path, "verifier", VerifierConfig, Verifier)
    with torch.no_grad():
        logit = network(looks.evidence.float() / 127).reshape(12, 6)
    assert (logit.argmax(1) == 0).all()
    assert log[0] < 3.0
    again = train(VerifierTraining(steps=60, scenes=3), looks, "f" * 64, tmp_path)  # is over: nothing changes
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(ValueError, match="scenes: checkpoint 3, asked for 4"):
        train(VerifierTraining(steps=60, scenes=4), looks, "f" * 64, tmp_path)


def checkpoint_of(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def test_a_run_that_a_signal_ended_goes_on_exactly_and_exports_the_average(tmp_path, monkeypatch):
    looks, config, losses = toy_looks(), VerifierTraining(steps=5, scenes=3), count(1)
    train(config, looks, "f" * 64, tmp_path / "whole")

    def signalled(*given):
        if next(losses) == 2:
            signal.raise_signal(signal.SIGINT)
        return verifier_loss(*given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_verifier, "verifier_loss", signalled)
        train(config, looks, "f" * 64, tmp_path / "parts")
    assert checkpoint_of(tmp_path / "parts")["step"] == 2
    exported = load_file(train(config, looks, "f" * 64, tmp_path / "parts"))
    whole, parts = (checkpoint_of(tmp_path / name) for name in ("whole", "parts"))
    assert parts.pop("config") == whole.pop("config")
    torch.testing.assert_close(parts, whole, rtol=0, atol=0)
    assert whole["step"] == whole["average_count"] == 5
    rates = {group["lr"] for group in whole["optimiser"]["param_groups"]}
    assert rates == {config.learning_rate * one_cycle(4, 5)}
    torch.testing.assert_close(exported, {k: v.half() for k, v in whole["average"].items()}, rtol=0, atol=0)
    assert any(not torch.equal(whole["average"][k], whole["module"][k]) for k in exported)


def test_more_scenes_than_were_kept_are_refused(tmp_path):
    with pytest.raises(ValueError, match="scenes: expected 1 to 12, as many as were kept, got 13"):
        train(VerifierTraining(steps=1, scenes=13), toy_looks(), "f" * 64, tmp_path)


def test_looks_are_the_same_again_and_files_join(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWPOSE_CACHE", str(tmp_path / "cache"))
    first, again = (LookMaker("", "train", 3).looks(1) for _ in range(2))
    assert first.evidence.dtype == torch.int8 and first.evidence.shape[1] == CHANNELS
    assert torch.equal(first.evidence, again.evidence) and torch.equal(first.error, again.error)
    claim(tmp_path, {"features": "abc"})
    for k in range(2):
        torch.save(vars(first), tmp_path / f"{k}.pt")
        first = Looks(first.evidence, first.error, first.scene + 1)
    torch.save(None, tmp_path / "2.pt")  # where estimation found nothing
    assert [len(of) for of in scenes_of(load_looks(tmp_path, "abc"))] == 2 * [len(first.error)]
    with pytest.raises(ValueError, match="with this refiner, got others .features: there 'abc', asked for 'def'"):
        load_looks(tmp_path, "def")
    assert os.listdir(tmp_path / "cache")


def test_in_a_tenth_of_the_scenes_something_else_is_looked_for_and_no_pose_is_right(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWPOSE_DATA", str(tmp_path))
    shown, asked = SimpleNamespace(label="shown"), []
    case = SimpleNamespace(model=shown, T_cam_obj=np.eye(4), frame=SimpleNamespace(depth=None))
    look = SimpleNamespace(T_cam_obj=torch.eye(4)[None])
    estimator = SimpleNamespace(trail=lambda frame, detection: (None, SimpleNamespace(looks=[look])))
    monkeypatch.setattr(looks_module, "synthetic_case", lambda maker, index: case)
    monkeypatch.setattr(looks_module, "Catalogue", lambda models: asked.append(models[0].label))
    monkeypatch.setattr(looks_module, "Estimator", lambda catalogue, options: estimator)
    monkeypatch.setattr(looks_module, "box_of", lambda case, rng: np.zeros(4))
    monkeypatch.setattr(looks_module, "evidence", lambda target, look, fit: torch.zeros(1, 2, 4, 4))
    monkeypatch.setattr(looks_module, "farthest", lambda model, pose, T: 0.5)
    maker = LookMaker("", "train", 3)
    errors = torch.cat([maker.looks(index).error for index in range(200)])
    assert asked == ["other" if error == NOWHERE else "shown" for error in errors]
    assert 0.05 < asked.count("other") / 200 < 0.15
