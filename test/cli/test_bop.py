"""`flowpose bop` with the real estimator on a tiny dataset, and where its detections come from."""

import json

import numpy as np
import pytest
from synthetic_bop import BOX, CAN

from flowpose_ros.cli.bop import detection_source
from flowpose_ros.cli.main import main
from flowpose_ros.errors import DatasetError
from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.evaluation.bop_dataset import BopDataset, ImageId
from flowpose_ros.evaluation.results import read_results
from flowpose_ros.evaluation.targets import Target, targets_from_ground_truth

FIRST, SECOND = ImageId(2, 0), ImageId(2, 4)


@pytest.fixture
def detections(tmp_path):
    """Detections of the first image: the box twice, the can once."""
    entries = [{"scene_id": 2, "image_id": 0, "category_id": obj_id, "bbox": bbox, "score": score, "time": 100.0}
               for obj_id, bbox, score in ((BOX, [86, 98, 54, 44], 0.4), (BOX, [90, 105, 35, 26], 0.8),
                                           (CAN, [180, 105, 60, 60], 0.9))]
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(entries))
    return path


def test_ground_truth_boxes_as_detections(bop_root):
    dataset = BopDataset(bop_root)
    source = detection_source("gt", dataset, None)
    assert [d.label for d in source(SECOND).detections] == ["obj_000003", "obj_000003"]


def test_best_detections_of_the_targets_are_used(bop_root, detections):
    dataset = BopDataset(bop_root)
    source = detection_source(str(detections), dataset, targets_from_ground_truth(dataset))
    assert [(d.label, d.score) for d in source(FIRST).detections] == [("obj_000007", 0.9), ("obj_000003", 0.8)]
    assert source(SECOND).detections == ()
    assert len(detection_source(str(detections), dataset, None)(FIRST).detections) == 3
    # Targets that name images alone ask for whatever is there.
    assert len(detection_source(str(detections), dataset, (Target(FIRST, None, 0),))(FIRST).detections) == 3


def test_of_the_ground_truth_only_what_targets_ask_for_is_used(bop_root):
    dataset = BopDataset(bop_root)
    found = detection_source("gt", dataset, (Target(FIRST, CAN, 1), Target(SECOND, BOX, 1)))
    assert [d.label for d in found(FIRST).detections] == ["obj_000007"]
    most_visible = max(range(2), key=lambda i: dataset.ground_truth(SECOND)[i].visib_fract)
    assert [(d.label, d.instance) for d in found(SECOND).detections] == [("obj_000003", most_visible)]


@pytest.mark.parametrize("entry, told", [
    ({"scene_id": 2, "im_id": 0, "obj_id": 9, "inst_count": 1}, "expected one of the objects obj_000003, obj_000007, got 9"),
    ({"scene_id": 2, "im_id": 8, "obj_id": BOX, "inst_count": 1}, "expected image 000002/000008 of the targets, got none")])
def test_targets_that_the_dataset_does_not_have_are_refused_first(bop_root, tmp_path, capsys, monkeypatch, entry, told):
    monkeypatch.setattr(Estimator, "estimate", lambda *arguments: pytest.fail("it was estimated"))
    (tmp_path / "targets.json").write_text(json.dumps([entry]))
    assert main(["bop", str(bop_root), "--detections", "gt", "--targets", str(tmp_path / "targets.json")]) == 2
    assert told in capsys.readouterr().err


def test_other_words_and_missing_truth_are_refused(bop_root):
    with pytest.raises(DatasetError, match="--detections: expected gt or a .json file, got 'cnos'"):
        detection_source("cnos", BopDataset(bop_root), None)
    (bop_root / "test/000002/scene_gt.json").unlink()
    with pytest.raises(DatasetError, match="--detections gt: expected scene_gt.json"):
        detection_source("gt", BopDataset(bop_root), None)


def test_dataset_to_csv_scores_and_report(bop_root, detections, tmp_path, capsys):
    output, report = tmp_path / "m_tiny-test.csv", tmp_path / "report"
    assert main(["bop", str(bop_root), "--detections", str(detections), "--depth", "on", "--hypotheses", "1",
                 "--output", str(output), "--report", str(report)]) == 0
    rows = read_results(output)
    assert {row.obj_id for row in rows} <= {BOX, CAN} and {row.image_id for row in rows} == {FIRST}
    assert all(row.time > 100 for row in rows)  # the detector's seconds count
    for row in rows:
        assert np.linalg.norm(row.T_cam_obj[:3, 3]) < 2
    out = capsys.readouterr().out
    assert "AR (MSSD, MSPD mean)" in out and "obj_000007" in out and str(output) in out
    assert (report / "index.html").read_text().count("<img") == 2


def test_same_seed_gives_the_same_poses(bop_root, tmp_path):
    for name in ("a.csv", "b.csv"):
        assert main(["bop", str(bop_root), "--detections", "gt", "--hypotheses", "1",
                     "--output", str(tmp_path / name)]) == 0
    a, b = (read_results(tmp_path / name) for name in ("a.csv", "b.csv"))
    assert a and len(a) == len(b)
    for one, other in zip(a, b):
        np.testing.assert_array_equal(one.T_cam_obj, other.T_cam_obj)


def test_an_unreadable_image_does_not_lose_the_others(bop_root, tmp_path, capsys):
    (bop_root / "test/000002/rgb/000000.png").write_bytes(b"no picture")
    output, report = tmp_path / "out.csv", tmp_path / "report"
    assert main(["bop", str(bop_root), "--detections", "gt", "--hypotheses", "1", "--output", str(output),
                 "--report", str(report)]) == 1
    assert {row.image_id for row in read_results(output)} == {SECOND}
    said = capsys.readouterr()
    assert "dropped, image_unusable: 1" in said.out and "scores without the 1 of 2 images that could not be read" in said.out
    assert "image 000002/000000: " in said.err and "expected a readable image" in said.err
    assert (report / "index.html").read_text().count("<img") == 1


def test_no_pose_at_all_is_exit_code_1_and_strange_detections_are_counted(bop_root, detections, tmp_path, capsys):
    entries = json.loads(detections.read_text())[:2]
    entries[0]["category_id"], entries[1]["image_id"] = 5, 99
    detections.write_text(json.dumps(entries))
    assert main(["bop", str(bop_root), "--detections", str(detections), "--output", str(tmp_path / "out.csv"),
                 "--objects", str(bop_root / "models")]) == 1
    assert "2 detections of images or objects that" in capsys.readouterr().out


def test_an_interrupted_run_keeps_the_poses_that_it_has(bop_root, tmp_path, capsys, monkeypatch):
    whole, images = Estimator.estimate, iter(range(2))

    def estimate(self, *arguments):
        if next(images) == 1:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(Estimator, "estimate", estimate)
    output = tmp_path / "flowpose_tiny-test.csv"
    assert main(["bop", str(bop_root), "--detections", "gt", "--output", str(output)]) == 130
    rows = read_results(output)
    assert rows and {row.image_id for row in rows} == {FIRST}
    assert f"{len(rows)} poses of 1 of 2 images" in capsys.readouterr().out


def test_the_split_type_is_named_apart(bop_root, tmp_path, monkeypatch):
    (bop_root / "test").rename(bop_root / "test_primesense")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.json").write_text("[]")
    assert main(["bop", str(bop_root), "--detections", "none.json", "--split", "test_primesense"]) == 1
    assert [path.name for path in tmp_path.glob("*.csv")] == ["flowpose-auto-genflow_tiny-test-primesense.csv"]


@pytest.mark.parametrize("flag, name", [("--output", ""), ("--output", "file/out.csv"), ("--report", "file")])
def test_outputs_that_cannot_be_written_are_refused_first(bop_root, tmp_path, capsys, monkeypatch, flag, name):
    monkeypatch.setattr("flowpose_ros.cli.bop.Estimator", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["bop", str(bop_root), "--detections", "gt", flag, str(tmp_path / name)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and ("to write to" in error[0] or "writable path" in error[0])


@pytest.mark.parametrize("name, content, message", [
    ("scene_camera.json", "{}", "expected images in scene_camera.json, got none"),
    ("scene_gt.json", "{}", "expected visible objects in scene_gt.json, got none")])
def test_nothing_to_do_is_refused(bop_root, capsys, name, content, message):
    (bop_root / "test/000002" / name).write_text(content)
    assert main(["bop", str(bop_root), "--detections", "gt"]) == 2
    assert message in capsys.readouterr().err


def test_bad_input_is_one_line(bop_root, tmp_path, capsys):
    assert main(["bop", str(tmp_path / "nowhere"), "--detections", "gt"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "nowhere" in error[0]
