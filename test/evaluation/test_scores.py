"""Scores of results with a known error: the dataset is synthetic, all else is the real way."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import synthetic_bop
from synthetic_bop import BOX, CAN

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import MIN_VISIBILITY, BopDataset, GroundTruth, ImageId
from flowpose_ros.evaluation.eval_models import load_eval_models
from flowpose_ros.evaluation.pose_errors import ObjectErrors, pose_errors
from flowpose_ros.evaluation.results import ResultRow
from flowpose_ros.evaluation.scores import PIXEL_THRESHOLDS, SHARE_THRESHOLDS, average_recall, evaluate, total_scores
from flowpose_ros.evaluation.targets import Target, targets_from_ground_truth

FIRST = ImageId(2, 0)


def truth_rows(dataset):
    return [ResultRow(image_id, truth.obj_id, 0.9, truth.T_cam_obj)
            for image_id in dataset.images for truth in dataset.ground_truth(image_id)]


def moved(row, by):
    T = row.T_cam_obj.copy()
    T[:3, 3] += by
    return replace(row, T_cam_obj=T)


def one_error(mssd=0.0, mspd=0.0, vsd=0.0):
    """One estimate of one instance with the given errors."""
    return ObjectErrors(FIRST, 1, 1, (ResultRow(FIRST, 1, 1.0, np.eye(4)),),
                        (GroundTruth(1, "one", np.eye(4), 1.0, None),),
                        np.array([[mssd]]), np.array([[mspd]]), np.full((1, 1, 10), vsd), np.ones(1, bool))


@pytest.mark.parametrize("share, recall", [(0.0, 1.0), (0.12, 0.8), (0.05, 0.9), (0.15, 0.7), (0.5, 0.0)])
def test_recall_of_a_share_of_the_diameter(share, recall):
    assert average_recall([one_error(mssd=share)], [np.array([[share]])], SHARE_THRESHOLDS) == pytest.approx(recall)
    assert total_scores([one_error(mssd=share)]).ar_mssd == pytest.approx(recall)


@pytest.mark.parametrize("pixels, recall", [(0, 1.0), (12, 0.8), (6, 0.9), (5, 0.9), (50, 0.0)])
def test_recall_of_pixels(pixels, recall):
    assert total_scores([one_error(mspd=pixels)]).ar_mspd == pytest.approx(recall)
    assert PIXEL_THRESHOLDS[0] == 5 and PIXEL_THRESHOLDS[-1] == 50


def test_total_is_the_mean_of_its_parts():
    scores = total_scores([one_error(mssd=0.12, mspd=5, vsd=1.0)])
    assert scores.ar == pytest.approx((0.0 + 0.8 + 0.9) / 3)
    assert scores.ar_mssd_mspd == pytest.approx(0.85)
    assert scores.ap == pytest.approx(0.85)


def test_truth_as_result_scores_one(bop_root):
    dataset = BopDataset(bop_root)
    evaluation = evaluate(dataset, truth_rows(dataset), targets_from_ground_truth(dataset))
    assert (evaluation.total.ar, evaluation.total.ap, evaluation.total.target_count) == (1.0, 1.0, 4)
    assert set(evaluation.objects) == {"obj_000003", "obj_000007"}
    assert max(c.rotation for c in evaluation.comparisons) < 1e-6


def test_no_results_score_zero(bop_root):
    dataset = BopDataset(bop_root)
    total = evaluate(dataset, [], targets_from_ground_truth(dataset)).total
    assert (total.ar, total.ap) == (0.0, 0.0)


@pytest.mark.parametrize("width, recall", [(640, 0.8), (1280, 0.9)])
def test_twelve_pixels_count_by_the_image_width(tmp_path, width, recall):
    focal = 600.0
    dataset = BopDataset(synthetic_bop.write_dataset(tmp_path / "wide", width, 480, focal))
    row = truth_rows(dataset)[0]  # the upright box, whose nearest face is 20 mm before its centre
    nearest = row.T_cam_obj[2, 3] - 0.020
    total = evaluate(dataset, [moved(row, (12 * nearest / focal, 0, 0))], [Target(FIRST, BOX, 1)]).total
    assert total.ar_mspd == pytest.approx(recall)


def test_depth_offset_moves_vsd_and_mssd_by_its_share_of_the_diameter(bop_root):
    dataset = BopDataset(bop_root)
    diameter = np.linalg.norm((0.08, 0.06, 0.04))
    row = moved(truth_rows(dataset)[0], (0, 0, -0.12 * diameter))
    total = evaluate(dataset, [row], [Target(FIRST, BOX, 1)]).total
    assert total.ar_mssd == pytest.approx(0.8)
    # Pixels of the rim differ, so that VSD is near its value for equal masks: 8 of 10 taus.
    assert total.ar_vsd == pytest.approx(0.8 * 0.9, abs=0.08)


def test_only_as_many_estimates_as_targets_count_for_localisation(bop_root):
    dataset = BopDataset(bop_root)
    truth = truth_rows(dataset)[0]
    wrong_but_sure = replace(moved(truth, (0.2, 0, 0)), score=0.99)
    total = evaluate(dataset, [truth, wrong_but_sure], [Target(FIRST, BOX, 1)]).total
    assert total.ar == 0.0
    alone = evaluate(dataset, [truth, replace(wrong_but_sure, score=0.1)], [Target(FIRST, BOX, 1)]).total
    assert alone.ar == 1.0


def test_estimates_beyond_an_images_best_hundred_count_for_localisation_alone(bop_root):
    dataset = BopDataset(bop_root)
    rows = [row for row in truth_rows(dataset) if row.image_id == FIRST]
    box, can = (next(row for row in rows if row.obj_id == obj_id) for obj_id in (BOX, CAN))
    for count, precision in (99, 1.0), (100, 0.0):
        many = [replace(moved(can, (0.2, 0, 0)), score=0.9)] * count + [replace(box, score=0.1)]
        evaluation = evaluate(dataset, many, targets_from_ground_truth(dataset, [FIRST]))
        assert evaluation.objects["obj_000003"].ar == 1.0 and evaluation.objects["obj_000003"].ap == precision


@pytest.mark.parametrize("name, recall", [("itodd", 0.0), ("other", 1.0)])
def test_what_lies_behind_the_measured_surface_is_seen_by_the_datasets_own_tolerance(tmp_path, name, recall):
    dataset = BopDataset(synthetic_bop.write_dataset(tmp_path / name))
    path = str(tmp_path / name / "test/000002/depth/000000.png")
    cv2.imwrite(path, cv2.imread(path, cv2.IMREAD_UNCHANGED) - 80)  # 8 mm nearer
    evaluation = evaluate(dataset, truth_rows(dataset)[:1], [Target(FIRST, BOX, 1)])
    assert evaluation.total.ar_vsd == recall


def test_shares_are_of_the_diameter_that_the_dataset_states(bop_root):
    path = bop_root / "models" / "models_info.json"
    info = json.loads(path.read_text())
    info[str(BOX)]["diameter"] *= 1.02
    path.write_text(json.dumps(info))
    models = load_eval_models(BopDataset(bop_root))
    assert models[BOX].diameter == pytest.approx(1.02 * models[BOX].model.mesh.diameter)
    assert models[CAN].diameter == pytest.approx(np.hypot(0.06, 0.09))


def test_two_instances_are_matched_whatever_the_order(bop_root):
    dataset = BopDataset(bop_root)
    rows = [row for row in truth_rows(dataset) if row.image_id == ImageId(2, 4)]
    total = evaluate(dataset, rows[::-1], [Target(ImageId(2, 4), BOX, 2)]).total
    assert total.ar == 1.0


def test_hardly_visible_instances_count_neither_for_nor_against_detection():
    visible, hidden = (GroundTruth(1, "one", np.eye(4), fract, None) for fract in (0.5, 0.05))
    rows = tuple(ResultRow(FIRST, 1, score, np.eye(4)) for score in (0.9, 0.8))
    both = ObjectErrors(FIRST, 1, 1, rows, (visible, hidden), np.array([[9, 0.0], [0.0, 9]]),
                        np.array([[99, 0.0], [0.0, 99]]), np.ones((2, 2, 10)), np.ones(2, bool))
    assert total_scores([both]).ap == pytest.approx(1.0)


def test_an_instance_as_visible_as_needed_counts_for_detection():
    just_visible = replace(one_error(), truths=(GroundTruth(1, "one", np.eye(4), MIN_VISIBILITY, None),))
    assert total_scores([just_visible]).ap == pytest.approx(1.0)


def test_round_object_turned_about_its_axis_is_right(bop_root):
    dataset = BopDataset(bop_root)
    row = next(row for row in truth_rows(dataset) if row.obj_id == CAN)
    turned = replace(row, T_cam_obj=row.T_cam_obj @ synthetic_bop.pose((0, 0, 2.0), (0, 0, 0)))
    evaluation = evaluate(dataset, [turned], [Target(FIRST, CAN, 1)])
    assert evaluation.total.ar == 1.0
    assert evaluation.comparisons[0].rotation < 1e-6


def test_unknown_object_in_targets_is_named(bop_root):
    with pytest.raises(DatasetError, match=r"000002/000000: expected an object of \[3, 7\], got 5"):
        evaluate(BopDataset(bop_root), [], [Target(FIRST, 5, 1)])


def test_annotated_object_without_a_model_is_named(bop_root):
    dataset = BopDataset(bop_root)
    models = {CAN: load_eval_models(dataset)[CAN]}
    with pytest.raises(DatasetError, match=rf"000002/000000: expected models of objects \[3, 7\], got none of \[{BOX}\]"):
        list(pose_errors(dataset, models, [], [Target(FIRST, CAN, 1)]))


@pytest.mark.parametrize("name", ["ycbv", "lmo"])
def test_truth_of_real_images_scores_one(data_root, name):
    root = data_root / "real_dev" / name
    if not root.is_dir():
        pytest.skip(f"no real images at {root}")
    dataset = BopDataset(root)
    total = evaluate(dataset, truth_rows(dataset), targets_from_ground_truth(dataset)).total
    assert (total.ar, total.ap) == pytest.approx((1.0, 1.0))
