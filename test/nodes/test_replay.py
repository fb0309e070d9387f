"""Bags through the real node and back into bags."""

import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: `make setup` installs it")
pytest.importorskip("rosbags", reason="rosbags is not installed: `make setup` installs it")

from geometry_msgs.msg import TransformStamped
from nodes.bags import write_bag
from nodes.scene import QUICK
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import StoragePlugin
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

from flowpose_ros.cli.main import main
from flowpose_ros.errors import BagError
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.nodes.bags import BagReader, BagWriter, Recorded
from flowpose_ros.nodes.messages.frames import header_at, stamp_ns
from flowpose_ros.nodes.messages.poses import transform_matrix
from flowpose_ros.nodes.replay_node import is_answer


def read_all(path):
    reader = BagReader(path)
    try:
        return [(m.connection.topic, m.time_ns, m.data) for m in reader.messages()]
    finally:
        reader.close()


@pytest.mark.parametrize("plugin", StoragePlugin, ids=lambda plugin: plugin.name)
def test_a_bag_is_copied_byte_for_byte_and_gains_topics(plugin, scene, tmp_path):
    write_bag(tmp_path / "in", scene, plugin)
    source = BagReader(tmp_path / "in")
    with BagWriter(tmp_path / "out", source, {"/poses": Detection3DArray, "/tf": TFMessage}) as writer:
        for message in source.messages():
            writer.copy(message)
        writer.add("/poses", 7, b"\x00\x01\x00\x00poses")
    source.close()
    assert sorted(read_all(tmp_path / "out")) == sorted(
        read_all(tmp_path / "in") + [("/poses", 7, b"\x00\x01\x00\x00poses")])
    written = BagReader(tmp_path / "out")
    assert written.topics["/poses"] == "vision_msgs/msg/Detection3DArray"
    written.close()
    assert bool(list((tmp_path / "out").glob("*.mcap"))) == (plugin is StoragePlugin.MCAP)


@pytest.mark.parametrize("plugin", StoragePlugin, ids=lambda plugin: plugin.name)
def test_replay_adds_poses_and_transforms(plugin, scene, tmp_path, ros_env, capfd):
    stamps = write_bag(tmp_path / "clip", scene, plugin)
    quick = [word for name, value in QUICK.items() for word in ("--" + name.replace(".", "-"), str(value))]
    command = ["replay", str(tmp_path / "clip"), "--objects", str(scene / "models"), *quick]
    assert main(command) == 0, capfd.readouterr().err
    assert "3 of 3 frames answered, 6 poses" in capfd.readouterr().out
    results = [(topic, data) for topic, _, data in read_all(tmp_path / "clip_poses")]
    poses = [deserialize_message(data, Detection3DArray) for topic, data in results if topic == "/flowpose/poses"]
    assert [p.header.stamp.sec * 10**9 + p.header.stamp.nanosec for p in poses] == stamps
    transforms = [t for topic, data in results if topic == "/tf" for t in deserialize_message(data, TFMessage).transforms]
    assert len(transforms) == 6
    for message, sample in zip(poses, BopDataset(scene).samples()):
        for detection, truth in zip(message.detections, sample.ground_truth):
            found = transform_matrix(detection.results[0].pose.pose)
            assert np.linalg.norm(found[:3, 3] - truth.T_cam_obj[:3, 3]) < 0.06


def quick_replay(scene, *arguments):
    quick = [word for name, value in QUICK.items() for word in ("--" + name.replace(".", "-"), str(value))]
    return main(["replay", *map(str, arguments), "--objects", str(scene / "models"), *quick])


def test_answers_of_a_run_before_are_left_out_and_other_transforms_kept(scene, tmp_path, ros_env, capfd):
    write_bag(tmp_path / "clip", scene)
    assert quick_replay(scene, tmp_path / "clip") == 0
    assert quick_replay(scene, tmp_path / "clip_poses", "--output", tmp_path / "again") == 0
    topics = [topic for topic, *_ in read_all(tmp_path / "again")]
    assert (topics.count("/flowpose/poses"), topics.count("/tf")) == (3, 3)
    arm, own = (TFMessage(transforms=[TransformStamped(child_frame_id=name)]) for name in ("gripper", "left/obj_000001_0"))
    connection = SimpleNamespace(topic="/tf")
    assert [is_answer(Recorded(connection, 0, serialize_message(message)), {"obj_000001_0"}) for message in (arm, own)] == [
        False, True]


def test_compressed_images_are_listened_to(scene, tmp_path, ros_env, capfd):
    write_bag(tmp_path / "clip", scene, compressed=True)
    assert quick_replay(scene, tmp_path / "clip", "--image-topic", "/image/compressed") == 0
    assert "3 of 3 frames answered, 6 poses" in capfd.readouterr().out


def test_a_replay_without_a_pose_says_why(scene, tmp_path, ros_env, capfd):
    write_bag(tmp_path / "clip", scene)
    assert quick_replay(scene, tmp_path / "clip", "--labels", "obj_000001", "--detections-topic", "/detections",
                        "--score-threshold", "1.0") == 1
    told = capfd.readouterr()
    assert "3 of 3 frames answered, 0 poses" in told.out
    assert "low_score: " in told.err and "unknown_class: " in told.err and "estimator.txt" in told.err


def test_detections_of_other_stamps_are_said_and_found_with_more_slop(scene, tmp_path, ros_env, capfd):
    def late(topic, message):
        if topic == "/detections":
            message.header = header_at(stamp_ns(message) + 30_000_000, "camera_optical")

    write_bag(tmp_path / "clip", scene, edit=late)
    assert quick_replay(scene, tmp_path / "clip", "--output", tmp_path / "none") == 1
    told = capfd.readouterr()
    assert "0 of 0 frames answered" in told.out
    assert "no_detections: 3 left out" in told.err and "0.015 s apart at most (slop_s)" in told.err
    assert quick_replay(scene, tmp_path / "clip", "--slop-s", "0.04") == 0
    assert "3 of 3 frames answered, 6 poses" in capfd.readouterr().out


def test_frames_that_the_node_refuses_are_not_waited_for(scene, tmp_path, ros_env, capfd):
    def change(topic, message):
        if topic == "/image":
            message.encoding = "rgb16"

    write_bag(tmp_path / "clip", scene, edit=change)
    begin = time.monotonic()
    assert quick_replay(scene, tmp_path / "clip", "--answer-timeout-s", "600") == 1
    told = capfd.readouterr()
    assert "0 of 3 frames answered, 0 poses" in told.out and "frame_unusable: " in told.err
    assert time.monotonic() - begin < 300


def test_what_failed_before_any_answer_leaves_no_bag(scene, tmp_path, ros_env, capfd):
    write_bag(tmp_path / "clip", scene)
    assert main(["replay", str(tmp_path / "clip"), "--objects", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "clip_poses").exists()


def fails_with(arguments, capfd):
    """The one line of an unusable replay."""
    assert main(["replay", *map(str, arguments)]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_missing_topic_is_named_and_those_in_the_bag_listed(scene, tmp_path, ros_env, capfd):
    write_bag(tmp_path / "clip", scene, skip="/detections")
    line = fails_with([tmp_path / "clip", "--objects", scene / "models"], capfd)
    assert "expected Detection2DArray on /detections" in line and "/image (sensor_msgs/msg/Image)" in line


def test_a_topic_of_another_type_is_named(scene, tmp_path, ros_env, capfd):
    write_bag(tmp_path / "clip", scene)
    line = fails_with([tmp_path / "clip", "--objects", scene / "models", "--camera-info-topic", "/image"], capfd)
    assert "expected CameraInfo on /image" in line and "sensor_msgs/msg/Image" in line


def test_no_bag_at_all(scene, tmp_path, ros_env, capfd):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "empty", scene / "models" / "models_info.json"):
        assert str(path) in fails_with([path, "--objects", scene / "models"], capfd)


def test_the_output_is_not_overwritten(scene, tmp_path, capfd):
    write_bag(tmp_path / "clip", scene)
    (tmp_path / "clip_poses").mkdir()
    assert "expected a new folder" in fails_with([tmp_path / "clip", "--objects", scene / "models"], capfd)


@pytest.mark.parametrize("plugin", StoragePlugin, ids=lambda plugin: plugin.name)
def test_a_truncated_bag_is_an_error_wherever_it_ends(plugin, scene, tmp_path):
    write_bag(tmp_path / "whole", scene, plugin)
    for share in (0.0, 0.1, 0.5, 0.9):
        cut = tmp_path / f"cut_{share}"
        shutil.copytree(tmp_path / "whole", cut)
        (storage,) = [*cut.glob("*.db3"), *cut.glob("*.mcap")]
        content = storage.read_bytes()
        storage.write_bytes(content[:int(len(content) * share)])
        with pytest.raises(BagError, match=f"cut_{share}"):
            read_all(cut)
