"""Detections from messages: each unusable one is left out and counted, the rest is used."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("vision_msgs", reason="ROS messages are not installed: `make setup` installs them")

from cv_bridge import CvBridge
from vision_msgs.msg import Detection2DArray

from flowpose_ros.nodes.messages.camera import Calibration
from flowpose_ros.nodes.messages.detections import detections_in
from flowpose_ros.nodes.messages.frames import detections_message, header_at, masks_message
from flowpose_ros.nodes.messages.images import label_image
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.records import Detection
from flowpose_ros.runtime.drop_log import DropLog

CAMERA = Calibration(320, 240, np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]]))
DISTORTED = Calibration(320, 240, CAMERA.K, "plumb_bob", np.array([-0.3, 0.1, 0, 0, 0]))
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def catalogue(scene):
    return Catalogue.load(scene / "models")


def detection(box=(10, 20, 50, 80), label="obj_000001", score=0.9, instance=None):
    return Detection(label, np.array(box, float), score, instance=instance)


def read(catalogue, *detections, limit=10, camera=CAMERA):
    drops = DropLog()
    message = detections_message(header_at(1, "camera"), detections)
    return detections_in(message, catalogue, camera, limit, drops), drops.counts()


def test_what_is_sent_is_what_is_read(catalogue):
    (found,), drops = read(catalogue, detection(instance=7))
    assert (found.label, found.score, found.instance, drops) == ("obj_000001", 0.9, 7, {})
    np.testing.assert_allclose(found.box, [10, 20, 50, 80])


def test_masks_come_from_the_label_image_by_the_detections_order(catalogue):
    sent = [detection(), detection(label="mug"), detection((60, 20, 90, 80)), detection((100, 20, 140, 80))]
    masks = [np.zeros((240, 320), bool) for _ in sent]
    masks[0][30:60, 20:40] = masks[2][30:60, 70:80] = True
    sent = [replace(d, mask=mask) for d, mask in zip(sent, masks)]
    labels = label_image(masks_message(header_at(1, "camera"), sent, (240, 320)), CvBridge())
    drops = DropLog()
    message = detections_message(header_at(1, "camera"), sent)
    found = detections_in(message, catalogue, CAMERA, 10, drops, labels)
    assert [d.mask is None for d in found] == [False, False, True]
    np.testing.assert_array_equal(found[0].mask, masks[0])
    np.testing.assert_array_equal(found[1].mask, masks[2])
    assert drops.counts() == {"unknown_class": 1, "empty_mask": 1}


def test_a_decimal_id_names_its_object(catalogue):
    (found,), _ = read(catalogue, detection(label="2"))
    assert found.label == "obj_000002"


@pytest.mark.parametrize("bad, reason", [
    ({"label": "mug"}, "unknown_class"),
    ({"label": ""}, "unknown_class"),
    ({"box": (NAN, 0, 10, 10)}, "not_finite"),
    ({"box": (0, 0, INF, 10)}, "not_finite"),
    ({"score": NAN}, "not_finite"),
    ({"box": (400, 0, 500, 50)}, "outside_image"),
    ({"box": (50, 50, 50, 90)}, "outside_image"),
    ({"box": (60, 50, 40, 90)}, "outside_image"),
    ({"box": (1e300, 0, 1.5e300, 50)}, "outside_image"),
])
def test_an_unusable_detection_is_counted_and_the_next_is_used(catalogue, bad, reason):
    found, drops = read(catalogue, detection(**bad), detection())
    assert len(found) == 1
    assert drops == {reason: 1}


def test_a_detection_without_results_is_counted(catalogue):
    message = detections_message(header_at(1, "camera"), [detection(), detection()])
    message.detections[0].results = []
    drops = DropLog()
    assert len(detections_in(message, catalogue, CAMERA, 10, drops)) == 1
    assert drops.counts() == {"no_class": 1}


def test_boxes_are_clipped_to_the_image(catalogue):
    (found,), drops = read(catalogue, detection(box=(-30, -40, 50, 1000)))
    assert found.box.tolist() == [-0.5, -0.5, 50, 239.5]
    assert drops == {"clipped": 1}


def test_of_many_the_best_are_used_in_their_order(catalogue):
    many = [detection(score=n / 10_000) for n in range(10_000)]
    found, drops = read(catalogue, *many, limit=3)
    assert [d.score for d in found] == [0.9997, 0.9998, 0.9999]
    assert drops == {"over_limit": 9997}


def test_scores_are_clipped(catalogue):
    found, _ = read(catalogue, detection(score=7.0), detection(score=-1.0))
    assert [d.score for d in found] == [1.0, 0.0]


@pytest.mark.parametrize("identifier, instance", [
    ("12", 12), ("0", 0), ("", None), ("mug-3", None), ("-4", None), ("²", None), ("9" * 5000, None)])
def test_only_numbers_are_instances(catalogue, identifier, instance):
    message = detections_message(header_at(1, "camera"), [detection()])
    message.detections[0].id = identifier
    (found,) = detections_in(message, catalogue, CAMERA, 10, DropLog())
    assert found.instance == instance


numbers = st.one_of(st.floats(-1e4, 1e4), st.floats())


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers, numbers), max_size=5), st.booleans())
def test_any_detection_is_used_or_counted(catalogue, fuzz, distorted):
    message = Detection2DArray()
    for x, y, width, height, score in fuzz:
        one = detections_message(header_at(1, "camera"), [detection(score=score)]).detections[0]
        one.bbox.center.position.x, one.bbox.center.position.y = x, y
        one.bbox.size_x, one.bbox.size_y = width, height
        message.detections.append(one)
    drops = DropLog()
    found = detections_in(message, catalogue, DISTORTED if distorted else CAMERA, 10, drops)
    left_out = sum(count for reason, count in drops.counts().items() if reason != "clipped")
    assert len(found) + left_out == len(fuzz)
    for one in found:
        left, top, right, bottom = one.box
        assert -0.5 <= left < right <= 319.5 and -0.5 <= top < bottom <= 239.5
        assert 0 <= one.score <= 1
