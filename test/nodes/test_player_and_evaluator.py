"""A scene played through the estimator and scored from TF: three processes over DDS."""

import json
import shutil

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: `make setup` installs it")

from nodes.scene import QUICK

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import ImageId
from flowpose_ros.evaluation.results import read_results
from flowpose_ros.nodes.bop_stream import BopStream, StreamOptions

POSES = ("-r", "poses:=/flowpose/poses")


def flags(**parameters):
    return [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]


def detections_file(path, boxes):
    path.write_text(json.dumps([
        {"scene_id": 0, "image_id": image, "category_id": obj_id, "bbox": box, "score": score}
        for image, obj_id, box, score in boxes]))
    return path


@pytest.mark.parametrize("mode, introduce, masks", [("detect", "false", "true"), ("track", "true", "false")])
def test_every_image_is_answered_and_scored(start_node, scene, tmp_path, mode, introduce, masks):
    scores = tmp_path / "out" / "scores.json"
    start_node("estimator_node", "--ros-args", *flags(objects=scene / "models", mode=mode, **QUICK))
    evaluator = start_node("evaluator_node", "--ros-args", *flags(dataset=scene, output=scores), *POSES)
    player = start_node("bop_player_node", "--ros-args",
                        *flags(dataset=scene, lockstep="true", introduce=introduce, masks=masks), *POSES)
    assert evaluator.wait(120) == 0, evaluator.output
    assert player.wait(10) == 0, player.output
    content = json.loads(scores.read_text())
    assert (content["images"], content["answered"], content["poses_without_transform"]) == (3, 3, 0)
    by_label = {row["object"]: row for row in content["objects"]}
    assert by_label["all"]["targets"] == 6
    assert by_label["all"]["ADD-S<0.1d"] == 1.0, evaluator.output
    assert len(read_results(scores.with_suffix(".csv"))) == 6
    assert "obj_000001" in evaluator.output and "image to poses" in evaluator.output


def test_an_answer_without_a_known_object_is_counted_and_does_no_harm(start_node, scene, client, wait_until, tmp_path):
    from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

    from flowpose_ros.nodes.messages.frames import header_at

    unknown = ObjectHypothesisWithPose()
    unknown.hypothesis.class_id = "teapot"
    stream = BopStream(StreamOptions(dataset=str(scene)))
    scores = tmp_path / "scores.json"
    evaluator = start_node("evaluator_node", "--ros-args", *flags(dataset=scene, output=scores), *POSES)
    publisher = client.create_publisher(Detection3DArray, "/flowpose/poses", 10)
    wait_until(publisher.get_subscription_count, "connection", evaluator)
    for index in range(len(stream)):
        header = header_at(stream.stamp_ns(index), "camera")
        publisher.publish(Detection3DArray(header=header, detections=[
            Detection3D(header=header), Detection3D(header=header, results=[unknown])]))
    assert evaluator.wait(60) == 0, evaluator.output
    content = json.loads(scores.read_text())
    assert (content["answered"], content["poses_of_unknown_objects"], content["poses_without_transform"]) == (3, 6, 0)


def test_detections_may_come_from_a_file(start_node, scene, client, wait_until, tmp_path):
    from vision_msgs.msg import Detection2DArray

    path = detections_file(tmp_path / "boxes.json", [(0, 2, [10, 20, 30, 40], 0.6), (2, 1, [5, 5, 50, 50], 0.9)])
    heard = []
    client.create_subscription(Detection2DArray, "detections", heard.append, 10)
    player = start_node("bop_player_node", "--ros-args", *flags(
        dataset=scene, detections=path, subscribers=0, rate=5.0, loop="true"))
    wait_until(lambda: len(heard) >= 6, "second round", player)
    by_stamp = {m.header.stamp.sec * 10**9 + m.header.stamp.nanosec: m.detections for m in heard}
    stream = BopStream(StreamOptions(dataset=str(scene), rate=5.0))
    seen = {stream.image_at(stamp): [(d.results[0].hypothesis.class_id, d.bbox.center.position.x, d.bbox.size_y)
                                     for d in detections] for stamp, detections in by_stamp.items()}
    assert seen == {ImageId(0, 0): [("obj_000002", 25.0, 40.0)], ImageId(0, 1): [],
                    ImageId(0, 2): [("obj_000001", 30.0, 50.0)]}


def test_masks_that_are_not_there_are_named(start_node, scene, tmp_path):
    copy = shutil.copytree(scene, tmp_path / "scene")
    shutil.rmtree(copy / "test" / "000000" / "mask_visib")
    player = start_node("bop_player_node", "--ros-args", *flags(dataset=copy, masks="true", subscribers=0))
    assert player.wait(30) == 2
    assert "image 000000/000000: expected a mask of each instance in mask_visib/" in player.output


@pytest.mark.parametrize("node", ["bop_player_node", "evaluator_node"])
def test_an_unusable_dataset_is_named_in_one_line(start_node, node):
    process = start_node(node, "--ros-args", *flags(dataset="/no/such/folder"))
    assert process.wait(60) == 2
    assert "/no/such/folder/test: expected scene folders" in process.output and "Traceback" not in process.output


def test_stamps_and_images_belong_together(scene):
    stream = BopStream(StreamOptions(dataset=str(scene), rate=30.0, limit=2))
    assert len(stream) == 2
    assert [stream.image_at(stream.stamp_ns(i)).im_id for i in range(5)] == [0, 1, 0, 1, 0]
    assert stream.image_at(stream.stamp_ns(1) + 1) is None
    assert stream.image_at(0) is None


def test_a_stream_without_images_is_refused(scene):
    with pytest.raises(DatasetError, match=r"expected scene 9, got \[0\]"):
        BopStream(StreamOptions(dataset=str(scene), scene=9))
    with pytest.raises(DatasetError, match="empty parameter"):
        BopStream(StreamOptions())
