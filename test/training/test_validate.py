"""What validation measures: the truth of its cases, the flow against it, and what is counted of the answers."""

import json
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from synthetic_bop import write_dataset

from flowpose_ros.estimation.networks import load_networks
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.geometry.camera import crop_homography, project
from flowpose_ros.networks.update import FlowField
from flowpose_ros.rendering.raycast import RaycastRenderer
from training.targets import at_cells
from training.validate import main
from training.validation.cases import ALL, GROUPS, IMAGE_SIZE, ImageMaker, colour_spread, dataset_cases, synthetic_case
from training.validation.measures import FlowErrors, area_under_roc, flow_errors
from training.validation.report import draw, flow_table_of, group_table_of, table_of
from training.validation.rows import ACCEPTED, by_group, flow_row_of, row_of
from training.validation.trials import Answer, flow_of, look_at, start_of, starts, true_flow

OCCLUDED = 4
"""A scene that hides a fifth of its object, which has a texture and no symmetry."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Synthetic scenes of procedural objects."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWPOSE_DATA", str(tmp_path_factory.mktemp("no_data")))
        maker = ImageMaker(9001, IMAGE_SIZE, "held_out")
        return [synthetic_case(maker, index) for index in range(5)]


@pytest.fixture(scope="module")
def networks():
    return load_networks("", "cpu")


@pytest.fixture(scope="module")
def renderer():
    return RaycastRenderer()


def look_and_truth(case, networks, renderer, kind):
    _, look = look_at(case, start_of(case, starts()[kind], 0, 0), False, networks, renderer)
    return look, true_flow(case, look, renderer)


def answers(*values):
    """Answers of (ADD-S before, after, MSSD, score)."""
    return [Answer(*each) for each in values]


def test_the_visible_share_is_that_of_the_silhouette(scenes, renderer):
    assert [case.groups[2] for case in scenes] == ["over 0.9 seen"] * OCCLUDED + ["0.6 to 0.9 seen"]
    case = scenes[OCCLUDED]
    alone = renderer.render(case.model.mesh, torch.from_numpy(case.T_cam_obj)[None].float(),
                            torch.from_numpy(case.frame.K)[None].float(), case.seen.shape).mask[0].numpy()
    hidden = alone & ~case.seen
    assert hidden.sum() == pytest.approx((1 - case.visible) * (case.seen.sum() + hidden.sum()), abs=5)
    assert not (case.seen & ~alone).any()


def test_true_flow_leads_to_where_the_frame_shows_the_point(scenes, networks, renderer):
    case = scenes[OCCLUDED]
    look, truth = look_and_truth(case, networks, renderer, "20 deg")
    v, u = np.nonzero(truth.visible)
    assert 100 < len(v) < 0.95 * look.views.rendering.mask.sum()
    points = look.views.rendering.xyz[0, :, v, u].T.numpy() @ case.T_cam_obj[:3, :3].T + case.T_cam_obj[:3, 3]
    wanted = project(torch.from_numpy(points), torch.from_numpy(case.frame.K)).numpy()
    crop = np.stack([u, v, np.ones_like(u)]) + np.concatenate([truth.flow[:, v, u], np.zeros((1, len(u)))])
    led = crop_homography(look.views.camera, torch.from_numpy(case.frame.K).float())[0].double().numpy() @ crop
    np.testing.assert_allclose((led[:2] / led[2]).T, wanted, atol=0.02)
    assert case.seen[tuple(np.round(wanted).astype(int).T[::-1])].mean() > 0.97


def test_the_true_flow_has_no_error_and_the_true_visibility_an_area_of_one(scenes, networks, renderer):
    look, truth = look_and_truth(scenes[OCCLUDED], networks, renderer, "20 deg")
    flow, visible = torch.from_numpy(truth.flow)[None], torch.from_numpy(truth.visible)[None]
    certainty = at_cells(visible, 64)[:, None].float() - 0.5
    field = FlowField(at_cells(flow, 64), certainty, *(torch.zeros(1, 1, 64, 64),) * 3)
    row = flow_row_of("20 deg", ALL, [flow_errors(field, flow, visible, look.views.rendering.mask)])
    assert (row.count, row.mean, row.median, row.auc) == (1, 0, 0, 1)
    off = flow_errors(replace(field, flow=field.flow + torch.tensor([3.0, 4.0])[:, None, None]), flow, visible,
                      look.views.rendering.mask)
    assert len(off.distance) == at_cells(visible, 64).sum() and off.distance.allclose(torch.tensor(5.0))


def test_the_network_sees_little_flow_from_the_truth_and_more_from_afar(scenes, networks, renderer):
    near, far = (flow_of(scenes[OCCLUDED], T_init, networks, renderer) for T_init in (
        scenes[OCCLUDED].T_cam_obj, start_of(scenes[OCCLUDED], starts()["60 deg"], 0, 0)))
    assert near.distance.median() < 2 < far.distance.median()
    assert area_under_roc(near.certainty, near.visible) > 0.8


def test_a_case_without_a_mask_has_no_flow_to_compare(scenes, networks, renderer):
    assert flow_of(replace(scenes[0], seen=None), scenes[0].T_cam_obj, networks, renderer) is None


@pytest.mark.parametrize("scores, visible, area", [
    ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),
    ([2, 2, 2], [0, 1, 1], 0.5),
    ([1, 2, 2, 3], [0, 0, 1, 1], 0.875),
    ([3, 2, 1], [0, 1, 1], 0.0),
    ([1, 2], [1, 1], None),
    ([], [], None)])
def test_area_under_roc(scores, visible, area):
    assert area_under_roc(torch.tensor(scores), torch.tensor(visible, dtype=torch.bool)) == area


def test_cells_of_all_cases_count_alike():
    sure, none = torch.ones(3, dtype=torch.bool), torch.zeros(1, dtype=torch.bool)
    row = flow_row_of("nominal", ALL, [FlowErrors(torch.tensor([1.0, 1.0, 4.0]), torch.ones(3), sure),
                                       FlowErrors(torch.zeros(0), torch.zeros(1), none)])
    assert (row.count, row.mean, row.median, row.auc) == (2, 2, 1, 1)


def test_a_dataset_without_masks_asks_the_depth_image(tmp_path):
    drawn, measured = (list(dataset_cases(BopDataset(write_dataset(tmp_path / name, masks=masks))))
                       for name, masks in (("masks", True), ("depth", False)))
    assert len(drawn) == len(measured) == 4
    for a, b in zip(drawn, measured):
        assert (a.seen != b.seen).sum() <= 2 < a.seen.sum() and a.groups == b.groups == (ALL, "flat", "over 0.9 seen")


def test_what_stands_in_front_in_the_depth_image_hides(tmp_path):
    root = write_dataset(tmp_path)
    for path in (root / "test" / "000002" / "depth").iterdir():
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        depth[:, :160], depth[:, 160:] = 2000, 0  # something 20 cm away on the left, nothing measured on the right
        cv2.imwrite(str(path), depth)
    for case in dataset_cases(BopDataset(root)):
        left = case.T_cam_obj[0, 3] < 0
        assert case.seen.any() != left


def test_groups_hold_their_cases_and_leave_out_what_has_no_result(scenes):
    flat, textured = scenes[0], scenes[OCCLUDED]
    assert colour_spread(flat.model.mesh) < 1e-4 and 0.06 < colour_spread(textured.model.mesh) < 0.5
    cases = [flat, textured, replace(flat, visible=0.6), replace(textured, visible=0.59), replace(flat, visible=0.3)]
    assert by_group(cases, [0, 1, 2, 3, None]) == {
        ALL: [0, 1, 2, 3], "textured": [1, 3], "flat": [0, 2], "over 0.9 seen": [0], "0.6 to 0.9 seen": [1, 2],
        "under 0.6 seen": [3]}
    assert "textured" not in by_group(cases, [0, None, None, None, None])


def test_what_is_accepted_falsely_and_what_is_kept():
    row = row_of("genflow", "nominal", True, ALL, answers(
        (0.2, 0.01, 0.03, ACCEPTED), (0.2, 0.03, 0.12, 0.9), (0.05, 0.3, 0.5, 0.7), (0.2, 0.04, 0.08, 0.1),
        (0.3, 0.2, 0.4, 0.2)))
    assert (row.count, row.accepted) == (5, 0.6)
    assert row.false == pytest.approx(1 / 3) and row.false_mssd == pytest.approx(2 / 3)
    assert row.kept == pytest.approx(2 / 3)
    assert (row.recall_before, row.recalls, row.median, row.better, row.worse) == (0.2, (0.2, 0.6, 0.6), 0.04, 0.8, 0.2)
    none = row_of("genflow", "nominal", True, ALL, answers((0.2, 0.3, 0.4, 0.1)))
    assert (none.accepted, none.false, none.false_mssd, none.kept) == (0, None, None, None)


def test_a_start_is_always_the_same_and_as_far_off_as_it_says(scenes):
    for name, start in starts().items():
        T = start_of(scenes[0], start, 7, 3)
        np.testing.assert_array_equal(T, start_of(scenes[0], start, 7, 3))
        assert not np.array_equal(T, start_of(scenes[0], start, 7, 4))
        if name != "nominal":
            turn = T[:3, :3] @ scenes[0].T_cam_obj[:3, :3].T
            assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(int(name.split()[0]), abs=0.01)


def test_the_command_prints_the_tables_and_writes_rows_and_figure(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FLOWPOSE_DATA", str(tmp_path))
    arguments = ["--count", "1", "--depth", "off", "--starts", "nominal", "10 deg", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["validate", *arguments])
    main()
    refinement, groups, flow = capsys.readouterr().out.split("\n\n")
    assert "kept" in refinement and "over 0.9 seen" in groups and "certainty AUC" in flow
    written = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert [(row["start"], row["group"], row["count"]) for row in written["flow"]] == [
        (start, group, 1) for start in ("nominal", "10 deg") for group in (ALL, "flat", "over 0.9 seen")]
    assert len(written["refinement"]) == 6 and all(len(row["recalls"]) == 3 for row in written["refinement"])
    assert cv2.imread(str(tmp_path / "out" / "validation.png")).std() > 10


@pytest.mark.parametrize("kinds", [("nominal",), ("20 deg", "30 deg"), ("nominal", "20 deg")])
def test_figures_and_tables_show_what_there_is(tmp_path, kinds):
    found = answers((0.2, 0.01, 0.03, 0.9), (0.2, 0.03, 0.12, 0.2))
    rows = [row_of(refiner, kind, depth, group, found) for refiner in ("genflow", "refpose") for depth in (False, True)
            for kind in kinds for group in GROUPS]
    flow = [flow_row_of(kind, group, [FlowErrors(torch.ones(1), torch.ones(1), torch.ones(1) > 0)]) for kind in kinds
            for group in GROUPS]
    draw(rows, flow, tmp_path / "figure.png")
    assert cv2.imread(str(tmp_path / "figure.png")).std() > 10
    others = len(GROUPS) - 1 if "nominal" in kinds else 0
    lengths = [len(table.splitlines()) - 2 for table in (table_of(rows), group_table_of(rows), flow_table_of(flow))]
    assert lengths == [4 * len(kinds), 4 * others, len(kinds) + others]
