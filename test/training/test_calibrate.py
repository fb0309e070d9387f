"""The pose score is fitted to what it is told, on numbers whose law is known."""

from dataclasses import replace

import cv2
import pytest
import torch

from training.calibrate import (INPUTS, RANKING, RIGHT, Answers, Gatherer, calibration_error, draw, fit, fit_score,
                                regress, stretch_of, summary)

SCENES = 2000


def answers_of(seed, witnesses=2):
    """The last witness tells how likely an answer is right, and so do verifier and spread; the others are noise."""
    rng = torch.Generator().manual_seed(seed)
    tell, verified, wide = torch.randn(3, SCENES, generator=rng)
    right = torch.rand(SCENES, generator=rng) < torch.sigmoid(2.5 * tell - 0.7 + 1.5 * verified - 1.2 * wide)
    surprise = 4 * torch.randn(SCENES, 6, generator=rng).square().sum(1)
    noise = torch.randn(SCENES, witnesses - 1, generator=rng)
    return Answers(torch.cat([noise, tell[:, None]], 1), verified, 0.05 * wide.exp(),
                   torch.where(right, 0.5 * RIGHT, 3 * RIGHT),
                   torch.where(right, surprise, 1e6))


def test_the_ranking_is_kept_and_its_scale_and_offset_are_found():
    answers, line = answers_of(0), torch.nn.Linear(2, 1)
    fit(answers, line, (0.0, 20.0))
    noise, tell = line.weight[0].tolist()
    with torch.no_grad():
        said, right = torch.sigmoid(line(answers.witnesses)[:, 0]), answers.right
    assert noise == 0 and 1.5 < tell < 2.6  # as far as it goes without the verifier
    assert said.mean() == pytest.approx(float(right.mean()), abs=0.01) and calibration_error(said, right) < 0.04


@pytest.fixture(scope="module")
def score():
    return fit_score({depth: answers_of(int(depth), len(RANKING[depth])) for depth in RANKING})


@pytest.mark.parametrize("depth", [False, True])
def test_the_score_is_the_probability_of_being_right_and_knows_verifier_and_spread(score, depth):
    answers = answers_of(7, len(RANKING[depth]))
    right, auc, error, least, false, of_accepted = summary(answers, score)
    assert 0.3 < right < 0.5 and 0.005 < least < 0.03 and error < 0.05 and false < of_accepted < 0.35
    for name, nothing in (("verified", torch.zeros(SCENES)), ("spread", torch.full((SCENES,), 0.05))):
        assert auc > summary(replace(answers, **{name: nothing}), score)[1] + 0.02
    assert score.stretch[int(depth)] == pytest.approx(4, rel=0.1)


def test_what_speaks_for_a_pose_is_never_held_against_it():
    answers, line = answers_of(3), torch.nn.Linear(1, 1)
    regress(line, -answers.witnesses[:, -1:], answers.right, (1.0,))  # it speaks against it here
    assert 0 <= line.weight.item() < 0.01
    assert torch.sigmoid(line.bias).item() == pytest.approx(float(answers.right.mean()), abs=0.02)


def test_covariances_four_times_too_narrow_are_stretched_by_four():
    assert stretch_of(answers_of(2)) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("depth", [False, True])
def test_a_score_is_not_fitted_to_nothing_nor_to_answers_that_are_all_wrong(depth):
    learnt = {other: answers_of(int(other), len(RANKING[other])) for other in RANKING}
    wrong = replace(learnt[depth], errors=torch.full((SCENES,), 3 * RIGHT))
    for of, count in ({}, 0), ({depth: wrong}, SCENES):
        others = {other: answers for other, answers in learnt.items() if other != depth}
        with pytest.raises(ValueError, match=f"^{INPUTS[depth]} answers: expected .* right, got none among {count};"):
            fit_score(others | of)


def test_the_curves_are_drawn(score, tmp_path):
    sets = {"train": {depth: answers_of(0, len(RANKING[depth])) for depth in RANKING},
            "held_out": {False: answers_of(2, len(RANKING[False]))}}
    draw(sets, score, tmp_path / "calibration.png")
    picture = cv2.imread(str(tmp_path / "calibration.png"))
    assert picture.shape[1] > 1000 and picture.std() > 10


def test_a_scene_is_answered_again_just_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWPOSE_DATA", str(tmp_path))  # procedural objects alone
    monkeypatch.setenv("FLOWPOSE_CACHE", str(tmp_path / "cache"))
    found, again = (Gatherer("", "train", 7001).answer(3) for _ in range(2))
    assert found.keys() == again.keys() and False in found
    for depth, answer in found.items():
        assert answer.witnesses.shape == (1, 6 if depth else 4)
        for name, value in vars(answer).items():
            assert torch.isfinite(value).all() and (value == getattr(again[depth], name)).all()
        assert answer.errors >= 0 and answer.surprise >= 0
