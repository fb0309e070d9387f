"""The pose score is fitted to what it is told, on numbers whose law is known."""

import pytest
import torch

from training.calibrate import RIGHT, Gatherer, Judgement, calibration_error, fit, summary, winners

SCENES, POSES = 400, 12


@pytest.fixture(scope="module")
def judgements():
    """One witness tells the error, another is noise, and in a third of the scenes no pose is near."""
    rng, made = torch.Generator().manual_seed(0), []
    for scene in range(SCENES):
        errors = 0.02 + 0.8 * torch.rand(POSES, generator=rng) + (0.3 if scene % 3 == 0 else 0.0)
        tell = -errors + 0.05 * torch.randn(POSES, generator=rng)
        made.append(Judgement(torch.stack([torch.randn(POSES, generator=rng), tell], 1), errors))
    return made


@pytest.fixture(scope="module")
def line(judgements):
    torch.manual_seed(0)
    line = torch.nn.Linear(2, 1)
    fit(judgements[::2], line, (0.0, 20.0))
    return line


def test_the_ranking_is_kept(line):
    noise, tell = line.weight[0].tolist()
    assert tell > 0 and noise == 0


def test_the_winner_is_nearly_the_best_there_is(line, judgements):
    right, possible, _, false = summary(judgements[1::2], line)
    assert 0.3 < possible < 1 and right > possible - 0.15 and false < 0.15


def test_the_score_is_the_probability_of_being_right(line, judgements):
    logits, right = winners(judgements[1::2], line)
    assert calibration_error(torch.sigmoid(logits), right) < 0.1
    assert calibration_error(torch.ones_like(right), right) == pytest.approx(1 - float(right.mean()), abs=1e-6)
    assert 0.1 < float(right.mean()) < 0.9 and RIGHT == 0.1


def test_a_scene_is_judged_again_just_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWPOSE_DATA", str(tmp_path))  # procedural objects alone
    found, again = (Gatherer("", "train", 7001, 2).judgements(3) for _ in range(2))
    assert found.keys() == again.keys() and False in found
    for depth, judgement in found.items():
        count = judgement.witnesses.shape[0]
        assert judgement.witnesses.shape[1] == (6 if depth else 4) and count >= 8
        assert judgement.errors.shape == (count,) and torch.isfinite(judgement.witnesses).all()
        assert (judgement.errors >= 0).all() and judgement.errors.min() < 1
        assert torch.equal(judgement.witnesses, again[depth].witnesses)
        assert torch.equal(judgement.errors, again[depth].errors)
