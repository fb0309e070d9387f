"""Following: what a GPU records waits for no number, and gives what the function gives."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from flowpose_ros.estimation.batches import mapped, take, tensors_of
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.estimation.estimator_options import EstimatorOptions
from flowpose_ros.estimation.follow import Follower
from flowpose_ros.estimation.moved import FollowOptions, crops_of, finer_wanted, fitted_to_surface, moved, moved_far
from flowpose_ros.estimation.networks import CROP_SIZE, load_networks
from flowpose_ros.estimation.recorded import Recorded
from flowpose_ros.estimation.settle import FINE_PADDING, FINE_SIZE
from flowpose_ros.estimation.views import FrameTensors, Shapes, Views
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.evaluation.metrics import pose_difference
from flowpose_ros.geometry.crops import PADDING
from flowpose_ros.geometry.transforms import exp_so3, make_transform
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.renderer import render_each
from rendering.meshes import sphere, textured_box

MESHES = [textured_box((0.1, 0.07, 0.05)), sphere(0.3, 16)]
"""So different in size that other distances count as near."""


@pytest.fixture(scope="module")
def networks():
    return load_networks("", "cpu")


@pytest.fixture(scope="module")
def given():
    """A frame with depth, two objects in it that are seen from its camera, and their shapes."""
    points, center = (torch.from_numpy(np.stack(x)).float()
                      for x in ([m.surface_points(500) for m in MESHES], [m.center for m in MESHES]))
    radius = torch.tensor([mesh.radius for mesh in MESHES])
    shapes, T = Shapes(points, center, radius, 2 * radius), torch.eye(4).repeat(2, 1, 1)
    T[:, :3, 3] = torch.tensor([[-0.12, 0.0, 0.5], [0.5, 0.1, 2.0]])
    K = torch.tensor([[400.0, 0, 159.5], [0, 400.0, 119.5], [0, 0, 1]])
    seen = render_each(RaycastRenderer(), MESHES, T, K.expand(2, 3, 3), (240, 320))
    frame = FrameTensors(torch.where(seen.mask[:1], seen.rgb[0], seen.rgb[1]),
                         torch.where(seen.mask[0], seen.depth[0], seen.depth[1]), K)
    return frame, views_of(shapes, T, CROP_SIZE, PADDING), shapes, None


def views_of(shapes, T_cam_obj, size, padding):
    camera, T_crop_obj = crops_of((shapes.points, T_cam_obj), size, padding)
    return Views(camera, T_crop_obj, render_each(RaycastRenderer(), MESHES, T_crop_obj, camera.K, (size, size)))


def variant(networks, given, depth, finer):
    """The same with or without depth, and what is given for finer views."""
    frame, wide, shapes, _ = given
    frame = frame if depth else replace(frame, depth=None)
    if not finer:
        return frame, wide, shapes, None
    before = moved(networks, (frame, wide, shapes, None), FollowOptions(), DepthOptions(), 2)
    return frame, views_of(shapes, before.for_finer, FINE_SIZE, FINE_PADDING), shapes, before


@torch.no_grad()
@pytest.mark.parametrize("finer", [True, False])
@pytest.mark.parametrize("depth", [True, False])
def test_what_is_recorded_waits_for_no_number(networks, given, depth, finer):
    given = variant(networks, given, depth, finer)
    _, views, shapes, _ = given
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:  # has shapes alone, and refuses to give a number
        camera, T_crop_obj = crops_of(mapped(mode.from_tensor, (shapes.points, views.T_crop_obj)), CROP_SIZE, PADDING)
        there = moved(networks, mapped(mode.from_tensor, given), FollowOptions(), DepthOptions(), 2)
        with pytest.raises(DataDependentOutputException):
            float(there.quality[0])
    assert camera.K.shape == (2, 3, 3) and there.T_cam_obj.shape == T_crop_obj.shape == (2, 4, 4)


class Course:
    """The demo clip's objects, followed into one of its images from poses that are off."""

    def __init__(self, depth):
        dataset = BopDataset(Path(__file__).resolve().parents[2] / "demo")
        self.sample = next(dataset.samples(dataset.images[:1]))
        self.estimator = Estimator(dataset.catalogue, EstimatorOptions(depth=depth))
        self.truths = [truth.T_cam_obj for truth in self.sample.ground_truth]
        self.targets = self.estimator.targets(self.sample.frame, [truth.label for truth in self.sample.ground_truth],
                                              RaycastRenderer())
        self.symmetries = [target.shape.model.symmetries for target in self.targets]

    def followed(self, turn_deg, shift, options):
        """Followed poses whose starts are turned by a vector [3] and shifted by one [3] in diameters."""
        starts = [T.copy() for T in self.truths]
        for T, target in zip(starts, self.targets):
            T[:3, :3] = Rotation.from_rotvec(turn_deg, degrees=True).as_matrix() @ T[:3, :3]
            T[:3, 3] += target.shape.diameter * np.array(shift)
        return Follower(self.estimator.networks).follow(self.targets, starts, options, self.estimator.options.fit)

    def degrees(self, found):
        """How far each is turned from the truth."""
        return np.degrees([pose_difference(each.T_cam_obj, T, symmetries).rotation
                           for each, T, symmetries in zip(found, self.truths, self.symmetries)])


def test_finer_crops_bring_poses_nearer():
    course, turned = Course("off"), {"on": [], "off": []}
    for turn in ([2, 0, 1], [0, -3, 0], [-2, 1, 2]):
        for finer, found in turned.items():
            found += [course.degrees(course.followed(turn, (0.02, -0.01, 0.04), FollowOptions(finer=finer)))]
    assert np.median(turned["on"]) < 0.6 * np.median(turned["off"]) and np.max(turned["on"]) < 3


def test_with_depth_only_what_it_does_not_tell_all_of_needs_finer_crops(given):
    _, _, shapes, _ = given  # a box, and a sphere, which turns as it likes
    corner = exp_so3(torch.tensor([[2.3, 0.0, 0.0]])) @ exp_so3(torch.tensor([[0.0, 0.0, 0.7]]))
    T = make_transform(corner.expand(2, 3, 3), torch.tensor([[0.0, 0, 0.5], [0, 0, 2]]))
    wide = views_of(shapes, T, CROP_SIZE, PADDING)
    for (depth, finer), wanted in {(True, "auto"): [1], (False, "auto"): [0, 1], (True, "on"): [0, 1],
                                   (True, "off"): [], (False, "off"): []}.items():
        assert finer_wanted(wide, shapes, depth, FollowOptions(finer=finer)).tolist() == wanted


def test_finer_crops_are_taken_elsewhere_only_where_the_object_is_far_off(networks, given):
    frame, wide, shapes, _ = given
    metres = (shapes.points.amax(1) - shapes.points.amin(1))[:, 0]  # the box is longest, and the sphere as long, in x
    for share, far in ((0.05, False), (0.2, True)):
        T = wide.T_crop_obj.clone()
        T[:, 0, 3] += share * metres
        assert moved_far(T, wide, shapes).tolist() == [far, far]
    there = moved(networks, (frame, wide, shapes, None), FollowOptions(), DepthOptions(), 2)
    torch.testing.assert_close(there.for_finer, wide.camera.to_camera(wide.T_crop_obj))
    elsewhere = wide.T_crop_obj.clone()
    elsewhere[:, 0, 3] += 0.4 * metres
    off = views_of(shapes, wide.camera.to_camera(elsewhere), CROP_SIZE, PADDING)
    there = moved(networks, (frame, off, shapes, None), FollowOptions(), DepthOptions(), 2)
    torch.testing.assert_close(there.for_finer, there.T_cam_obj)


@torch.no_grad()
@pytest.mark.parametrize(("depth", "finer", "counts"),
                         [(False, "auto", (1, 0)), (False, "off", (1, 1)), (True, "auto", (1, 1))])
def test_wide_crops_get_fine_updates_where_poses_may_come_from_them(networks, given, monkeypatch, depth, finer, counts):
    frame, wide, shapes, _ = given
    asked, forward = [], networks.flow.forward
    monkeypatch.setattr(networks.flow, "forward",
                        lambda *args, counts: asked.append(counts) or forward(*args, counts=counts))
    moved(networks, (frame if depth else replace(frame, depth=None), wide, shapes, None), FollowOptions(finer=finer),
          DepthOptions(), 2)
    assert asked == [counts]


def test_finer_crops_of_some_objects_leave_the_others_as_they_are(monkeypatch):
    # All objects of the demo but the third are tied more.
    monkeypatch.setattr("flowpose_ros.estimation.moved.HELD", 0.03)
    course = Course("on")
    found = [course.followed([1, 2, 0], (0, 0, 0.01), FollowOptions(finer=finer)) for finer in ("off", "on", "auto")]
    for target, off, on, auto in zip(course.targets, *found):
        same = on if target.shape.model.label == "obj_000003" else off
        np.testing.assert_allclose(auto.T_cam_obj, same.T_cam_obj, atol=1e-4)
        assert not np.allclose(on.T_cam_obj, off.T_cam_obj, atol=1e-4)


def test_what_is_not_confirmed_is_looked_at_again_from_where_it_was_found():
    course, confirmed = Course("on"), {0.6: 0, 0.0: 0}
    for shift in ((0.4, 0, 0), (0, -0.4, 0), (-0.3, 0.3, 0.2)):
        for again_below in confirmed:
            found = course.followed([0, 8, 0], shift, FollowOptions(again_below=again_below))
            confirmed[again_below] += sum(each.quality > 0.6 for each in found)
    assert confirmed[0.6] > confirmed[0.0] and confirmed[0.6] >= 5


def test_a_follower_is_freed_as_soon_as_nobody_needs_it(networks):
    follower = Follower(networks)
    gone = weakref.ref(follower)
    del follower
    assert gone() is None


@torch.no_grad()
def test_objects_of_different_sizes_are_each_fitted_by_their_own(given):
    frame, views, shapes, _ = given
    depth, shifted = frame.depth_crop(views.camera), views.T_crop_obj.clone()
    shifted[:, 2, 3] += torch.tensor([0.004, 0.02])

    def fitted(index):
        part = take((views, shapes, shifted, depth), index)
        T, shares = fitted_to_surface(*part, DepthOptions(), 0.0)
        return T, shares.agree

    together, alone = fitted(torch.arange(2)), [fitted(torch.tensor([i])) for i in range(2)]
    for found, each in zip(together, zip(*alone)):
        torch.testing.assert_close(found, torch.cat(each), rtol=1e-4, atol=1e-5)
    assert (together[0][:, 2, 3] - views.T_crop_obj[:, 2, 3]).abs().max() < 1e-3 and together[1].min() > 0.95
    small = replace(shapes, diameter=shapes.diameter[:1].expand(2), radius=shapes.radius[:1].expand(2))
    other, _ = fitted_to_surface(views, small, shifted, depth, DepthOptions(), 0.0)
    assert not torch.allclose(other[1], together[0][1], rtol=0, atol=1e-4)


def test_on_a_cpu_a_recorded_function_is_called_as_it_is():
    calls = []
    double = Recorded(lambda batch, factor: calls.append(factor) or factor * batch[0])
    assert double((torch.ones(2),), 3).tolist() == [3, 3] and calls == [3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.no_grad()
@pytest.mark.parametrize("finer", [True, False])
@pytest.mark.parametrize("depth", [True, False])
def test_a_gpu_plays_what_the_function_gives(networks, given, depth, finer):
    on_gpu, settings = load_networks("", "cuda"), (FollowOptions(), DepthOptions(), 2)
    follower = Follower(on_gpu)
    first = mapped(lambda tensor: tensor.cuda(), variant(networks, given, depth, finer))
    second = mapped(torch.clone, first)
    second[0].image.mul_(0.7).add_(0.1)
    for batch in (first, second, first):
        played, plain = follower._moved(batch, *settings), moved(on_gpu, batch, *settings)
        for one, other in zip(tensors_of(played), tensors_of(plain)):
            torch.testing.assert_close(one.float(), other.float(), rtol=1e-2, atol=1e-3)
    one = (first[0], *take(first[1:], torch.tensor([0]).cuda()))
    assert len(follower._moved(one, *settings).quality) == 1
    assert len(follower._moved._recordings) == 2 and all(follower._moved._recordings.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_cannot_be_recorded_is_called_as_it_is():
    largest = Recorded(lambda batch: (batch[0] * float(batch[0].max()),))
    given = (torch.arange(3.0).cuda(),)
    with pytest.warns(RuntimeWarning, match="cannot be recorded"):
        assert largest(given)[0].tolist() == [0, 2, 4]
    assert largest(given)[0].tolist() == [0, 2, 4]
