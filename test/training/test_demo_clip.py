"""The demo clip in the repository: its ground truth fits its images, and it stays small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.rendering.raycast import RaycastRenderer
from training.demo_clip import SIZE, camera_path

DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.fixture(scope="module")
def clip():
    return BopDataset(DEMO)


def test_the_clip_is_small_and_whole(clip):
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) <= 6_000_000
    assert len(clip.images) >= 24 and len(clip.catalogue) == 3
    for sample in clip.samples(clip.images[::8]):
        assert sample.frame.image.shape == (*SIZE, 3)
        assert 0.7 < (sample.frame.depth > 0).mean() < 1
        assert len(sample.detections) == 3


def test_every_object_is_hidden_in_part_at_some_time_and_never_much(clip):
    seen = np.array([[truth.visib_fract for truth in clip.ground_truth(image)] for image in clip.images])
    assert seen.min() > 0.5 and (seen.min(0) < 0.97).sum() >= 2


def test_depth_shows_the_objects_where_the_ground_truth_puts_them(clip):
    renderer = RaycastRenderer()
    for sample in clip.samples(clip.images[::6]):
        for truth in sample.ground_truth:
            view = renderer.render(clip.catalogue[str(truth.obj_id)].mesh, torch.from_numpy(truth.T_cam_obj[None]),
                                   torch.from_numpy(sample.frame.K[None]), SIZE)
            expected, measured = view.depth[0].numpy(), sample.frame.depth
            both = (expected > 0) & (measured > 0)
            error = np.abs(expected - measured)[both]
            assert np.median(error) < 0.003, (sample.image_id, truth.label)
            assert (error < 0.02).mean() > 0.75 * truth.visib_fract
            rows, columns = np.nonzero(expected > 0)
            whole = [columns.min(), rows.min(), columns.max(), rows.max()]
            assert (truth.box[:2] >= np.array(whole[:2]) - 1).all() and (truth.box[2:] <= np.array(whole[2:]) + 1).all()


def test_the_camera_moves_on_an_arc_around_the_table():
    path = camera_path(24)
    eyes = np.array([-T[:3, :3].T @ T[:3, 3] for T in path])
    azimuth = np.degrees(np.arctan2(eyes[:, 0], -eyes[:, 1]))
    assert 35 < np.ptp(azimuth) < 45
    assert 0.55 < np.linalg.norm(eyes, axis=1).min() and np.linalg.norm(eyes, axis=1).max() < 0.95
    assert np.linalg.norm(np.diff(eyes, axis=0), axis=1).max() < 0.06
    assert (path[:, 2, 2] < 0).all()  # world z points up, so the forward axis looks down
