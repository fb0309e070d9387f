"""One step of training: it learns, it skips what is not finite, and recorded it does the same."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from flowpose_ros.networks.flow import SIZES, GenFlow
from training.learner import Figures, Learner, RecordedLearner
from training.pairs import PairBatch, PairMaker, collate
from training.train_refiner import RefinerLoss


@pytest.fixture(scope="module")
def batch() -> PairBatch:
    maker = PairMaker(0, 64)
    return collate([maker.sample(i) for i in range(2)])


def learner(kind=Learner, device: str = "cpu") -> Learner:
    torch.manual_seed(0)
    return kind(GenFlow(SIZES["T"], bfloat16=False).to(device), 1e-3, 1e-4, 1.0)


def learn(ours: Learner, batch: PairBatch, rate: float, pose_share: float, features_alone: bool) -> Figures:
    """One step of a refiner's learner."""
    loss = RefinerLoss(ours.network)
    return ours.learn(batch, loss.features if features_alone else loss.everything, rate, pose_share)


def test_the_loss_falls(batch):
    ours = learner()
    losses = [float(learn(ours, batch, 1e-3, 0.0, False)["loss"]) for _ in range(8)]
    assert min(losses[4:]) < losses[0]


def test_the_learning_rate_is_that_of_the_step(batch):
    ours = learner()
    before = copy.deepcopy(ours.network.state_dict())
    learn(ours, batch, 0.0, 0.0, True)
    assert all(torch.equal(v, before[k]) for k, v in ours.network.state_dict().items())
    learn(ours, batch, 1e-3, 0.0, True)
    assert any(not torch.equal(v, before[k]) for k, v in ours.network.state_dict().items())


def test_gradients_are_cut_to_the_norm_that_is_asked_for():
    torch.manual_seed(0)
    network, seen = torch.nn.Linear(3, 2), []
    ours = Learner(network, 1e-3, 0.0, clip=0.5)
    for scale in (1.0, 1e-3):
        ours.learn(None, lambda *given: (scale * (network.weight.sum() + 7 * network.bias.sum()), {}), 1e-3, 0.0)
        seen.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    whole = torch.tensor([1.0] * 6 + [7.0] * 2)
    torch.testing.assert_close(seen, [0.5 * whole / whole.norm(), 1e-3 * whole], atol=1e-6, rtol=1e-4)


def test_features_alone_leave_the_updates_as_they_are(batch):
    ours = learner()
    before = copy.deepcopy(ours.network.state_dict())
    figures = learn(ours, batch, 1e-3, 1.0, True)
    changed = {k.split(".")[0] for k, v in ours.network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"features"} and set(figures) == {"match", "skipped"}


def test_a_step_that_is_not_finite_changes_nothing_and_the_next_learns(batch):
    ours = learner()
    learn(ours, batch, 1e-3, 0.0, False)
    before = copy.deepcopy(ours.network.state_dict())
    broken = replace(batch, query_rgb=torch.full_like(batch.query_rgb, torch.nan))
    assert float(learn(ours, broken, 1e-3, 0.0, False)["skipped"]) == 1
    assert all(torch.equal(v, before[k]) for k, v in ours.network.state_dict().items())
    assert float(learn(ours, batch, 1e-3, 0.0, False)["skipped"]) == 0
    assert any(not torch.equal(v, before[k]) for k, v in ours.network.state_dict().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_recorded_step_does_what_an_eager_one_does(batch):
    on_gpu = PairBatch(**{name: value.cuda() for name, value in vars(batch).items()})
    eager, recorded = learner(device="cuda"), learner(RecordedLearner, "cuda")
    for _ in range(3):  # the recording warms up with three steps
        learn(eager, on_gpu, 1e-4, 1.0, False)
    for _ in range(2):
        a, b = (learn(ours, on_gpu, 1e-4, 1.0, False) for ours in (eager, recorded))
        torch.testing.assert_close(float(a["loss"]), float(b["loss"]), rtol=1e-2, atol=0)
