"""The pose score is fitted to what it is told, on numbers whose law is known."""

import cv2
import pytest
import torch

from flowpose_ros.networks.pose_score import PoseScore, PoseScoreConfig
from training.calibrate import RIGHT, Answers, Gatherer, calibration_error, draw, fit, stretch_of, summary

SCENES = 2000


def answers_of(seed):
    """One witness tells how likely an answer is right, another is noise."""
    rng = torch.Generator().manual_seed(seed)
    tell = torch.randn(SCENES, generator=rng)
    right = torch.rand(SCENES, generator=rng) < torch.sigmoid(2.5 * tell - 0.7)
    surprise = 4 * torch.randn(SCENES, 6, generator=rng).square().sum(1)
    return Answers(torch.stack([torch.randn(SCENES, generator=rng), tell], 1),
                   torch.where(right, 0.5 * RIGHT, 3 * RIGHT), torch.where(right, surprise, 1e6))


@pytest.fixture(scope="module")
def line():
    torch.manual_seed(0)
    line = torch.nn.Linear(2, 1)
    fit(answers_of(0), line, (0.0, 20.0))
    return line


def test_the_ranking_is_kept_and_its_scale_and_offset_are_found(line):
    noise, tell = line.weight[0].tolist()
    assert noise == 0 and tell == pytest.approx(2.5, abs=0.3)
    assert line.bias.item() == pytest.approx(-0.7, abs=0.2)


def test_the_score_is_the_probability_of_being_right(line):
    answers = answers_of(1)
    right, error, least, false = summary(answers, line)
    assert 0.3 < right < 0.5 and 0.005 < least < 0.03 and error < 0.05 and false < 0.15
    assert calibration_error(torch.ones(SCENES), answers.right) == pytest.approx(1 - right, abs=1e-6)


def test_covariances_four_times_too_narrow_are_stretched_by_four():
    assert stretch_of(answers_of(2)) == pytest.approx(4, rel=0.1)


def test_the_curves_are_drawn(tmp_path):
    score = PoseScore(PoseScoreConfig(2, 2))
    draw({"train": {False: answers_of(0), True: answers_of(1)}, "held_out": {False: answers_of(2)}}, score,
         tmp_path / "calibration.png")
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
