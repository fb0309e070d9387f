"""`flowpose evaluate`, the whole program."""

import json

import pytest
import synthetic_bop

from flowpose_ros.cli.main import main


@pytest.fixture
def csv(bop_root, tmp_path):
    synthetic_bop.write_truth_as_results(bop_root, tmp_path / "truth_tiny-test.csv")
    return tmp_path / "truth_tiny-test.csv"


def test_truth_scores_one_and_the_report_is_written(bop_root, csv, tmp_path, capsys):
    assert main(["evaluate", str(csv), str(bop_root), "--report", str(tmp_path / "report")]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("AR_VSD", "AR_MSSD", "AR_MSPD", "AR", "AR (MSSD, MSPD mean)"):
        assert any(line.split("  ")[0] == name and line.endswith("1.000") for line in lines)
    assert any(line.startswith("image (time column)") and "250.0" in line for line in lines)
    assert (tmp_path / "report" / "index.html").is_file()


@pytest.mark.parametrize("asked", [{"obj_id": synthetic_bop.BOX, "inst_count": 2}, {}], ids=["objects", "images alone"])
def test_targets_choose_the_images(bop_root, csv, tmp_path, capsys, asked):
    targets = tmp_path / "targets.json"
    targets.write_text(json.dumps([{"scene_id": 2, "im_id": 4, **asked}]))
    assert main(["evaluate", str(csv), str(bop_root), "--targets", str(targets)]) == 0
    assert "obj_000007" not in capsys.readouterr().out


def test_rows_of_unknown_images_and_objects_are_counted(bop_root, csv, capsys):
    line = csv.read_text().splitlines()[1].split(",")
    with csv.open("a") as file:
        file.writelines(",".join([*ids, *line[3:]]) + "\n" for ids in (("2", "0", "5"), ("2", "99", "3")))
    assert main(["evaluate", str(csv), str(bop_root)]) == 0
    assert "2 poses of images or objects that the dataset does not have" in capsys.readouterr().out


@pytest.mark.parametrize("spoil, message", [
    (lambda root, csv: csv.write_text("a\n"), "line 1: expected the header"),
    (lambda root, csv: csv.unlink(), "truth_tiny-test.csv"),
    (lambda root, csv: (root / "test/000002/scene_gt.json").unlink(), "expected scene_gt.json"),
    (lambda root, csv: (root / "test/000002/depth/000000.png").write_bytes(b"x"), "000000.png"),
    (lambda root, csv: (root / "models/obj_000003.ply").write_bytes(b"x"), "obj_000003.ply"),
    (lambda root, csv: (root / "models/models_info.json").write_text('{"mug": {}}'), "as keys, got 'mug'"),
    (lambda root, csv: (root / "test/000002/scene_gt_info.json").write_text('{"0": [1, 2]}'), "visib_fract"),
])
def test_bad_input_is_one_line_and_exit_code_2(bop_root, csv, capsys, spoil, message):
    spoil(bop_root, csv)
    assert main(["evaluate", str(csv), str(bop_root)]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith("flowpose: ") and message in error[0]
