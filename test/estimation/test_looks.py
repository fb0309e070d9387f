"""From a look to better poses and their scores, on a coloured block whose truth is known."""

from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from flowpose_ros.errors import WeightsError
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.evidence import evidence
from flowpose_ros.estimation.judge import judge, trust, witnesses
from flowpose_ros.estimation.batches import join, mapped, take, tensors_of
from flowpose_ros.estimation.look import Target
from flowpose_ros.estimation.match import MatchOptions, match_poses
from flowpose_ros.estimation.networks import CROP_SIZE, load_networks, poses_of, update_of
from flowpose_ros.estimation.refine import LoopOptions, fit_surface
from flowpose_ros.estimation.refine_genflow import last_update, refine_genflow
from flowpose_ros.estimation.refine_refpose import RefPoseOptions, fitted_poses, refine_refpose
from flowpose_ros.estimation.settle import (FINE_SIZE, SettleOptions, farthest, found_finely, nearer, settled,
                                             updated)
from flowpose_ros.estimation.support import flow_support, residual_covariance, spread_of
from flowpose_ros.estimation.trail import Trail
from flowpose_ros.estimation.views import FrameTensors, Shape
from flowpose_ros.geometry.camera import box_around, crop_around, pixel_grid, project
from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.geometry.transforms import exp_so3, transform_points
from flowpose_ros.networks.flow import GenFlow, GenFlowConfig
from flowpose_ros.networks.geometry_net import Geometry, GeometryConfig, GeometryNet
from flowpose_ros.networks.pose_score import PoseScore, PoseScoreConfig
from flowpose_ros.networks.scorer import Scorer
from flowpose_ros.networks.verifier import CHANNELS, COVER, DEPTH, Verifier, VerifierConfig
from flowpose_ros.networks.weights import file_hash, load_network, save_weights, shipped_folder
from flowpose_ros.objects.catalogue import ObjectModel
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.records import Frame
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.renderers import renderer_for

K = np.array([[400.0, 0, 160], [0, 400.0, 120], [0, 0, 1]])
SIZE = (240, 320)


@pytest.fixture(scope="module")
def block():
    """A block of 0.1 x 0.06 x 0.04 m, each of its triangles in a colour of its own."""
    corners = np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.03, 0.03) for z in (-0.02, 0.02)], np.float32)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], np.int32)
    colours = np.random.default_rng(0).random((12, 1, 3)).repeat(3, 1).astype(np.float32)
    mesh = Mesh(corners, faces, colours, np.zeros((12, 3, 2), np.float32), np.full(12, -1, np.int16))
    return ObjectModel("block", None, mesh, SymmetryGroup.none(), None)


@pytest.fixture(scope="module")
def truth():
    T = torch.eye(4)
    T[:3, :3] = exp_so3(torch.tensor([[0.7, -0.5, 0.3]]))[0]
    T[:3, 3] = torch.tensor([0.02, -0.01, 0.5])
    return T


@pytest.fixture(scope="module")
def frame(block, truth):
    """The block as its own renderer shows it, before a wall 0.3 m behind it."""
    view = RaycastRenderer().render(block.mesh, truth[None], torch.from_numpy(K).float()[None], SIZE)
    image = (view.rgb[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    depth = np.where(view.mask[0].numpy(), view.depth[0].numpy(), 0.8).astype(np.float32)
    return Frame(image, K, depth)


@pytest.fixture(scope="module", params=[False, True], ids=["rgb", "rgbd"])
def target(request, block, frame):
    networks = load_networks("", "cpu")
    return Target(FrameTensors.of(frame, request.param, networks.device), Shape.of(block, networks.device), networks,
                  RaycastRenderer())


@pytest.fixture(scope="module")
def poses(truth):
    """The truth; turned by half a turn about the viewing axis; moved aside by half of its length."""
    turned, moved = truth.clone(), truth.clone()
    turned[:3, :3] = exp_so3(torch.tensor([[0, 0, np.pi]]).float())[0] @ truth[:3, :3]
    moved[0, 3] += 0.05
    return torch.stack([truth, turned, moved])


def test_the_true_pose_seems_most_right(target, poses):
    score = judge(target, target.look(poses), DepthOptions())
    assert score[0] > score[1:].max() and (score >= 0).all() and (score <= 1).all()


def test_a_pose_that_does_not_fill_the_detections_box_seems_less_right(target, poses):
    look, K = target.look(poses), target.frame.K
    box = box_around(project(transform_points(poses[:1], target.shape.points), K))[0]
    alone, boxed = (torch.logit(judge(replace(target, box=box), look, DepthOptions(), w), 1e-6) for w in (0.0, 1.0))
    assert boxed[0] == alone[0]  # the truth
    assert (alone - boxed)[2] == pytest.approx(2.0, abs=1e-3)  # moved aside: two of four sides


def test_a_score_of_other_witnesses_is_refused(tmp_path):
    for name in ("genflow_t.safetensors", "scorer.safetensors"):
        (tmp_path / name).symlink_to(shipped_folder() / name)
    old = PoseScore(PoseScoreConfig(3, 5))
    save_weights(tmp_path / "pose_score.safetensors", old.state_dict(), kind="pose_score", config=old.config)
    with pytest.raises(WeightsError, match=r"expected PoseScoreConfig\(rgb=4, rgbd=6\), got .*rgb=3.*calibrate"):
        load_networks(str(tmp_path), "cpu")


def test_each_witness_is_finite_even_where_nothing_is_seen(target, poses):
    away = poses.clone()
    away[:, 0, 3] += 3.0
    said = witnesses(target, target.look(torch.cat([poses, away])), DepthOptions())
    assert said.shape == (6, 4 if target.frame.depth is None else 6) and torch.isfinite(said).all()


def test_depth_shares_tell_free_space(target, poses):
    if target.frame.depth is None:
        pytest.skip("without depth there are no such witnesses")
    agree, farther, unmeasured = witnesses(target, target.look(poses), DepthOptions())[:, 3:].unbind(1)
    assert agree[0] > agree[2] and farther[2] > farther[0] and not unmeasured.any()


def test_one_pose_of_a_look_is_the_look_at_that_pose(target, poses):
    one, alone = target.look(poses).take(torch.tensor([1])), target.look(poses[1:2])
    assert torch.equal(one.T_cam_obj, poses[1:2]) and torch.equal(one.picture, alone.picture)
    assert torch.equal(one.views.rendering.xyz, alone.views.rendering.xyz)
    assert torch.equal(one.views.camera.K, alone.views.camera.K)
    for a, b in zip((*one.query, *one.source), (*alone.query, *alone.source)):
        assert torch.allclose(a, b, atol=1e-4)


def test_joined_parts_of_a_look_are_the_look(target, poses):
    whole = target.look(poses)
    again = join([whole.take(torch.tensor([0])), whole.take(torch.tensor([1, 2]))])
    assert torch.equal(again.T_cam_obj, poses) and torch.equal(again.views.camera.K, whole.views.camera.K)
    assert torch.equal(again.source[1], whole.source[1]) and torch.equal(again.views.rendering.mask,
                                                                         whole.views.rendering.mask)
    assert (again.depth is None) == (whole.depth is None)


def test_the_true_pose_has_its_parts_in_place(target, poses):
    place = witnesses(target, target.look(poses), DepthOptions())[:, 1]
    assert place[0] > place[1:].max() + 0.3


def test_support_is_a_share_and_its_covariance_positive(target, poses):
    support = flow_support(target, target.look(poses))
    assert (support.spread > 0).all() and torch.isfinite(support.spread).all()
    C = support.covariance
    assert torch.allclose((C + C.transpose(1, 2)) / 2, C, atol=1e-6)
    assert (torch.linalg.eigvalsh(C.double()) > 0).all()


@torch.no_grad()
def test_a_mesh_with_another_origin_has_the_covariance_of_that_point(target, poses):
    look, shift = target.look(poses[:1]), torch.tensor([0.06, -0.02, 0.04])
    update, views, shape = last_update(target, look), look.views, target.shape
    there = torch.eye(4)
    there[:3, 3] = -shift
    moved = residual_covariance(replace(shape, center=shape.center + shift),
                                replace(update, xyz=update.xyz + shift[:, None, None]),
                                replace(views, T_crop_obj=views.T_crop_obj @ there))[0].double().numpy()
    here = residual_covariance(shape, update, views)[0].double().numpy()
    to_origin = poses[0, :3, :3].double().numpy() @ -shift.double().numpy()
    follows = np.eye(6)
    follows[:3, 3:] = np.cross(np.eye(3), to_origin).T
    assert np.allclose(moved, follows @ here @ follows.T, rtol=0, atol=1e-3 * np.abs(moved).max(axis=0))


def test_where_nothing_of_the_object_is_rendered_it_may_be_off_by_anything(target, poses):
    behind = poses[:1].clone()
    behind[:, 2, 3] = -1.0
    assert flow_support(target, target.look(behind)).spread.tolist() == [float("inf")]


def test_the_spread_is_how_far_the_farthest_point_is_off(target, poses):
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 6)) * np.array([0.002] * 3 + [0.02] * 3)[:, None]
    covariance, T = factor @ factor.T, poses[0].double().numpy()
    views = target.look(poses[:1]).views
    # About the origin of a lopsided object it matters which way a turn moves it.
    shape = replace(target.shape, points=target.shape.points + torch.tensor([0.06, 0.03, 0.0]))
    said = spread_of(shape, torch.from_numpy(covariance).float()[None], views)
    shift, turn = np.split(rng.multivariate_normal(np.zeros(6), covariance, 4000), 2, axis=1)
    levers = shape.points.double().numpy() @ T[:3, :3].T
    moved = shift[:, None] + np.cross(turn[:, None], levers[None])
    farthest = np.sqrt((moved ** 2).sum(2).mean(0)).max() / shape.diameter
    assert said.item() == pytest.approx(farthest, rel=0.05)


@pytest.fixture(scope="module")
def starts(truth):
    """Turned by 12 degrees about two axes, and 1 cm aside and 2 cm farther."""
    turned = truth.repeat(2, 1, 1)
    turned[:, :3, :3] = exp_so3(torch.tensor([[0.0, 0.21, 0], [0.15, 0, -0.15]])) @ truth[:3, :3]
    turned[:, :3, 3] += torch.tensor([0.01, 0.0, 0.02])
    return turned


def errors(target, poses, truth):
    """Mean distances [B] of the object's points from their places, metres."""
    points = target.shape.points[None]
    return (transform_points(poses, points) - transform_points(truth[None], points)).norm(dim=-1).mean(1)


def rounds(count):
    """So many matched renders, with depth and without."""
    return MatchOptions(iterations=count, iterations_rgb=count)


def test_matching_and_updates_bring_poses_nearer(target, starts, truth):
    options, generator = (rounds(2), LoopOptions(iterations=2), DepthOptions()), torch.Generator()
    first = target.look(starts)
    matched = match_poses(target, first, options[0], options[2], generator.manual_seed(0))
    assert len(matched) == 3 and matched[0] is first
    refined = refine_genflow(target, matched[-1], options[1], options[2], generator)
    assert 1 <= len(refined) <= 3
    before, between, after = (errors(target, look.T_cam_obj, truth) for look in (first, matched[-1], refined[-1]))
    assert (between < 0.7 * before).all() and (after < 0.7 * before).all()
    if target.frame.depth is not None:
        assert (after < 0.003).all()


def falling(*scores, by=0.0):
    """A judge that gives poses these scores, each time lower by so much."""
    times = count()
    return lambda look: torch.tensor(scores)[:len(look.T_cam_obj)] - by * next(times)


@pytest.mark.parametrize("cost, taken", [(0.0, True), (0.04, True), (0.06, False)])
def test_the_answer_is_brought_nearer_unless_that_costs_score(target, starts, truth, cost, taken):
    trail = Trail(falling(0.9, 0.2, by=cost))
    trail.add([target.look(starts)])
    answer = settled(target, trail, SettleOptions(), DepthOptions())
    assert len(trail.looks) == 3
    if taken:
        before, after = (errors(target, T, truth) for T in (starts[:1], answer.T_cam_obj))
        assert (after < 0.25 * before).all()
    else:
        assert (answer.T_cam_obj == starts[:1]).all()


@pytest.mark.parametrize("fine_updates, icp_iterations", [(0, 0), (0, 8), (2, 0)])
def test_without_steps_the_best_pose_is_the_answer(target, starts, fine_updates, icp_iterations):
    steps = fine_updates or (1 if icp_iterations and target.frame.depth is not None else 0)
    trail = Trail(falling(0.8, 0.9))
    trail.add([target.look(starts)])
    answer = settled(target, trail, SettleOptions(fine_updates, rivals=1), DepthOptions(icp_iterations=icp_iterations))
    assert len(trail.looks) == 1 + steps
    if not steps:
        assert (answer.T_cam_obj == starts[1:]).all()


def test_of_rivals_the_one_that_finer_pixels_show_is_the_answer(target, poses, truth):
    both = poses[[1, 0]]  # half a turn off, and right
    errors_of = []
    for rivals in (1, 2):
        trail = Trail(falling(0.6, 0.5))
        trail.add([target.look(both)])
        answer = settled(target, trail, SettleOptions(rivals=rivals), DepthOptions())
        errors_of.append(errors(target, answer.T_cam_obj, truth).item())
    assert errors_of[0] > 0.02 and errors_of[1] < 0.001
    trail = Trail(falling(0.75, 0.5))  # too far below to be a rival
    trail.add([target.look(both)])
    assert errors(target, settled(target, trail, SettleOptions(), DepthOptions()).T_cam_obj, truth).item() > 0.02
    place = found_finely(target, poses)
    assert (place[0] > place[1:] + 0.5).all()


def test_between_rivals_that_are_nearly_even_the_score_before_the_step_decides(target, poses, truth):
    both, options = poses[[1, 0]], (SettleOptions(), DepthOptions())  # half a turn off, and right
    place = found_finely(target, nearer(target, target.look(both), FINE_SIZE, 1, options[1]))
    behind = 2 * (place[1] - place[0]) - 0.2  # so much the scores make up for what finer pixels show, but for 0.2
    for before, wrong in ((0.6, True), (0.0, False)):
        said = iter([torch.tensor([before, 0.0]), torch.stack([behind, torch.zeros(())]), torch.tensor([9.0])])
        trail = Trail(lambda look: torch.sigmoid(next(said)))
        trail.add([target.look(both)])
        answer = settled(target, trail, *options)
        assert (errors(target, answer.T_cam_obj, truth).item() > 0.02) == wrong


def test_finer_pixels_bring_near_poses_nearer_and_move_no_point_far(target, starts, truth):
    far = target.frame.depth is None
    near = truth.repeat(2, 1, 1)
    near[:, 2, 3] += torch.tensor([0.004, -0.004])
    points = target.shape.points[None]

    def moved(T, reach=None):
        return updated(target, T, 192, farthest(target.look(T)) if reach is None else torch.full((len(T),), reach))

    for begin, moves in ((near, True), (starts, far)):
        end = moved(begin)
        assert not moves or (errors(target, end, truth) < 0.3 * errors(target, begin, truth)).all()
        assert moves or (end == begin).all()  # they are farther off than depth leaves poses
    away = starts.clone()
    away[:, 0, 3] += target.shape.diameter
    by = transform_points(moved(away), points) - transform_points(away, points)
    assert by.norm(dim=-1).max() < 0.7 * target.shape.diameter
    assert not (moved(near) == near).all()
    assert (moved(near, reach=0.001) == near).all()


def without_own_depth(target, truth):
    """The target in a frame in which it gives no depth, and its surroundings do."""
    if target.frame.depth is None:
        pytest.skip("there is depth nowhere")
    view = RaycastRenderer().render(target.shape.model.mesh, truth[None], target.frame.K[None], SIZE)
    return replace(target, frame=replace(target.frame, depth=target.frame.depth * ~view.mask[0]))


def test_an_object_that_gives_no_depth_is_judged_and_moved_as_without_any(target, poses, truth):
    bare = without_own_depth(target, truth)
    look = bare.look(poses[:1])
    agree, farther, unmeasured = witnesses(bare, look, DepthOptions())[0, 3:]
    assert agree == pytest.approx(np.log(0.62), abs=0.15) and farther == pytest.approx(np.log(0.12), abs=0.3)
    assert unmeasured > 0.9
    assert torch.equal(fit_surface(bare, look.views, look.depth, DepthOptions()), look.views.camera.to_camera(
        look.views.T_crop_obj))
    assert farthest(look).tolist() == pytest.approx([0.7]) and farthest(target.look(poses[:1])).tolist() == pytest.approx([0.1])


@pytest.mark.parametrize("share, moves", [(0.05, False), (0.5, True)])
def test_nothing_is_fitted_to_an_object_of_which_hardly_anything_is_measured(target, truth, share, moves):
    views = target.look(truth[None]).views
    mask = views.rendering.mask
    first = (mask.flatten(1).cumsum(1) <= share * mask.sum()).view_as(mask) & mask
    nearer_by = torch.where(first, views.rendering.depth - 0.004, torch.zeros(()))
    fitted = fit_surface(target, views, nearer_by, DepthOptions())
    assert ((fitted - truth)[0, 2, 3].abs() > 0.002) == moves


def test_beyond_the_image_its_border_goes_on(target):
    wall = replace(target.frame, image=torch.full_like(target.frame.image, 0.25))
    camera = crop_around(torch.tensor([[0.4, 0.3, 1.0]]), torch.tensor([0.2]), 64)  # a corner of the image
    assert torch.allclose(wall.crop(camera), torch.tensor(0.25)) and (wall.crop(camera, per_side=2) > 0.249).all()


def test_a_trail_gives_distinct_poses_and_of_equals_the_later(target, starts):
    trail = Trail(falling(0.7, 0.9))
    nudged = starts.clone()
    nudged[:, 0, 3] += 0.001
    trail.add([target.look(starts), target.look(nudged)])
    looks, scores = trail.distinct(SymmetryGroup.none(), 5)
    assert (looks.T_cam_obj == nudged[[1, 0]]).all() and scores.tolist() == pytest.approx([0.9, 0.7])
    assert len(trail.distinct(SymmetryGroup.none(), 1)[1]) == 1


def with_geometry(target, seed, pose):
    """The target with a geometry network whose every weight is random."""
    torch.manual_seed(seed)
    network = GeometryNet(GeometryConfig(pose=pose)).eval()
    for learned in (network.geometry, *([network.pose_head.tell[-1]] if pose == "head" else [])):
        torch.nn.init.normal_(learned.weight, std=0.5)
    return replace(target, networks=replace(target.networks, geometry=network))


@pytest.mark.parametrize("seed, pose", [(0, "solver"), (1, "solver"), (0, "head")])
def test_whatever_its_weights_refpose_gives_poses_in_front_of_the_camera(target, starts, seed, pose):
    target = with_geometry(target, seed, pose)
    away = starts.clone()
    away[:, 0, 3] += 3.0
    looks = refine_refpose(target, target.look(torch.cat([starts, away])), RefPoseOptions(iterations=2),
                           DepthOptions(), torch.Generator())
    assert 1 <= len(looks) <= 3
    for look in looks:
        T = look.T_cam_obj
        assert torch.isfinite(T).all() and (T[:, 2, 3] > target.shape.radius).all()
        torch.testing.assert_close(T[:, :3, :3] @ T[:, :3, :3].transpose(1, 2), torch.eye(3).expand(4, 3, 3), atol=1e-4,
                                   rtol=0)


def test_refpose_takes_the_pose_of_its_pixels_or_with_depth_that_of_their_measured_places(target, truth, starts):
    look = target.look(starts)
    camera = look.views.camera
    T_true = camera.to_crop(truth.expand(2, 4, 4))
    shown = target.renderer.render(target.shape.model.mesh, T_true, camera.K, (CROP_SIZE, CROP_SIZE))
    xyz = ((shown.xyz - target.shape.center[:, None, None]) / target.shape.radius)[..., 1::2, 1::2]
    seen = shown.mask[:, None, 1::2, 1::2].float()
    pixel = (2 * pixel_grid(CROP_SIZE // 2, CROP_SIZE // 2) + 1).permute(2, 0, 1).expand(2, -1, -1, -1)
    geometry = Geometry(xyz, xyz, 0 * seen, 10 * seen - 5, pixel, seen, look.views.T_crop_obj)
    poses = fitted_poses(target, look, geometry, DepthOptions(), torch.Generator().manual_seed(0))
    if look.depth is None:
        torch.testing.assert_close(poses, starts, atol=1e-5, rtol=0)
    else:
        assert (errors(target, poses, truth) < 0.002).all() and (errors(target, starts, truth) > 0.01).all()


def test_refpose_without_its_network_says_what_is_missing(target, starts, tmp_path):
    without = replace(target, networks=replace(target.networks, geometry=None, folder=tmp_path))
    with pytest.raises(WeightsError, match=f"{tmp_path}/geometry.safetensors: expected a geometry network .*none"):
        refine_refpose(without, target.look(starts), RefPoseOptions(), DepthOptions(), torch.Generator())


def test_the_geometry_network_is_loaded_where_there_is_one_and_must_fit_the_features(tmp_path):
    for name in ("genflow_t.safetensors", "scorer.safetensors", "pose_score.safetensors"):
        (tmp_path / name).symlink_to(shipped_folder() / name)
    assert load_networks(str(tmp_path), "cpu").geometry is None
    for width in (96, 64):
        network = GeometryNet(GeometryConfig(coarse=width))
        save_weights(tmp_path / "geometry.safetensors", network.state_dict(), kind="geometry", config=network.config)
        if width == 96:
            assert load_networks(str(tmp_path), "cpu").need_geometry().config == network.config
    with pytest.raises(WeightsError, match=r"geometry.safetensors: .*features of \(32, 96\) .*, got .*\(32, 64\)"):
        load_networks(str(tmp_path), "cpu")


@pytest.mark.parametrize("kind, network", [("scorer", Scorer()), ("geometry", GeometryNet()),
                                           ("verifier", Verifier())])
def test_networks_for_the_features_of_another_refiner_are_refused(kind, network, tmp_path):
    for path in shipped_folder().glob("*.safetensors"):
        (tmp_path / path.name).symlink_to(path)
    own = tmp_path / f"{kind}.safetensors"
    for features in (file_hash(shipped_folder() / "genflow_t.safetensors"), None):
        own.unlink()
        save_weights(own, network.state_dict(), kind=kind, config=network.config, features=features)
        load_networks(str(tmp_path), "cpu")
    own.unlink()
    save_weights(own, network.state_dict(), kind=kind, config=network.config, features="0" * 64)
    with pytest.raises(WeightsError, match=rf"{kind}.safetensors: .*features of genflow_t.safetensors .*, got .*000000"):
        load_networks(str(tmp_path), "cpu")


def test_networks_go_with_a_refiner_that_kept_the_features_they_learnt_on(tmp_path):
    for path in shipped_folder().glob("*.safetensors"):
        (tmp_path / path.name).symlink_to(path)
    shipped, own = shipped_folder() / "genflow_t.safetensors", tmp_path / "genflow_t.safetensors"
    network = load_network(shipped, "genflow", GenFlowConfig, GenFlow)
    network.update_4.load_state_dict({name: 2 * value for name, value in network.update_4.state_dict().items()})
    own.unlink()
    save_weights(own, network.state_dict(), kind="genflow", config=network.config, features=file_hash(shipped))
    assert load_networks(str(tmp_path), "cpu").fingerprint == file_hash(shipped) != file_hash(own)
    save_weights(own, network.state_dict(), kind="genflow", config=network.config)
    with pytest.raises(WeightsError, match="expected a network for the features of genflow_t.safetensors"):
        load_networks(str(tmp_path), "cpu")


def recorded_work(target, poses):
    """What an estimate records, with what it is given: the refiner's updates, and the settler's."""
    look, networks = target.look(poses), target.networks
    view = look.views.network_view(target.shape)
    return [(networks.flow_update, partial(update_of, networks.flow), (look.query, view, look.source)),
            (networks.settler_poses, partial(poses_of, networks.settler), (look.picture, view))]


def test_what_an_estimate_records_waits_for_no_number(target, poses):
    for _, function, given in recorded_work(target, poses):
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:  # has shapes alone, and refuses to give a number
            assert tensors_of(function(mapped(mode.from_tensor, given)))[0].shape[0] == len(poses)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_plays_the_updates_of_an_estimate(block, frame, poses):
    networks = load_networks("", "cuda")
    target = Target(FrameTensors.of(frame, True, networks.device), Shape.of(block, networks.device), networks,
                    renderer_for(networks.device))
    for recorded, function, given in recorded_work(target, poses.cuda()):
        for batch in (given, take(given, torch.tensor([2, 1, 0]).cuda()), take(given, torch.tensor([0]).cuda())):
            for played, plain in zip(tensors_of(recorded(batch)), tensors_of(function(batch))):
                torch.testing.assert_close(played.float(), plain.float(), rtol=1e-2, atol=1e-2)
        assert len(recorded._recordings) == 2 and all(recorded._recordings.values())


def test_answers_have_a_refiner_of_their_own_where_there_is_one(tmp_path):
    for path in shipped_folder().glob("*.safetensors"):
        (tmp_path / path.name).symlink_to(path)
    networks = load_networks(str(tmp_path), "cpu")
    assert networks.settler is not networks.flow
    (tmp_path / "settle_s.safetensors").symlink_to(shipped_folder() / "settle_t.safetensors")
    with pytest.raises(WeightsError, match="one file settle_.*, got settle_s.safetensors, settle_t.safetensors"):
        load_networks(str(tmp_path), "cpu")
    for name in "st":
        (tmp_path / f"settle_{name}.safetensors").unlink()
    alone = load_networks(str(tmp_path), "cpu")
    assert alone.settler is alone.flow


def test_a_verifier_of_other_evidence_is_refused(tmp_path):
    for path in shipped_folder().glob("*.safetensors"):
        (tmp_path / path.name).symlink_to(path)
    own, network = tmp_path / "verifier.safetensors", Verifier(VerifierConfig(channels=7))
    own.unlink()
    save_weights(own, network.state_dict(), kind="verifier", config=network.config)
    with pytest.raises(WeightsError, match=rf"verifier.safetensors: .* {CHANNELS} maps, got one of 7; .*train_verifier"):
        load_networks(str(tmp_path), "cpu")


def test_without_a_verifier_an_answer_is_trusted_as_poses_are_compared(target, poses):
    look = target.look(poses)
    without = replace(target, networks=replace(target.networks, verifier=None))
    spread = flow_support(target, look).spread
    alone, answered = trust(without, look, spread, DepthOptions()), trust(target, look, spread, DepthOptions())
    assert torch.equal(alone, judge(target, look, DepthOptions()))
    assert not torch.allclose(answered, alone, atol=1e-3)
    assert (trust(target, look, 10 * spread, DepthOptions()) < answered).all()
    unknown = trust(target, look, torch.full_like(spread, torch.inf), DepthOptions())
    assert torch.isfinite(unknown).all() and (unknown < answered).all()


def test_evidence_is_for_the_true_pose_and_beside_it_against(target, poses):
    away = poses[:1].clone()
    away[:, 0, 3] += 0.5 * target.shape.diameter
    maps = evidence(target, target.look(torch.cat([poses[:1], away])), DepthOptions())
    cover = maps[:, COVER]
    found = [(maps[:, channel] * cover).sum((1, 2)) / cover.sum((1, 2)) for channel in (5, 14, 19)]
    assert maps.shape[1:] == (CHANNELS, 32, 32) and all(at > beside + 0.05 for at, beside in found)
    _, measured, agree, farther, _ = (maps[:, -DEPTH:] * cover[:, None]).sum((2, 3)).unbind(1)
    if target.frame.depth is None:
        assert not maps[:, -DEPTH:].any()
    else:
        assert agree[0] > 0.9 * measured[0] and agree[1] < 0.7 * measured[1] and farther[0] < 0.1 * measured[0]


def test_without_rounds_the_start_is_matched_as_it_is(target, starts):
    first = target.look(starts)
    assert match_poses(target, first, rounds(0), DepthOptions(), torch.Generator()) == [first]


def test_poses_beside_the_image_stay_finite(target, starts):
    away = starts.clone()
    away[:, 0, 3] += 3.0
    looks = match_poses(target, target.look(away), rounds(1), DepthOptions(), torch.Generator())
    looks += refine_genflow(target, looks[-1], LoopOptions(iterations=1), DepthOptions(), torch.Generator())
    assert all(torch.isfinite(look.T_cam_obj).all() for look in looks)
