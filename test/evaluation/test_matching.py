"""Greedy matching and average precision against hand-made cases."""

import numpy as np
import pytest

from flowpose_ros.evaluation.matching import average_precision, match_greedily


def test_best_scored_estimate_chooses_first_and_takes_the_nearest():
    errors = np.array([[0.10, 0.30], [0.05, 0.20]])
    assert match_greedily(errors, np.array([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert match_greedily(errors, np.array([0.8, 0.9]), 0.5).tolist() == [1, 0]


def test_each_instance_is_used_once():
    assert match_greedily(np.array([[0.1], [0.0]]), np.array([0.9, 0.8]), 0.5).tolist() == [0, -1]


def test_error_must_be_below_the_threshold():
    assert match_greedily(np.array([[0.05]]), np.ones(1), 0.05).tolist() == [-1]
    assert match_greedily(np.array([[np.nextafter(0.05, 0)]]), np.ones(1), 0.05).tolist() == [0]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_matches_nothing(shape):
    assert (match_greedily(np.zeros(shape), np.ones(shape[0]), 1.0) == -1).all()


def test_average_precision_of_the_known_case():
    assert average_precision([0, 1, 1, 0, 1, 0], 6) == pytest.approx(0.325413, abs=5e-7)


@pytest.mark.parametrize("true_positive, count, expected", [
    ([1, 1, 1], 3, 1.0), ([1, 1, 1, 0, 0], 3, 1.0), ([0, 0], 3, 0.0), ([], 3, 0.0), ([1], 2, 51 / 101)])
def test_average_precision_at_its_ends(true_positive, count, expected):
    assert average_precision(true_positive, count) == pytest.approx(expected)
