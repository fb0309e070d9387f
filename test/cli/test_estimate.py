"""`flowpose estimate` with the real estimator on one image."""

import json

import cv2
import numpy as np
import pytest

from flowpose_ros.cli.estimate import parse_box, parse_intrinsics
from flowpose_ros.cli.main import main
from flowpose_ros.errors import DatasetError, DetectionError, FrameError
from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.evaluation.images import read_color

K = "300,300,159.5,119.5"
K_MATRIX = np.array([[300, 0, 159.5], [0, 300, 119.5], [0, 0, 1]])


def test_intrinsics_as_text_and_as_files(tmp_path):
    path = tmp_path / "camera.json"
    np.testing.assert_array_equal(parse_intrinsics(K), K_MATRIX)
    for content in ({"fx": 300, "fy": 300, "cx": 159.5, "cy": 119.5}, {"cam_K": K_MATRIX.ravel().tolist()},
                    {"cam_K": K_MATRIX.tolist()}):
        path.write_text(json.dumps(content))
        np.testing.assert_array_equal(parse_intrinsics(str(path)), K_MATRIX)
    path = tmp_path / "ros.yaml"
    path.write_text(f"image_width: 320\ncamera_matrix:\n  rows: 3\n  cols: 3\n  data: {K_MATRIX.ravel().tolist()}\n")
    np.testing.assert_array_equal(parse_intrinsics(str(path)), K_MATRIX)


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", ""])
def test_other_intrinsics_are_refused(text):
    with pytest.raises(FrameError, match="--intrinsics: expected fx,fy,cx,cy"):
        parse_intrinsics(text)


@pytest.mark.parametrize("content, error, told", [
    ('{"fx": 1}', FrameError, "k.json: expected fx, fy, cx and cy, cam_K or camera_matrix, got fx"),
    ('{"0": {"cam_K": []}, "1": {}}', FrameError, "k.json: expected fx, fy, cx and cy, cam_K or camera_matrix, got 0, 1"),
    ('{"fx": 1, "fy": "one", "cx": 1, "cy": 1}', DatasetError, "k.json: fy: expected a finite number"),
    ('{"camera_matrix": [1, 2]}', DatasetError, "k.json: camera_matrix: data: expected 9"),
    ('{"cam_K": [[1, 2], [3]]}', DatasetError, "k.json: cam_K: expected 9")])
def test_incomplete_intrinsics_file_is_refused(tmp_path, content, error, told):
    (tmp_path / "k.json").write_text(content)
    with pytest.raises(error, match=told):
        parse_intrinsics(str(tmp_path / "k.json"))


def test_a_label_may_hold_commas():
    detection = parse_box("mug, red,1,2,3.5,4")
    assert detection.label == "mug, red" and detection.box.tolist() == [1, 2, 3.5, 4]


@pytest.mark.parametrize("text", ["mug", "mug,1,2,3", ",1,2,3,4", "mug,1,2,x,4"])
def test_other_boxes_are_refused(text):
    with pytest.raises(DetectionError, match="--box: expected LABEL,LEFT,TOP,RIGHT,BOTTOM"):
        parse_box(text)


@pytest.fixture
def command(bop_root, tmp_path):
    return ["estimate", str(bop_root / "test/000002/rgb/000000.png"), "--intrinsics", K, "--objects",
            str(bop_root / "models"), "--hypotheses", "1", "--output", str(tmp_path / "poses.png")]


def test_pose_as_json_and_a_picture(bop_root, command, tmp_path, capsys):
    depth = ["--depth", str(bop_root / "test/000002/depth/000000.png"), "--depth-scale", "0.0001"]
    assert main([*command, "--box", "obj_000003,90,106,125,132", *depth, "--json"]) == 0
    pose, = json.loads(capsys.readouterr().out)["poses"]
    assert pose["label"] == "obj_000003"
    assert np.linalg.norm(np.array(pose["T_cam_obj"])[:3, 3] - (-0.12, 0, 0.7)) < 0.1
    drawn, image = read_color(tmp_path / "poses.png"), read_color(bop_root / "test/000002/rgb/000000.png")
    assert drawn.shape == image.shape and (drawn != image).any()


def test_a_box_outside_gets_no_pose_and_is_said(command, capsys):
    assert main([*command, "--box", "obj_000003,90,106,125,132", "--box", "3,400,2,500,40"]) == 1
    out = capsys.readouterr().out
    assert "no pose: 3:" in out and "obj_000003" in out


def test_only_the_objects_of_the_boxes_are_loaded(command, bop_root, capsys):
    (bop_root / "models/obj_000007.ply").write_bytes(b"no mesh")
    assert main([*command, "--box", "obj_000003,400,2,500,40"]) == 1
    assert main([*command, "--box", "teapot,1,2,30,40"]) == 2
    assert "some of the objects obj_000003, obj_000007, got teapot" in capsys.readouterr().err


def test_depth_without_a_valid_pixel_is_said(command, bop_root, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "depth.png"), np.zeros((240, 320), np.uint16))
    assert main([*command, "--box", "obj_000003,90,106,125,132", "--depth", str(tmp_path / "depth.png")]) == 0
    assert "note: the depth image has no valid pixel: poses are without depth" in capsys.readouterr().err


def test_depth_of_another_scale_and_intrinsics_of_another_resolution_are_doubted(command, bop_root, capsys):
    depth = ["--depth", str(bop_root / "test/000002/depth/000000.png")]
    assert main([*command, "--box", "obj_000003,90,106,125,132", *depth]) == 0
    told = capsys.readouterr().err
    assert "the depth image says 6.8 m in its box, its pose 0." in told and "is --depth-scale right?" in told
    command[command.index(K)] = "600,600,319,239"
    assert main([*command, "--box", "obj_000003,90,106,125,132"]) == 0
    assert "are the intrinsics those of another resolution?" in capsys.readouterr().err
    command[command.index("600,600,319,239")] = K
    assert main([*command, "--box", "obj_000003,90,106,125,132", *depth, "--depth-scale", "0.0001"]) == 0
    assert "note:" not in capsys.readouterr().err


def test_depth_of_floating_point_numbers_is_in_metres_and_of_8_bits_is_refused(command, bop_root, tmp_path, capsys):
    depth = cv2.imread(str(bop_root / "test/000002/depth/000000.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(tmp_path / "depth.tiff"), depth.astype(np.float32) / 1e4)
    cv2.imwrite(str(tmp_path / "depth.png"), (depth // 256).astype(np.uint8))
    np.save(tmp_path / "depth.npy", depth / 1e4)
    boxed = [*command, "--box", "obj_000003,90,106,125,132"]
    for name in ("depth.tiff", "depth.npy"):
        assert main([*boxed, "--depth", str(tmp_path / name)]) == 0
        assert "note:" not in capsys.readouterr().err
    assert main([*boxed, "--depth", str(tmp_path / "depth.png")]) == 2
    assert "depth.png: expected depth of 16 bits or of floating point numbers, got 8 bits" in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_refused_first(command, capsys, monkeypatch):
    monkeypatch.setattr(Estimator, "estimate", lambda *arguments: pytest.fail("it was estimated"))
    command[command.index("--output") + 1] = "poses.bmp"
    assert main([*command, "--box", "obj_000003,90,106,125,132"]) == 2
    assert "poses.bmp: expected a path ending in" in capsys.readouterr().err


@pytest.mark.parametrize("scale", ["0", "-0.001", "nan", "inf", "mm"])
def test_other_depth_scales_are_refused(command, scale, capsys):
    with pytest.raises(SystemExit) as refusal:
        main([*command, "--box", "obj_000003,90,106,125,132", f"--depth-scale={scale}"])
    assert refusal.value.code == 2 and "--depth-scale" in capsys.readouterr().err


def test_bad_input_is_one_line(command, bop_root, capsys):
    command[1] = str(bop_root / "models/models_info.json")
    assert main([*command, "--box", "obj_000003,90,106,125,132"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "models_info.json: expected a readable image" in error[0]
