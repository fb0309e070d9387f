"""The geometry network's training as a whole, small: it learns, and it goes on exactly where it stopped."""

import json
import sys
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from flowpose_ros.networks.flow import GenFlow, GenFlowConfig
from flowpose_ros.networks.geometry_net import GeometryConfig, GeometryNet
from flowpose_ros.networks.weights import load_network, save_weights, shipped_folder
from training import train_geometry, trainer
from training.learner import Learner
from training.pairs import PairMaker, collate
from training.train_geometry import GeometryLoss, GeometryTraining, train

SHORT = GeometryTraining(crop=64, steps=4, batch=2, reuse=1, pose_from=0.25, pose_ramp=0.5)
REFINER = shipped_folder() / "genflow_t.safetensors"


pytestmark = pytest.mark.usefixtures("same_everywhere")


def run(config, folder, *, refiner=REFINER, max_minutes=None, log_every=100, **more):
    return train(config, refiner, folder, workers=0, threads=1, save_every=1000, max_minutes=max_minutes,
                 log_every=log_every, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a SHORT run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    run(SHORT, folder)
    return folder


def test_a_few_steps_lower_every_error():
    torch.manual_seed(0)
    maker, network = PairMaker(0, 64), GeometryNet()
    batch = collate([maker.sample(i) for i in range(2)])
    loss = GeometryLoss(network, load_network(REFINER, "genflow", GenFlowConfig, GenFlow))
    learner = Learner(network, 1e-3, 1e-4, 1.0)
    first, *_, last = (learner.learn(batch, loss, 4e-4, 0.0) for _ in range(25))
    assert last["skipped"] == 0 and last["start"] == first["start"]
    shares = {name: float(last[name] / first[name]) for name in ("encoding", "points", "visible", "pose")}
    assert max(shares.values()) < 0.95, shares


def test_a_few_steps_of_the_head_lower_the_pose_error():
    torch.manual_seed(0)
    maker, network = PairMaker(0, 64), GeometryNet(GeometryConfig(pose="head"))
    batch = collate([maker.sample(i) for i in range(2)])
    loss = GeometryLoss(network, load_network(REFINER, "genflow", GenFlowConfig, GenFlow))
    learner = Learner(network, 1e-3, 1e-4, 1.0)
    first, *_, last = (learner.learn(batch, loss, 4e-4, 1.0) for _ in range(20))
    assert first["pose"] == pytest.approx(float(first["start"]), rel=1e-3)
    assert last["skipped"] == 0 and last["pose"] < 0.7 * first["pose"]


def test_training_lowers_the_losses_on_samples_it_has_not_seen(tmp_path):
    config, last = replace(SHORT, steps=24, pose_from=1.0), {}
    for name, rate in (("learning", 1e-3), ("still", 0.0)):  # on the same samples
        run(replace(config, learning_rate=rate), tmp_path / name, log_every=8)
        last[name] = json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1])
    assert last["learning"]["start"] == last["still"]["start"]
    shares = {name: last["learning"][name] / last["still"][name] for name in ("loss", "encoding", "points", "visible")}
    assert max(shares.values()) < 0.99 and shares["loss"] < 0.97 and shares["visible"] < 0.93, shares


def test_a_run_logs_and_reuses_its_samples(tmp_path):
    run(replace(SHORT, reuse=3), tmp_path, log_every=2)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [2, 4] and all(line["skipped"] == 0 for line in log)


def test_a_run_that_ran_out_of_time_goes_on_exactly(whole, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        minutes = count()  # one passes whenever the clock is read: once a step
        patch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: 60 * next(minutes)))
        run(SHORT, tmp_path, max_minutes=2)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 2
    run(SHORT, tmp_path)
    found, wanted = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (tmp_path, whole))
    assert found.pop("config") == wanted.pop("config")
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    torch.testing.assert_close(*(load_file(folder / "geometry.safetensors") for folder in (tmp_path, whole)), rtol=0,
                               atol=0)


def test_a_run_goes_on_with_the_refiner_that_it_began_with_alone(whole, tmp_path):
    refiner = GenFlow()
    save_weights(tmp_path / "other.safetensors", refiner.state_dict(), kind="genflow", config=refiner.config)
    before = (whole / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="refiner: checkpoint '[0-9a-f]{64}', asked for '[0-9a-f]{64}'"):
        run(SHORT, whole, refiner=tmp_path / "other.safetensors")
    assert (whole / "checkpoint.pt").read_bytes() == before


def test_the_weights_file_holds_the_network_that_was_asked_for(tmp_path):
    path = run(replace(SHORT, steps=0, encoded=False, upsampling="bilinear", attention="learned",
                       pose="head"), tmp_path)
    assert path == tmp_path / "geometry.safetensors"
    config = load_network(path, "geometry", GeometryConfig, GeometryNet).config
    assert config == GeometryConfig(encoded=False, upsampling="bilinear", attention="learned", pose="head")


def test_a_run_can_begin_with_weights_of_the_same_shape(whole, tmp_path):
    begun = run(replace(SHORT, steps=0), tmp_path / "same", start=whole / "geometry.safetensors")
    torch.testing.assert_close(load_file(begun), load_file(whole / "geometry.safetensors"), rtol=0, atol=0)
    with pytest.raises(ValueError, match="expected a geometry network .*'bilinear'.*, got .*'convex'"):
        run(replace(SHORT, upsampling="bilinear"), tmp_path / "other", start=whole / "geometry.safetensors")


def test_the_refiner_does_not_learn():
    maker, refiner = PairMaker(0, 64), GenFlow()
    total, _ = GeometryLoss(GeometryNet(), refiner)(collate([maker.sample(i) for i in range(2)]), torch.tensor(1.0))
    total.backward()
    assert all(p.grad is None for p in refiner.parameters())


def test_the_command_line_states_the_run(monkeypatch, tmp_path, capsys):
    asked = f"--refiner {REFINER} --folder {tmp_path} --steps 0 --batch 4 --no-encoded --attention learned --workers 0"
    monkeypatch.setattr(sys, "argv", ["train_geometry", *asked.split()])
    train_geometry.main()
    assert capsys.readouterr().out == f"weights: {tmp_path / 'geometry.safetensors'}\n"
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["config"]
    assert (saved["batch"], saved["encoded"], saved["attention"]) == (4, False, "learned")
