"""10 000 broken messages to the node as a process: none stops it, each image is counted, the next good frame works."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: `make setup` installs it")

from nodes.camera import FRAME_ID, Camera
from nodes.conftest import all_accounted_for
from nodes.faults import FAULTS, spoil

from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.records import Detection, Frame

MESSAGES = 10_000
SECOND = 1_000_000_000
SIZE = (24, 32)


def small_frame(stamp_ns):
    """A frame that is quick to send."""
    K = np.array([[30.0, 0, 15.5], [0, 30.0, 11.5], [0, 0, 1]])
    return Frame(np.full((*SIZE, 3), 99, np.uint8), K, np.ones(SIZE, np.float32), stamp_ns, FRAME_ID)


@pytest.mark.timeout(300)
def test_ten_thousand_broken_messages_are_counted_and_the_next_good_frame_works(start_node, scene, client, counts,
                                                                                  wait_until):
    rng = np.random.default_rng(0)
    camera = Camera(client, scene)
    camera.publish_masks((240, 320))
    node = start_node("estimator_node", "--ros-args", "-p", f"objects:={scene / 'models'}", "-p", "patience_s:=0.0")
    camera.ask(0, SECOND, wait_until, node)
    detection = Detection(BopDataset(scene).catalogue.labels[0], np.array([4.0, 4, 20, 20]), mask=np.ones(SIZE, bool))
    camera.publish_masks(SIZE)
    seen, stamp = set(), 2 * SECOND
    while int(counts["images_received"]) < MESSAGES / len(FAULTS):  # a best-effort listener may lose what comes too fast
        stamp += SECOND // 1000
        messages = camera.messages(small_frame(stamp), [detection], stamp)
        seen |= {(topic, spoil(message, FAULTS[topic], rng)) for topic, message in messages.items()}
        camera.publish(messages)
        time.sleep(0.003)
        assert node.process.poll() is None, node.output
    assert seen == {(topic, name) for topic, table in FAULTS.items() for name in table}
    camera.publish_masks((240, 320))
    answer = camera.ask(1, 1000 * SECOND, wait_until, node)
    assert len(answer.detections) == 2
    wait_until(lambda: all_accounted_for(counts), "an account of every image", node)
    assert {"dropped_frame_unusable", "dropped_replaced_by_newer"} <= set(counts)
    assert "Traceback" not in node.output
