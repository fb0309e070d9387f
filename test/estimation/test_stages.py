"""Whatever stages are chosen: the demo clip's objects are found, and doubt brings in the second stage."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.estimation.estimator_options import COARSE, REFINERS, EstimatorOptions
from flowpose_ros.estimation.search import Search
from flowpose_ros.estimation.judge import judge
from flowpose_ros.estimation.rehearsal import rehearsal, rehearsal_pose
from flowpose_ros.estimation.views import Shape
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.evaluation.metrics import mssd
from flowpose_ros.geometry.symmetry import SymmetryAxis, SymmetryGroup
from flowpose_ros.objects.catalogue import Catalogue, ObjectModel
from flowpose_ros.records import Detection, Frame
from flowpose_ros.rendering.raster import RasterRenderer
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.tracking.tracker import Tracker, TrackerOptions
from training.objects import vertex_coloured
from training.shapes import lathe, rounded_box

DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.fixture(scope="module")
def dataset():
    return BopDataset(DEMO)


@pytest.fixture(scope="module")
def sample(dataset):
    return next(iter(dataset.samples()))


QUICK = EstimatorOptions(hypotheses=2, turned=0, updated=1)


def seen_alone(model, T):
    """An object at T [4,4] before a plain wall, with depth, and its detection."""
    K = np.array([[400.0, 0, 160], [0, 400.0, 120], [0, 0, 1]])
    view = RaycastRenderer().render(model.mesh, torch.from_numpy(T).float()[None], torch.from_numpy(K).float()[None],
                                    (240, 320))
    mask = view.mask[0].numpy()
    image = np.where(mask[..., None], 255 * view.rgb[0].permute(1, 2, 0).numpy(), 200).astype(np.uint8)
    v, u = np.nonzero(mask)
    box = np.array([u.min() - 0.5, v.min() - 0.5, u.max() + 0.5, v.max() + 0.5])
    return (Frame(image, K, np.where(mask, view.depth[0].numpy(), 0.9).astype(np.float32)),
            Detection(model.label, box))


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
    estimator = Estimator(dataset.catalogue, replace(QUICK, coarse=coarse, refiner=refiner, depth=depth))
    (estimate,) = estimator.estimate(sample.frame, sample.detections[:1]).estimates
    assert error(dataset, sample, estimate) < 0.1


@pytest.mark.parametrize("depth", ["auto", "off"])
def test_what_is_rehearsed_is_an_estimate_like_any_other(dataset, depth):
    estimator = Estimator(dataset.catalogue, replace(QUICK, depth=depth))
    model = next(iter(dataset.catalogue))
    shape = Shape.of(model, torch.device("cpu"))
    frame, detection = rehearsal(shape, RaycastRenderer())
    (estimate,) = estimator.estimate(frame, [detection]).estimates
    far = mssd(estimate.T_cam_obj, rehearsal_pose(shape)[0].numpy(), model.mesh.surface_points(500), model.symmetries.transforms(0.1))
    assert far < 0.05 * model.mesh.diameter and estimate.score > 0.5


def test_poses_are_compared_by_the_detections_box(dataset, sample):
    estimator = Estimator(dataset.catalogue, QUICK)
    detection = sample.detections[0]
    smaller = replace(detection, box=detection.box + 0.3 * (detection.box[2] - detection.box[0]) * np.array([0, 0, -1, 0]))
    for each, sides in (detection, 0.0), (smaller, 1.0):
        target, trail = estimator.trail(sample.frame, each)
        look = target.look(torch.from_numpy(sample.ground_truth[0].T_cam_obj).float()[None])
        cost = torch.logit(judge(target, look, QUICK.fit)) - torch.logit(trail.judge(look))
        assert float(cost) == pytest.approx(QUICK.box_weight * sides, abs=0.02)


def test_with_the_rasteriser_of_a_gpu_an_object_is_found_and_followed(dataset, sample, monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWPOSE_CACHE", str(tmp_path))  # templates are of this renderer as well
    monkeypatch.setattr(Estimator, "renderer", lambda self: RasterRenderer(torch.device("cpu")))
    estimator = Estimator(dataset.catalogue, replace(QUICK, templates=26))
    tracker = Tracker(estimator, TrackerOptions())
    tracker.absorb(replace(sample.frame, stamp_ns=1), sample.detections[:1])
    (followed,) = tracker.follow(replace(sample.frame, stamp_ns=10 ** 8)).estimates
    assert error(dataset, sample, followed) < 0.02


@pytest.mark.parametrize("sure, laps", [(0.0, 1), (1.0, 2)], ids=["sure", "in doubt"])
def test_auto_asks_the_second_stage_only_in_doubt(dataset, sample, sure, laps, monkeypatch):
    asked = []
    for name in ("_coarse", "_refine"):
        stage = getattr(Search, name)
        monkeypatch.setattr(Search, name, lambda self, which, *rest, stage=stage: (
            asked.append(which), stage(self, which, *rest))[1])
    options = EstimatorOptions(coarse="auto", refiner="auto", sure=sure)
    estimator = Estimator(dataset.catalogue, options)
    (estimate,) = estimator.estimate(sample.frame, sample.detections[:1]).estimates
    assert asked == [*COARSE["auto"][:laps], *REFINERS["auto"][:laps]]
    assert error(dataset, sample, estimate) < 0.1


def test_a_box_without_the_object_gets_a_low_score_and_no_pose_under_the_threshold(dataset, sample):
    shown = sample.detections[0]
    (width, height), size = sample.frame.image.shape[1::-1], shown.box[2:] - shown.box[:2]
    corners = [np.array([x, y]) for x in (0.0, width - size[0]) for y in (0.0, height - size[1])]
    away = max(corners, key=lambda corner: min(np.linalg.norm(corner + size / 2 - (d.box[:2] + d.box[2:]) / 2)
                                               for d in sample.detections))
    empty = Detection(shown.label, np.concatenate([away, away + size]))
    estimator = Estimator(dataset.catalogue, QUICK)
    true, false = estimator.estimate(sample.frame, [shown, empty]).estimates
    assert false.score < 0.7 < 0.9 < true.score
    estimator.options = replace(QUICK, score_threshold=0.8)
    result = estimator.estimate(sample.frame, [empty])
    assert not result.estimates
    assert [(d.detection, d.reason) for d in result.dropped] == [(empty, "low_score")]


def test_a_sheet_seen_from_its_edge_gets_a_pose():
    shape = rounded_box(np.array([0.12, 0.08, 0.0005]), 5e-5, 300)
    mesh = vertex_coloured(shape, np.random.default_rng(0).random((len(shape.faces), 3, 3)))
    sheet = ObjectModel("sheet", None, mesh, SymmetryGroup.none(), None)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_euler("xz", [88, 40], degrees=True).as_matrix(), (0.02, 0, 0.5)
    frame, detection = seen_alone(sheet, T)
    # No cell of a matched render shows enough of it to be matched.
    estimator = Estimator(Catalogue([sheet]), replace(QUICK, depth="on", templates=26))
    assert len(estimator.estimate(frame, [detection]).estimates) == 1


@pytest.mark.parametrize("depth", ["on", "off"])
def test_what_has_no_texture_and_looks_the_same_all_round_gets_a_pose_that_is_free_about_its_axis(depth):
    shape = lathe(np.array([(0.0, -0.05), (0.035, -0.05), (0.05, 0.02), (0.02, 0.05), (0.0, 0.05)]), 1200)
    mesh = vertex_coloured(shape, np.full((len(shape.faces), 3, 3), 0.5))
    axis = SymmetryAxis(np.array([0.0, 0, 1]), np.zeros(3))
    vase = ObjectModel("vase", None, mesh, SymmetryGroup(np.zeros((0, 4, 4)), (axis,)), None)
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", [115, 20, 0], degrees=True).as_matrix()
    T[:3, 3] = 0.02, -0.01, 0.5
    frame, detection = seen_alone(vase, T)
    estimator = Estimator(Catalogue([vase]), replace(QUICK, depth=depth))
    (estimate,) = estimator.estimate(frame, [detection]).estimates
    found = estimate.T_cam_obj
    assert mssd(found, T, mesh.vertices, vase.symmetries.transforms(0.1)) < 0.1 * mesh.diameter
    along = np.concatenate([np.zeros(3), found[:3, :3] @ axis.direction])
    across = np.concatenate([np.zeros(3), found[:3, :3] @ np.array([1.0, 0, 0])])
    assert along @ estimate.covariance @ along > np.pi ** 2 / 3 > 4 * (across @ estimate.covariance @ across)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_depth_of_random_bytes_costs_no_frame(dataset, sample, seed):
    frame = sample.frame
    noise = np.frombuffer(np.random.default_rng(seed).bytes(4 * frame.depth.size), "<f4").reshape(frame.depth.shape)
    tracker = Tracker(Estimator(dataset.catalogue, QUICK), TrackerOptions())
    tracker.absorb(replace(frame, stamp_ns=1), sample.detections[:1])
    assert tracker.tracks
    result = tracker.follow(replace(frame, depth=noise, stamp_ns=2))
    assert len(result.estimates) + len(result.dropped) == 1
    for estimate in result.estimates:
        assert np.isfinite(estimate.T_cam_obj).all() and np.isfinite(estimate.covariance).all()


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
