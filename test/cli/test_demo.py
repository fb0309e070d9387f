"""`flowpose demo`: the clip through real processes, and what it does when something is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from flowpose_ros.cli.demo_summary import demo_table, write_contact_sheet, write_movie
from flowpose_ros.cli.main import main
from flowpose_ros.errors import FlowposeError
from flowpose_ros.evaluation.bop_dataset import ImageId
from flowpose_ros.evaluation.results import ResultRow, read_results
from flowpose_ros.evaluation.scores import Comparison, Evaluation, Scores
from flowpose_ros.runtime.node_process import NodeProcess


@pytest.mark.timeout(600)
def test_the_clip_goes_through_the_node_and_comes_out_scored(ros_env, tmp_path):
    command = [sys.executable, "-m", "flowpose_ros.cli.main", "demo", "--frames", "2", "--output", str(tmp_path)]
    done = subprocess.run(command, env=ros_env, capture_output=True, text=True)
    logs = "\n".join(log.read_text() for log in (tmp_path / "logs").glob("*.txt"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    assert "2 of 2 images answered" in done.stdout
    table = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.startswith("obj_")}
    assert sorted(table) == ["obj_000001", "obj_000002", "obj_000003"]
    rows = read_results(tmp_path / "scores.csv")
    assert len(rows) == int(re.search(r"(\d+) poses looked up on TF", done.stdout)[1]) > 0
    assert all(np.linalg.norm(row.T_cam_obj[:3, 3]) < 2 and row.time > 0 for row in rows)
    for name in ("index.html", "contact_sheet.jpg", "demo.gif", "000000_000001.jpg"):
        assert (tmp_path / name).stat().st_size > 0
    assert json.loads((tmp_path / "scores.json").read_text())["poses_without_transform"] == 0


def test_a_dataset_without_ground_truth_is_refused_in_one_line(bop_root, tmp_path, capsys):
    for path in bop_root.rglob("scene_gt.json"):
        path.unlink()
    assert main(["demo", "--dataset", str(bop_root), "--output", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.strip()
    assert "scene_gt.json" in message and "\n" not in message


def test_a_file_as_output_is_refused_in_one_line(bop_root, tmp_path, capsys):
    (tmp_path / "out").touch()
    assert main(["demo", "--dataset", str(bop_root), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"flowpose: {tmp_path / 'out'}: expected a folder to write to, got File exists\n"


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FlowposeError, match="log.txt: expected a log file that can be written"):
        NodeProcess("bop_player_node", tmp_path / "file" / "log.txt", {}).__enter__()


def test_a_missing_dataset_is_refused_in_one_line(tmp_path, capsys):
    assert main(["demo", "--dataset", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.strip()
    assert "nowhere" in message and "\n" not in message


def test_a_broken_mesh_ends_the_demo_with_the_nodes_own_words(ros_env, bop_root, tmp_path, capsys):
    mesh = next((bop_root / "models").glob("*.ply"))
    mesh.write_bytes(b"not a mesh")
    assert main(["demo", "--dataset", str(bop_root), "--output", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.strip()
    assert mesh.name in message and "\n" not in message


def test_zero_frames_are_refused(capsys):
    with pytest.raises(SystemExit) as refusal:
        main(["demo", "--frames", "0"])
    assert refusal.value.code == 2 and "above 0" in capsys.readouterr().err


def test_a_node_that_fails_is_quoted_with_its_log(ros_env, tmp_path):
    log = tmp_path / "player.txt"
    with NodeProcess("bop_player_node", log, {"dataset": str(tmp_path / "on")}) as player:
        with pytest.raises(FlowposeError, match="bop_player_node failed: .*scene folders.*player.txt"):
            while not player.ended():
                pass


def comparison(image: int, label: str, instance: int, add_s: float, mssd: float, seconds: float) -> Comparison:
    """An estimate of an object of diameter 0.2 m with these errors."""
    T_true = np.eye(4)
    T_true[0, 3] = instance
    row = ResultRow(ImageId(0, image), 1, 0.9, np.eye(4), seconds)
    return Comparison(row, label, T_true, 0.2, np.radians(2), 0.003, add_s, add_s, mssd, 1.0)


def test_the_table_counts_each_target_once_and_gives_medians():
    scores = Scores(4, 0, 0, 0, 0, 0)
    comparisons = (comparison(0, "mug", 0, 0.019, 0.2, 1.0), comparison(0, "mug", 0, 0.001, 0.01, 2.0),
                   comparison(1, "mug", 0, 0.021, 0.09, 3.0))
    header, rows = (table := demo_table(Evaluation(scores, {"mug": scores}, comparisons))).header, table.rows
    mug = dict(zip(header, rows[0]))
    assert mug["targets"] == 4 and mug["ADD-S<0.1d"] == 0.25 and mug["MSSD<0.1d"] == 0.5
    assert mug["rot deg"] == pytest.approx(2) and mug["trans mm"] == pytest.approx(3)
    assert mug["p50 s"] == 2.0 and mug["p95 s"] == pytest.approx(2.9)
    assert [row[0] for row in rows] == ["mug", "all"]


def test_sheet_and_movie_hold_every_picture(tmp_path):
    pictures = []
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (48, 1, 3))
    for i in range(5):
        pictures.append(tmp_path / f"{i}.jpg")
        Image.fromarray(np.roll(ramp, 12 * i, axis=1)).save(pictures[-1])
    write_contact_sheet(tmp_path / "sheet.jpg", pictures)
    write_movie(tmp_path / "movie.gif", pictures)
    with Image.open(tmp_path / "sheet.jpg") as sheet, Image.open(tmp_path / "movie.gif") as movie:
        assert sheet.size == (1600, 600)
        assert movie.n_frames == 5 and movie.size == (480, 360)
