"""Votes of templates for the query's pixels: where they fall, which wins, and the pose that they make."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flowpose_ros.estimation.coarse_flow_vote import (CELL, LONE, FlowVoteOptions, Votes, coarse_flow_vote,
                                                      flow_confidence, mean_vote, medoid, pose_of_votes, warp)
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.look import Target
from flowpose_ros.estimation.networks import load_networks
from flowpose_ros.estimation.select import distinct_best
from flowpose_ros.estimation.template_features import load_template_features
from flowpose_ros.estimation.views import FrameTensors, Shape
from flowpose_ros.geometry.camera import pixel_grid, project
from flowpose_ros.geometry.rotations import angles_between
from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.geometry.transforms import exp_so3, transform_points
from flowpose_ros.networks.flow import Update
from flowpose_ros.networks.update import FlowField
from flowpose_ros.objects.catalogue import ObjectModel
from flowpose_ros.records import Detection, Frame
from flowpose_ros.rendering.raycast import RaycastRenderer
from rendering.meshes import textured_box

K = np.array([[400.0, 0, 160], [0, 400.0, 120], [0, 0, 1]])
SURE, NEVER = 8.0, -8.0


@pytest.fixture(scope="module")
def block():
    return ObjectModel("block", None, textured_box((0.1, 0.07, 0.05), seed=5), SymmetryGroup.none(), None)


@pytest.fixture(scope="module")
def truth(block):
    T = torch.eye(4)
    T[:3, :3] = exp_so3(torch.tensor([[0.7, -0.5, 0.3]]))[0]
    T[:3, 3] = torch.tensor([0.03, -0.02, 0.5]) - T[:3, :3] @ torch.from_numpy(block.mesh.center).float()
    return T


@pytest.fixture(scope="module")
def view(block, truth):
    return RaycastRenderer().render(block.mesh, truth[None], torch.from_numpy(K).float()[None], (240, 320))


@pytest.fixture(scope="module", params=[False, True], ids=["rgb", "rgbd"])
def target(request, block, view):
    image = (view.rgb[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    depth = np.where(view.mask[0].numpy(), view.depth[0].numpy(), 0.8).astype(np.float32)
    networks = load_networks("", "cpu")
    return Target(FrameTensors.of(Frame(image, K, depth), request.param, networks.device),
                  Shape.of(block, networks.device), networks, RaycastRenderer())


def perfect_update(look, T_true):
    """What the network would say of a look if it knew the truth."""
    views = look.views
    offset = CELL // 2
    xyz, valid = (x[..., offset::CELL, offset::CELL] for x in (views.rendering.xyz, views.rendering.mask[:, None]))
    pixel = (pixel_grid(*xyz.shape[-2:]) * CELL + offset).permute(2, 0, 1).expand(len(xyz), -1, -1, -1)
    seen = transform_points(views.camera.to_crop(T_true.expand(len(xyz), 4, 4)), xyz.flatten(2).transpose(1, 2))
    flow = project(seen, views.camera.K).transpose(1, 2).reshape_as(pixel) - pixel
    one = torch.ones_like(flow[:, :1])
    field = FlowField(flow, SURE * one, torch.ones_like(flow), NEVER * one, one)
    return Update(field, views.T_crop_obj, pixel, xyz, valid, torch.ones_like(flow))


def test_points_fall_where_the_truth_shows_them(target, truth):
    turned = truth.clone()
    turned[:3, :3] = exp_so3(torch.tensor([[0.1, 0.15, -0.2]]))[0] @ truth[:3, :3]
    look, goal = target.look(torch.stack([turned, truth])), target.look(truth[None]).views
    votes = warp(perfect_update(look, truth), look, goal.camera, 0.3)
    side = goal.camera.size // CELL
    assert votes.xyz.shape == (2, side * side, 3)
    centers = (pixel_grid(side, side).reshape(-1, 2) + 0.5) * CELL - 0.5
    for xyz, weight in zip(votes.xyz, votes.weight):
        voted = weight > 0
        assert 0.2 < voted.float().mean() < 0.7
        landed = project(transform_points(goal.T_crop_obj[0], xyz[voted]), goal.camera.K[0])
        assert (landed - centers[voted]).abs().max() <= CELL / 2 + 1e-3
        assert not xyz[~voted].any()


def test_of_two_points_in_a_cell_the_surer_stays(target, truth):
    look = target.look(truth[None])
    update = perfect_update(look, truth)
    here = (update.pixel + update.field.flow).flatten(2)
    middle = look.views.camera.size / 2
    rising = here[:, :1].reshape_as(update.field.certainty) / 50
    all_there = replace(update.field, flow=middle - update.pixel, certainty=rising)
    votes = warp(replace(update, field=all_there), look, look.views.camera, 0.3)
    (cell,) = torch.nonzero(votes.weight[0])[:, 0].tolist()
    surest = torch.where(update.valid, all_there.certainty, -torch.inf).flatten().argmax()
    torch.testing.assert_close(votes.xyz[0, cell], update.xyz.flatten(2)[0, :, surest])


@pytest.mark.parametrize("certainty, flow", [(NEVER, 0.0), (SURE, torch.nan), (SURE, 1e9)])
def test_what_is_hidden_outside_or_no_number_does_not_vote(target, truth, certainty, flow):
    look = target.look(truth[None])
    update = perfect_update(look, truth)
    field = replace(update.field, flow=torch.full_like(update.field.flow, flow),
                    certainty=torch.full_like(update.field.certainty, certainty))
    assert not warp(replace(update, field=field), look, look.views.camera, 0.3).weight.any()


def test_the_medoid_leaves_out_a_voter_that_is_wrong():
    xyz = torch.tensor([[[0.0, 0, 0]], [[0.001, 0, 0]], [[0.5, 0, 0]]])
    point, weight = medoid(Votes(xyz, torch.tensor([[0.6], [0.9], [0.8]])), 0.01)
    assert point[0, 0] < 0.01 and weight[0] >= 0.6


def test_the_mean_is_moved_by_a_voter_that_is_wrong():
    xyz = torch.tensor([[[0.0, 0, 0], [1.0, 2, 3]], [[0.001, 0, 0], [0, 0, 0]], [[0.5, 0, 0], [0, 0, 0]]])
    point, weight = mean_vote(Votes(xyz, torch.tensor([[0.6, 0.8], [0.6, 0.0], [0.8, 0.0]])))
    assert point[0, 0] == pytest.approx((0.6 * 0.001 + 0.8 * 0.5) / 2) and point[1].tolist() == [1, 2, 3]
    assert weight.tolist() == pytest.approx([2 / 3, 0.8])


def test_cells_of_one_vote_of_none_and_of_quarrel():
    xyz = torch.tensor([[[1.0, 2, 3], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0], [1.0, 0, 0]]])
    point, weight = medoid(Votes(xyz, torch.tensor([[0.8, 0.0, 0.9], [0.0, 0.0, 0.9]])), 0.1)
    assert weight.tolist() == pytest.approx([LONE * 0.8, 0, 0]) and point[0].tolist() == [1, 2, 3]


def test_true_votes_make_the_true_pose_among_false_ones(target, truth):
    look = target.look(truth[None])
    votes = warp(perfect_update(look, truth), look, look.views.camera, 0.3)
    xyz, weight = votes.xyz[0].clone(), votes.weight[0]
    g = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(xyz), generator=g) < 0.3
    xyz[wrong] = xyz[weight > 0][torch.randint(int((weight > 0).sum()), (int(wrong.sum()),), generator=g)]
    T, found = pose_of_votes(xyz, weight, look.views.camera, look.depth, target.shape.diameter, FlowVoteOptions(),
                             DepthOptions(), g)
    assert found
    angle = angles_between(T[:, :3, :3].double().numpy(), look.views.T_crop_obj[:, :3, :3].double().numpy())[0, 0]
    assert np.degrees(angle) < 4
    middle = target.shape.center[None]
    apart = (transform_points(T, middle) - transform_points(look.views.T_crop_obj, middle)).norm()
    assert apart < 0.05 * target.shape.diameter


def test_no_votes_make_no_pose(target, truth):
    look = target.look(truth[None])
    _, found = pose_of_votes(torch.zeros(64 * 64, 3), torch.zeros(64 * 64), look.views.camera, look.depth,
                             target.shape.diameter, FlowVoteOptions(), DepthOptions(), torch.Generator())
    assert not found


def test_flow_that_is_unsure_or_hidden_makes_a_template_less_likely(target, truth):
    update = perfect_update(target.look(truth[None]), truth)
    sure = flow_confidence(update)
    hidden = replace(update, field=replace(update.field, certainty=update.field.certainty - 2 * SURE))
    vague = replace(update, field=replace(update.field, mixture=-update.field.mixture,
                                          log_scale=3 * update.field.log_scale))
    assert sure > 0.8 and flow_confidence(hidden) < 0.1 and flow_confidence(vague) < 0.2


def test_the_stage_finds_the_block_and_repeats_itself(target, block, truth, view, tmp_path):
    templates = load_template_features(block.mesh, target.renderer, target.networks, 48, tmp_path)
    v, u = np.nonzero(view.mask[0].numpy())
    detection = Detection("block", np.array([u.min() - 0.5, v.min() - 0.5, u.max() + 0.5, v.max() + 0.5]))
    found, again = (coarse_flow_vote(target, detection, templates, FlowVoteOptions(flowed=12), DepthOptions(),
                                     torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(found.T_cam_obj, again.T_cam_obj) and torch.equal(found.score, again.score)
    assert len(found.score) in (12, 13) and found.score.tolist() == sorted(found.score.tolist(), reverse=True)
    angles = angles_between(found.T_cam_obj[:, :3, :3].double().numpy(), truth[None, :3, :3].double().numpy())
    assert np.degrees(angles.min()) < 15


def test_poses_that_look_the_same_are_one():
    half_turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    T = np.tile(np.eye(4), (4, 1, 1))
    T[1] = half_turn
    T[2, :3, :3] = exp_so3(torch.tensor([[0.05, 0, 0]]).double())[0].numpy()
    T[3, :3, :3] = exp_so3(torch.tensor([[1.0, 0, 0]]).double())[0].numpy()
    scores = torch.tensor([0.5, 0.9, 0.7, 0.1])
    plain, symmetric = (distinct_best(T, scores, group, 3, np.radians(8)).tolist()
                        for group in (SymmetryGroup.none(), SymmetryGroup(half_turn[None])))
    assert plain == [1, 2, 3] and symmetric == [1, 3]
