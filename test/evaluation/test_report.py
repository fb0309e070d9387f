"""The report page and its tables."""

import re

import pytest

from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.evaluation.images import read_color
from flowpose_ros.evaluation.report import write_report
from flowpose_ros.evaluation.score_tables import timing_table
from flowpose_ros.evaluation.scores import evaluate
from flowpose_ros.evaluation.table import format_table
from flowpose_ros.evaluation.targets import targets_from_ground_truth
from synthetic_bop import write_truth_as_results


def test_table_aligns_words_left_and_numbers_right():
    assert format_table(("object", "AR"), [("mug", 0.5), ("box", float("nan"))]) == (
        "object     AR\n------  -----\nmug     0.500\nbox         -")


def test_timing_table_has_percentiles_in_milliseconds():
    table = timing_table({"coarse": [0.001 * k for k in range(1, 102)], "never": []})
    assert table.rows == (("coarse", 51.0, 96.0, 101),)


def test_page_shows_every_image_and_every_object(bop_root, tmp_path):
    dataset = BopDataset(bop_root)
    rows = write_truth_as_results(bop_root, tmp_path / "r.csv")
    evaluation = evaluate(dataset, rows, targets_from_ground_truth(dataset))
    page = write_report(tmp_path / "report", "tiny <truth>", dataset, rows, evaluation, {"coarse": [0.1, 0.2]})
    text = page.read_text()
    pictures = re.findall(r'<img src="([^"]+)"', text)
    assert pictures == ["000002_000000.jpg", "000002_000004.jpg"]
    for name in pictures:
        assert read_color(page.parent / name).shape == (240, 320, 3)
    assert "tiny &lt;truth&gt;" in text and "obj_000007" in text and "coarse" in text
    assert "http" not in text  # nothing is fetched from elsewhere


@pytest.mark.parametrize("count, shown", [(0, 0), (1, 1)])
def test_page_without_scores(bop_root, tmp_path, count, shown):
    dataset = BopDataset(bop_root)
    rows = write_truth_as_results(bop_root, tmp_path / "r.csv")[:count]
    text = write_report(tmp_path / "report", "bare", dataset, rows).read_text()
    assert text.count("<img") == shown
