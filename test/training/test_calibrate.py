"""The pose score is fitted to what it is told, on numbers whose law is known."""

import pytest
import torch

from training.calibrate import RIGHT, Answers, Gatherer, calibration_error, fit, summary

SCENES = 2000


def answers_of(seed):
    """One witness tells how likely an answer is right, another is noise."""
    rng = torch.Generator().manual_seed(seed)
    tell = torch.randn(SCENES, generator=rng)
    right = torch.rand(SCENES, generator=rng) < torch.sigmoid(2.5 * tell - 0.7)
    return Answers(torch.stack([torch.randn(SCENES, generator=rng), tell], 1), torch.where(right, 0.5 * RIGHT, 3 * RIGHT))


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
    right, error, false = summary(answers, line)
    assert 0.3 < right < 0.5 and error < 0.05 and false < 0.15
    assert calibration_error(torch.ones(SCENES), answers.right) == pytest.approx(1 - right, abs=1e-6)


def test_a_scene_is_answered_again_just_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWPOSE_DATA", str(tmp_path))  # procedural objects alone
    monkeypatch.setenv("FLOWPOSE_CACHE", str(tmp_path / "cache"))
    found, again = (Gatherer("", "train", 7001).answer(3) for _ in range(2))
    assert found.keys() == again.keys() and False in found
    for depth, (witnesses, error) in found.items():
        assert witnesses.shape == (6 if depth else 4,) and 0 <= error < float("inf")
        assert (witnesses == again[depth][0]).all() and error == again[depth][1]
