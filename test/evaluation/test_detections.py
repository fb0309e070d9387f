"""Detections files and COCO run lengths."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference.run_length import run_lengths, text_of

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import ImageId
from flowpose_ros.evaluation.detections import best_per_target, read_detections
from flowpose_ros.evaluation.run_length import decode_run_length


def entry(**changes):
    return {"scene_id": 2, "image_id": 4, "category_id": 3, "bbox": [10, 20, 30, 40], "score": 0.5,
            "time": 0.1} | changes


def read(tmp_path, *entries):
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(entries))
    return read_detections(path, lambda obj_id: f"obj_{obj_id:06d}")


@settings(max_examples=60)
@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_run_lengths_are_decoded_in_both_forms(mask):
    runs, size = run_lengths(mask), list(mask.shape)
    np.testing.assert_array_equal(decode_run_length(size, runs, "here"), mask)
    np.testing.assert_array_equal(decode_run_length(size, text_of(runs), "here"), mask)


def test_text_of_a_known_mask():
    mask = np.zeros((5, 6), bool)
    mask[1:4, 2:5] = True
    # Runs 11 3 2 3 2 3 6; from the fourth on as differences 0 0 0 4.
    np.testing.assert_array_equal(decode_run_length([5, 6], ";320004", "here"), mask)


@pytest.mark.parametrize("size, counts, message", [
    ([2, 3], [1, 2], "expected a total of 2 x 3 = 6 pixels, got 3"), ([2, 3], [7, -1], "run lengths >= 0"),
    ([2, 3], None, "run lengths"), ([2], [6], "size"), ([0, 3], [0], "size"), ([2, 3], "\x10", "characters"),
    ([2, 3], "P", "complete number"), ([1 << 20, 1 << 20], [1], "size")])
def test_broken_run_lengths_are_named(size, counts, message):
    with pytest.raises(DatasetError, match="here: segmentation.*" + message):
        decode_run_length(size, counts, "here")


def test_detections_come_by_image_best_first(tmp_path):
    mask = {"size": [2, 3], "counts": [1, 2, 3]}
    found = read(tmp_path, entry(score=0.2), entry(score=0.9, category_id=7, segmentation=mask, time=0.4),
                 entry(image_id=5, time=-1))
    assert set(found) == {ImageId(2, 4), ImageId(2, 5)}
    best, second = found[ImageId(2, 4)].detections
    assert (best.label, best.score, second.score) == ("obj_000007", 0.9, 0.2)
    assert best.box.tolist() == [10, 20, 40, 60]
    assert best.mask.tolist() == [[False, True, False], [True, False, False]]
    assert found[ImageId(2, 4)].time == 0.4 and found[ImageId(2, 5)].time == 0.0


def test_only_what_targets_ask_for_is_kept(tmp_path):
    found = read(tmp_path, *(entry(score=s) for s in (0.1, 0.9, 0.5)), entry(category_id=7))[ImageId(2, 4)]
    assert [d.score for d in best_per_target(found.detections, {"obj_000003": 2})] == [0.9, 0.5]


@pytest.mark.parametrize("changes, message", [
    ({"bbox": [1, 2, 3]}, "bbox: expected 4 finite numbers"), ({"bbox": [1, 2, -3, 4]}, "bbox: expected a positive"),
    ({"bbox": [1, 2, float("nan"), 4]}, "bbox: expected 4 finite"), ({"score": "high"}, "score: expected a finite"),
    ({"category_id": None}, "category_id: expected an integer"), ({"segmentation": [[1, 2]]}, "run lengths")])
def test_broken_entries_are_named(tmp_path, changes, message):
    with pytest.raises(DatasetError, match="detections.json: entry 1: .*" + message):
        read(tmp_path, entry(), entry(**changes))
