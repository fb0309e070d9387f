"""BOP folders: what is read, in which unit, and what is said about a broken one."""

import json

import cv2
import numpy as np
import pytest
import synthetic_bop
from synthetic_bop import BOX, CAN, POSES, WALL

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import BopDataset, ImageId, detections_of
from flowpose_ros.evaluation.targets import Target, images_of, read_targets, targets_from_ground_truth, with_objects

FIRST, SECOND = ImageId(2, 0), ImageId(2, 4)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_images_poses_and_depth_are_in_metres(bop_root):
    dataset = BopDataset(bop_root)
    assert dataset.images == (FIRST, SECOND)
    frame = dataset.frame(FIRST)
    assert frame.image.shape == (240, 320, 3)
    assert frame.depth.max() == pytest.approx(WALL, abs=1e-4)
    for truth, (obj_id, T) in zip(dataset.ground_truth(FIRST), POSES[0]):
        assert (truth.obj_id, truth.label) == (obj_id, f"obj_{obj_id:06d}")
        np.testing.assert_allclose(truth.T_cam_obj, T, atol=1e-9)
    assert dataset.frame(FIRST, with_depth=False).depth is None


def test_boxes_from_info_masks_and_rendering_agree(tmp_path):
    roots = [synthetic_bop.write_dataset(tmp_path / name, info=info, masks=masks)
             for name, info, masks in (("info", True, False), ("mask", False, True), ("bare", False, False))]
    boxes = [[truth.box for image_id in (FIRST, SECOND) for truth in BopDataset(root).ground_truth(image_id)]
             for root in roots]
    np.testing.assert_array_equal(boxes[1], boxes[0])
    np.testing.assert_array_equal(boxes[2], boxes[0])


def test_samples_carry_truth_boxes_as_detections(bop_root):
    samples = list(BopDataset(bop_root).samples())
    assert [sample.image_id for sample in samples] == [FIRST, SECOND]
    assert [d.label for d in samples[0].detections] == ["obj_000003", "obj_000007"]
    assert [d.instance for d in samples[1].detections] == [0, 1]


def test_hardly_visible_instances_are_no_detections_and_no_targets(bop_root):
    edit(bop_root / "test/000002/scene_gt_info.json", lambda info: info["0"][1].update(visib_fract=0.05))
    dataset = BopDataset(bop_root)
    assert [d.label for d in detections_of(dataset.ground_truth(FIRST))] == ["obj_000003"]
    assert targets_from_ground_truth(dataset) == (Target(FIRST, BOX, 1), Target(SECOND, BOX, 2))


def test_rounded_rotation_is_made_exact(bop_root):
    def round_off(content):
        content["4"][0]["cam_R_m2c"] = [round(v, 3) for v in content["4"][0]["cam_R_m2c"]]
    edit(bop_root / "test/000002/scene_gt.json", round_off)
    R = BopDataset(bop_root).ground_truth(SECOND)[0].T_cam_obj[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(R, POSES[4][0][1][:3, :3], atol=1e-3)


def test_grey_and_tiff_images_are_read(bop_root):
    scene = bop_root / "test/000002"
    grey = cv2.imread(str(scene / "rgb/000000.png"), cv2.IMREAD_GRAYSCALE)
    (scene / "gray").mkdir()
    (scene / "rgb/000000.png").unlink()
    cv2.imwrite(str(scene / "gray/000000.tif"), grey)
    depth = cv2.imread(str(scene / "depth/000000.png"), cv2.IMREAD_UNCHANGED)
    (scene / "depth/000000.png").unlink()
    cv2.imwrite(str(scene / "depth/000000.tif"), depth.astype(np.float32))
    frame = BopDataset(bop_root).frame(FIRST)
    np.testing.assert_array_equal(frame.image, np.repeat(grey[..., None], 3, 2))
    assert frame.depth.max() == pytest.approx(WALL, abs=1e-4)


def test_dataset_without_truth_still_streams_images(bop_root):
    (bop_root / "test/000002/scene_gt.json").unlink()
    dataset = BopDataset(bop_root)
    assert not dataset.has_ground_truth
    assert [sample.ground_truth for sample in dataset.samples()] == [(), ()]


@pytest.mark.parametrize("name, change, message", [
    ("scene_camera.json", lambda c: c["0"].pop("cam_K"), r"image 0: cam_K: expected 9 finite numbers, got None"),
    ("scene_camera.json", lambda c: c["0"].update(cam_K=[1, "x"] + [0] * 7), r"cam_K: expected 9 finite numbers"),
    ("scene_camera.json", lambda c: c.update(oops={}), r"expected image numbers as keys, got 'oops'"),
    ("scene_gt.json", lambda c: c["0"][0].update(obj_id="3"), r"image 0: obj_id: expected an integer, got '3'"),
    ("scene_gt.json", lambda c: c["0"][0].update(cam_R_m2c=[1, 0, 0] * 3), r"cam_R_m2c: expected a rotation"),
    ("scene_gt.json", lambda c: c["0"][0].update(cam_t_m2c=[0, 0, float("nan")]), r"cam_t_m2c: expected 3 finite"),
    ("scene_gt_info.json", lambda c: c["0"].pop(), r"image 0: expected 2 entries as in scene_gt.json, got 1"),
])
def test_broken_entries_are_named(bop_root, name, change, message):
    edit(bop_root / "test/000002" / name, change)
    with pytest.raises(DatasetError, match=name.replace(".", r"\.") + ".*" + message):
        next(BopDataset(bop_root).samples())


def test_broken_files_are_named(bop_root):
    scene = bop_root / "test/000002"
    (scene / "rgb/000000.png").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match="000000.png: expected a readable image, got 13 bytes"):
        BopDataset(bop_root).frame(FIRST)
    (scene / "rgb/000000.png").unlink()
    with pytest.raises(DatasetError, match="image 0: expected it in rgb/ or gray/, got none"):
        BopDataset(bop_root).frame(FIRST)
    (scene / "scene_gt.json").write_text("{")
    with pytest.raises(DatasetError, match="scene_gt.json: expected JSON"):
        BopDataset(bop_root).ground_truth(FIRST)


def test_unknown_places_are_named(bop_root):
    with pytest.raises(DatasetError, match="val: expected scene folders"):
        BopDataset(bop_root, "val")
    with pytest.raises(DatasetError, match=r"one of the scenes \[2\], got 9"):
        BopDataset(bop_root).frame(ImageId(9, 0))
    with pytest.raises(DatasetError, match="image 7: expected an entry, got none"):
        BopDataset(bop_root).ground_truth(ImageId(2, 7))


def test_targets_file(tmp_path):
    path = tmp_path / "test_targets_bop19.json"
    path.write_text(json.dumps([{"scene_id": 2, "im_id": 4, "obj_id": CAN, "inst_count": 1},
                                {"scene_id": 2, "im_id": 0, "obj_id": BOX, "inst_count": 2}]))
    targets = read_targets(path)
    assert targets == (Target(SECOND, CAN, 1), Target(FIRST, BOX, 2))
    assert images_of(targets) == (FIRST, SECOND)


def test_a_targets_file_for_detection_names_images_alone(bop_root, tmp_path):
    path = tmp_path / "test_targets_bop24.json"
    path.write_text(json.dumps([{"scene_id": 2, "im_id": 4}]))
    assert read_targets(path) == (Target(SECOND, None, 0),)
    assert with_objects((Target(SECOND, None, 0), Target(FIRST, CAN, 1)), BopDataset(bop_root)) == (
        Target(FIRST, CAN, 1), Target(SECOND, BOX, 2))


@pytest.mark.parametrize("text, message", [
    ('[{"scene_id": 1, "im_id": 2, "inst_count": 1}]', "entry 0: obj_id: expected an integer, got None"),
    ("[]", "expected at least one target"), ("{}", "expected a JSON list, got dict"),
    ('[{"scene_id": 1}]', "entry 0: im_id: expected an integer, got None"), ("[3]", "entry 0: scene_id"),
    ('[{"scene_id": 1, "im_id": 2, "obj_id": 3, "inst_count": 0}]', "entry 0: inst_count: expected at least 1, got 0")])
def test_broken_targets_are_named(tmp_path, text, message):
    path = tmp_path / "targets.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_targets(path)


@pytest.mark.parametrize("name, images, instances", [("ycbv", 12, 40), ("lmo", 1, 8)])
def test_real_images_load(data_root, name, images, instances):
    root = data_root / "real_dev" / name
    if not root.is_dir():
        pytest.skip(f"no real images at {root}")
    samples = list(BopDataset(root).samples())
    assert (len(samples), sum(len(sample.ground_truth) for sample in samples)) == (images, instances)
    for sample in samples:
        assert 0.3 < np.median(sample.frame.depth[sample.frame.depth > 0]) < 3
        for truth in sample.ground_truth:
            K, t = sample.frame.K, truth.T_cam_obj[:3, 3]
            u, v = (K @ t)[:2] / t[2]
            left, top, right, bottom = truth.box
            assert left - 40 < u < right + 40 and top - 40 < v < bottom + 40
