"""Whatever stages are chosen: the demo clip's objects are found, and doubt brings in the second stage."""

from pathlib import Path

import pytest
import torch

from flowpose_ros.estimation.estimator import COARSE, REFINERS, Estimator, EstimatorOptions
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.evaluation.metrics import mssd

DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.fixture(scope="module")
def dataset():
    return BopDataset(DEMO)


@pytest.fixture(scope="module")
def sample(dataset):
    return next(iter(dataset.samples()))


def error(dataset, sample, estimate):
    """MSSD of an estimate, a share of the diameter."""
    (truth,) = (t for t in sample.ground_truth if t.label == estimate.label)
    model = dataset.catalogue[estimate.label]
    return mssd(estimate.T_cam_obj, truth.T_cam_obj, model.mesh.surface_points(500),
                model.symmetries.transforms(0.1)) / model.mesh.diameter


@pytest.mark.parametrize("depth", ["on", "off"])
@pytest.mark.parametrize("refiner", [name for name in REFINERS if name != "auto"])
@pytest.mark.parametrize("coarse", [name for name in COARSE if name != "auto"])
def test_every_combination_finds_an_object(dataset, sample, coarse, refiner, depth):
    options = EstimatorOptions(coarse=coarse, refiner=refiner, depth=depth, hypotheses=2, turned=0, updated=1)
    estimator = Estimator(dataset.catalogue, options)
    (estimate,) = estimator.estimate(sample.frame, sample.detections[:1]).estimates
    assert error(dataset, sample, estimate) < 0.1


@pytest.mark.parametrize("sure, laps", [(0.0, 1), (1.0, 2)], ids=["sure", "in doubt"])
def test_auto_asks_the_second_stage_only_in_doubt(dataset, sample, sure, laps, monkeypatch):
    asked = []
    for name in ("_coarse", "_refine"):
        stage = getattr(Estimator, name)
        monkeypatch.setattr(Estimator, name, lambda self, which, *rest, stage=stage: (
            asked.append(which), stage(self, which, *rest))[1])
    options = EstimatorOptions(coarse="auto", refiner="auto", sure=sure)
    estimator = Estimator(dataset.catalogue, options)
    (estimate,) = estimator.estimate(sample.frame, sample.detections[:1]).estimates
    assert asked == [*COARSE["auto"][:laps], *REFINERS["auto"][:laps]]
    assert error(dataset, sample, estimate) < 0.1


def test_where_memory_is_short_smaller_batches_answer_and_where_there_is_none_the_next_frame_works(dataset, sample):
    estimator = Estimator(dataset.catalogue, EstimatorOptions())
    flow, detections = estimator._networks.flow, sample.detections[:1]
    encode, sizes = flow.encode, []
    (whole,) = estimator.estimate(sample.frame, detections).estimates

    def hungry(most):
        def work(rgb):
            sizes.append(len(rgb))
            torch.empty(2**60 if len(rgb) > most else 1, dtype=torch.uint8)
            return encode(rgb)
        return work

    flow.encode = hungry(2)
    (parts,) = estimator.estimate(sample.frame, detections).estimates
    assert max(sizes) > 2
    assert error(dataset, sample, parts) < 0.1 and parts.score == pytest.approx(whole.score, abs=0.05)
    flow.encode = hungry(0)
    result = estimator.estimate(sample.frame, detections)
    assert not result.estimates
    assert [d.reason for d in result.dropped] == ["out_of_memory"] and detections[0].label in result.dropped[0].detail
    flow.encode = encode
    (again,) = estimator.estimate(sample.frame, detections).estimates
    assert (again.T_cam_obj == whole.T_cam_obj).all()
