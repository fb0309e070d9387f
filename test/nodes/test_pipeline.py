"""From one bundle of messages to what is published, with the real estimator of a small scene."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: `make setup` installs it")

from nodes.scene import QUICK, SIZE

from flowpose_ros.errors import FrameError
from flowpose_ros.estimation.coarse_flow_vote import FlowVoteOptions
from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.estimation.estimator_options import EstimatorOptions
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.nodes.messages.frames import frame_messages, header_at
from flowpose_ros.nodes.pipeline import FramePipeline
from flowpose_ros.records import Dropped, FrameResult
from flowpose_ros.runtime.drop_log import DropLog
from flowpose_ros.runtime.frame_assembler import Bundle
from flowpose_ros.runtime.node_options import NodeOptions

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def dataset(scene):
    return BopDataset(scene)


@pytest.fixture
def pipeline(dataset):
    return make(dataset)


def make(dataset, **options):
    quick = EstimatorOptions(coarse=QUICK["coarse"], vote=FlowVoteOptions(flowed=QUICK["vote.flowed"]),
                             **{name: QUICK[name] for name in ("hypotheses", "turned", "updated")})
    return FramePipeline(dataset.catalogue, Estimator(dataset.catalogue, quick), NodeOptions(**options), DropLog())


def bundle(dataset, index=0, at_s=1, frame_id="camera", epoch=0, change=lambda frame: frame, masks=None):
    sample = list(dataset.samples())[index]
    messages = frame_messages(header_at(int(at_s * SECOND), frame_id), change(sample.frame), sample.detections, masks)
    return Bundle(int(at_s * SECOND), messages["image"], messages["camera_info"], messages["detections"],
                  messages.get("depth"), messages.get("masks"), epoch)


def answered_by(monkeypatch, change):
    """Let every estimate be another one."""
    estimate = Estimator.estimate

    def changed(self, frame, detections):
        result = estimate(self, frame, detections)
        return replace(result, estimates=tuple(map(change, result.estimates)))

    monkeypatch.setattr(Estimator, "estimate", changed)


def test_a_pose_that_is_none_is_counted_and_not_handed_on(dataset, pipeline, monkeypatch):
    answered_by(monkeypatch, lambda e: replace(e, T_cam_obj=np.full((4, 4), np.nan)) if e.instance == 0 else e)
    assert [e.instance for e in pipeline.process(bundle(dataset)).estimates] == [1]
    assert pipeline.drops.counts() == {"not_publishable": 1}


def test_the_covariance_of_an_estimate_is_handed_on(dataset, pipeline):
    for estimate in pipeline.process(bundle(dataset)).estimates:
        assert (np.linalg.eigvalsh(estimate.covariance) > 0).all()


def test_after_a_jump_back_instances_are_numbered_anew_and_nothing_is_followed(dataset):
    pipeline = make(dataset, mode="track")
    pipeline.process(bundle(dataset))
    pipeline.absorb(bundle(dataset))
    assert len(pipeline.tracker.tracks) == 2
    assert pipeline.process(bundle(dataset, at_s=0.5, epoch=1)).estimates == ()
    assert pipeline.tracker.tracks == ()
    # Detections of before the jump begin nothing.
    pipeline.absorb(bundle(dataset, at_s=2))
    assert pipeline.tracker.tracks == ()


def test_depth_without_a_valid_pixel_is_counted_and_the_frame_goes_on_without(dataset, pipeline):
    answer = pipeline.process(bundle(dataset, change=lambda frame: replace(frame, depth=np.zeros_like(frame.depth))))
    assert len(answer.estimates) == 2 and answer.frame.depth is None
    assert pipeline.drops.counts() == {"depth_all_invalid": 1}


def test_in_track_mode_masks_that_are_needed_and_unusable_are_counted(dataset):
    wrong = bundle(dataset, masks=(SIZE[0] // 2, SIZE[1] // 2))
    pipeline = make(dataset, mode="track", masks="on")
    pipeline.process(wrong)
    assert not pipeline.absorb(wrong) and not pipeline.tracker.tracks
    assert pipeline.drops.counts() == {"masks_unusable": 1}
    with pytest.raises(FrameError, match="masks: expected the image's size"):
        make(dataset, masks="on").process(wrong)


def test_an_image_of_no_frame_is_answered_and_counted(dataset, pipeline):
    assert pipeline.process(bundle(dataset, frame_id="")).estimates
    assert pipeline.drops.counts() == {"no_frame_id": 1}


def test_memory_that_does_not_suffice_is_told(dataset, monkeypatch):
    def short(self, frame, detections):
        return FrameResult((), tuple(Dropped(d, "out_of_memory", "no room") for d in detections))

    monkeypatch.setattr(Estimator, "estimate", short)
    assert make(dataset).process(bundle(dataset)).memory_short
    followed = make(dataset, mode="track")
    assert not followed.process(bundle(dataset)).memory_short and followed.absorb(bundle(dataset))
