"""10 000 broken messages to the node as a process: none stops it, each image is counted, the next good frame works."""

import time
from dataclasses import dataclass, field

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: `make setup` installs it")

from diagnostic_msgs.msg import DiagnosticArray
from nodes.camera import FRAME_ID, Camera
from nodes.faults import DEPTH, DETECTIONS, IMAGE, INFO, MASKS, spoil

from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.nodes.messages.frames import (
    camera_info_message,
    depth_message,
    detections_message,
    header_at,
    image_message,
    masks_message,
)
from flowpose_ros.records import Detection, Frame

MESSAGES = 10_000
SECOND = 1_000_000_000
SIZE = (24, 32)


@dataclass
class Counts:
    """The latest diagnostics."""

    values: dict = field(default_factory=dict)

    def take(self, message):
        self.values = {value.key: value.value for value in message.status[0].values}

    def __getitem__(self, key):
        return int(self.values.get(key, 0))


def small_frame(stamp_ns):
    """A frame that is quick to send."""
    K = np.array([[30.0, 0, 15.5], [0, 30.0, 11.5], [0, 0, 1]])
    return Frame(np.full((*SIZE, 3), 99, np.uint8), K, np.ones(SIZE, np.float32), stamp_ns, FRAME_ID)


@pytest.mark.timeout(300)
def test_ten_thousand_broken_messages_are_counted_and_the_next_good_frame_works(start_node, scene, client, wait_until):
    counts, rng = Counts(), np.random.default_rng(0)
    camera = Camera(client, scene)
    camera.publish_masks((240, 320))
    client.create_subscription(DiagnosticArray, "/diagnostics", counts.take, 10)
    node = start_node("estimator_node", "--ros-args", "-p", f"objects:={scene / 'models'}", "-p", "patience_s:=0.0")
    camera.ask(0, SECOND, wait_until, node)
    detection = Detection(BopDataset(scene).catalogue.labels[0], np.array([4.0, 4, 20, 20]), mask=np.ones(SIZE, bool))
    tables = (("info", INFO), ("depth", DEPTH), ("masks", MASKS), ("detections", DETECTIONS), ("image", IMAGE))
    seen, stamp = set(), 2 * SECOND
    while counts["images_received"] < MESSAGES / len(tables):  # a best-effort listener may lose what comes too fast
        stamp += SECOND // 1000
        header, frame = header_at(stamp, FRAME_ID), small_frame(stamp)
        messages = {"info": camera_info_message(header, frame), "depth": depth_message(header, frame.depth),
                    "image": image_message(header, frame.image), "masks": masks_message(header, [detection], SIZE),
                    "detections": detections_message(header, [detection])}
        for topic, table in tables:
            seen.add((topic, spoil(messages[topic], table, rng)))
            getattr(camera, topic).publish(messages[topic])
        time.sleep(0.003)
        assert node.process.poll() is None, node.output
    assert seen == {(topic, name) for topic, table in tables for name in table}
    answer = camera.ask(1, 1000 * SECOND, wait_until, node)
    assert len(answer.detections) == 2
    wait_until(lambda: counts["images_received"] == counts["images_answered"] + counts["images_dropped"],
               "an account of every image", node)
    assert {"dropped_frame_unusable", "dropped_replaced_by_newer"} <= set(counts.values)
    assert "Traceback" not in node.output
