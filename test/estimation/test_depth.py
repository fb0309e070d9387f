"""Poses from depth: an asymmetric part rendered at a known pose, measured with noise, holes, occluders."""

import numpy as np
import pytest
import torch

from flowpose_ros.estimation.depth import (DepthOptions, believable, depth_agreement, depth_at, depth_shares, fit_depth,
                                           shift_to_depth)
from flowpose_ros.estimation.icp import refine_icp, tied
from flowpose_ros.geometry.camera import project
from flowpose_ros.geometry.transforms import exp_so3, make_transform, rotation_angle, transform_points
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.raycast import RaycastRenderer
from rendering.meshes import quad, sphere

SIZE = 128
K1 = torch.tensor([[400.0, 0, 63.5], [0, 400, 63.5], [0, 0, 1]])
WALL = 0.75


def box(low, high):
    """Corners [8,3] and triangles [12,3] of an axis-aligned box."""
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return corners, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


@pytest.fixture(scope="module")
def part():
    """A plate with a tall and a low block, 0.14 m: no symmetry, and sides that keep it from sliding."""
    boxes = [box((-.05, -.035, -.01), (.05, .035, .01)), box((.0, -.03, .01), (.045, .015, .07)),
             box((-.045, -.01, .01), (-.01, .03, .045))]
    vertices = np.concatenate([v for v, _ in boxes]).astype(np.float32)
    faces = np.concatenate([f + 8 * i for i, (_, f) in enumerate(boxes)]).astype(np.int32)
    F = len(faces)
    return Mesh(vertices, faces, np.full((F, 3, 3), 0.7, np.float32), np.zeros((F, 3, 2), np.float32),
                np.full(F, -1, np.int16))


@pytest.fixture(scope="module")
def render(part):
    renderer = RaycastRenderer()
    return lambda T: renderer.render(part, T, K1.expand(len(T), 3, 3), (SIZE, SIZE))


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def truths(B=4):
    """Poses seen from a corner: from straight above only thin sides would keep the part from sliding."""
    corner = exp_so3(torch.tensor([2.3, 0.0, 0.0])) @ exp_so3(torch.tensor([0.0, 0.0, 0.7]))
    R = exp_so3(0.15 * noise(0, B, 3)) @ corner
    return make_transform(R, torch.tensor([0.0, 0, 0.6]) + 0.005 * noise(1, B, 3))


def perturbed(T, degrees, metres):
    w = torch.nn.functional.normalize(noise(2, len(T), 3), dim=1) * np.radians(degrees)
    t = torch.nn.functional.normalize(noise(3, len(T), 3), dim=1) * metres
    return make_transform(exp_so3(w) @ T[:, :3, :3], T[:, :3, 3] + t)


def measured(rendering, kind):
    """The depth a camera would give: the part before a wall, 1 mm noise, and what `kind` adds."""
    depth = torch.where(rendering.mask, rendering.depth, torch.tensor(WALL))
    depth = depth + 0.001 * noise(4, *depth.shape)
    if kind == "holes":
        depth = depth * (torch.rand(depth.shape, generator=torch.Generator().manual_seed(5)) > 0.4)
        depth[:, :, 56:62] = 0
    if kind == "occluder":
        depth[:, :, 75:] = 0.45
    return depth


def surface_error(part, T, T_true):
    vertices = torch.from_numpy(part.vertices)
    return (transform_points(T, vertices) - transform_points(T_true, vertices)).norm(dim=-1).mean(1)


def icp(rendering, T_render, depth, T_init, diameter, **options):
    return refine_icp(rendering.xyz, rendering.normal, rendering.mask, T_render, depth,
                      K1.expand(len(depth), 3, 3), T_init, diameter, DepthOptions(**options))


@pytest.mark.parametrize("kind", ["clean", "holes", "occluder"])
def test_icp_finds_the_truth_from_ten_degrees_and_a_centimetre(part, render, kind):
    T = truths()
    start = perturbed(T, 10, 0.01)
    found = icp(render(start), start, measured(render(T), kind), start, part.diameter)
    assert (surface_error(part, start, T) > 0.008).all()
    assert (surface_error(part, found, T) < 0.002).all()


def test_icp_starts_where_it_is_told_not_where_it_was_rendered(part, render):
    T = truths()
    rendered, start = perturbed(T, 6, 0.01), perturbed(T, -4, 0.005)
    found = icp(render(rendered), rendered, measured(render(T), "clean"), start, part.diameter)
    assert (surface_error(part, found, T) < 0.002).all()


def test_icp_leaves_the_truth_where_it_is(part, render):
    T = truths()
    found = icp(render(T), T, measured(render(T), "clean"), T, part.diameter)
    assert (surface_error(part, found, T) < 0.001).all()


def test_icp_holds_what_it_is_told_to_hold(part, render):
    T = truths()
    start, depth = perturbed(T, 3, 0.004), measured(render(T), "clean")

    def left(held):
        view = render(start)
        found = refine_icp(view.xyz, view.normal, view.mask, start, depth, K1.expand(4, 3, 3), start, part.diameter,
                           DepthOptions(), held)
        return surface_error(part, found, T) / surface_error(part, start, T)

    assert (left(0.0) < 0.25).all() and (left(0.003) < 0.3).all() and (left(100.0) > 0.9).all()


def test_a_surface_ties_what_its_shape_does_not_leave_open(part, render):
    def firmly(mesh, T):
        view = RaycastRenderer().render(mesh, T, K1.expand(len(T), 3, 3), (SIZE, SIZE))
        return tied(view.xyz, view.normal, view.mask, T, mesh.diameter, 1000)

    ahead = make_transform(torch.eye(3)[None], torch.tensor([[0.0, 0, 0.6]]))
    assert firmly(sphere(0.07), ahead) < 1e-3 and firmly(quad(0.05), ahead) < 1e-3
    assert (firmly(part, truths()) > 0.02).all() and (firmly(part, truths()) <= 1).all()
    away = make_transform(torch.eye(3)[None], torch.tensor([[9.0, 0, 0.6]]))
    assert firmly(part, away) == 0


@pytest.mark.parametrize("depth", [0.0, WALL + 1.0], ids=["empty", "far wall"])
def test_icp_without_the_object_in_depth_leaves_the_pose(part, render, depth):
    start = truths()
    found = icp(render(start), start, torch.full((4, SIZE, SIZE), depth), start, part.diameter)
    assert torch.equal(found, start)


def test_icp_of_an_object_out_of_view_leaves_the_pose(part, render):
    start = truths(1)
    start[:, 0, 3] = 5.0
    found = icp(render(start), start, torch.full((1, SIZE, SIZE), WALL), start, part.diameter)
    assert torch.equal(found, start)


def flow_case(render, wrong=0.0, certain=True):
    """Arguments of fit_depth: exact flow from the start to the truth, a share of it wrong."""
    T = truths()
    start = perturbed(T, 10, 0.01)
    view, K = render(start), K1.expand(len(T), 3, 3)
    xyz, valid = view.xyz[..., ::2, ::2], view.mask[:, None, ::2, ::2]
    h, w = xyz.shape[2:]
    target = project(transform_points(T, xyz.flatten(2).transpose(1, 2)), K).transpose(1, 2).unflatten(2, (h, w))
    bad = torch.rand(valid.shape, generator=torch.Generator().manual_seed(6)) < wrong
    target = torch.where(bad, target + 30, target)
    certainty = torch.where(bad, 0.1, 0.9) if certain else torch.full(valid.shape, 0.9)
    return T, start, (xyz, target, certainty, valid, measured(render(T), "holes"), K, start)


def fit(part, arguments):
    return fit_depth(*arguments, part.diameter, DepthOptions(), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("wrong, certain", [(0.0, True), (0.6, True), (0.4, False)])
def test_flow_and_depth_give_the_truth(part, render, wrong, certain):
    T, _, arguments = flow_case(render, wrong, certain)
    found, ratio, ok = fit(part, arguments)
    assert ok.all() and (ratio > 0.3).all()
    assert (surface_error(part, found, T) < 0.003).all()
    assert (rotation_angle(found[:, :3, :3], T[:, :3, :3]) < 0.05).all()


@pytest.mark.parametrize("spoil", ["depth", "certainty", "valid", "target"])
def test_unusable_input_keeps_the_start(part, render, spoil):
    _, start, arguments = flow_case(render)
    xyz, target, certainty, valid, depth, K, T_init = arguments
    if spoil == "depth":
        depth = torch.zeros_like(depth)
    elif spoil == "certainty":
        certainty = torch.full_like(certainty, 0.4)
    elif spoil == "valid":
        valid = torch.zeros_like(valid)
    else:
        target = torch.full_like(target, torch.nan)
    found, ratio, ok = fit(part, (xyz, target, certainty, valid, depth, K, T_init))
    assert not ok.any() and torch.equal(found, start) and not ratio.any()


def test_depth_is_read_at_the_nearest_pixel_and_nowhere_outside():
    depth = torch.arange(1.0, 13.0).reshape(1, 3, 4)
    pixels = torch.tensor([[[0.4, 0.4], [2.6, 1.2], [3.4, 2.4], [-0.6, 0.0], [0.0, 2.6], [torch.nan, 0.0]]])
    assert depth_at(depth, pixels).tolist() == [[1.0, 8.0, 12.0, 0.0, 0.0, 0.0]]


def test_agreement_by_hand():
    mask = torch.tensor([[[True, True, True, True, True, False]]])
    rendered = torch.ones(1, 1, 6)
    #                          agree, agree, nearer, farther, unmeasured, not rendered
    observed = torch.tensor([[[1.004, 0.996, 0.90, 1.10, 0.0, 1.0]]])
    shares = depth_shares(rendered, mask, observed, 0.005)
    assert [x.item() for x in (shares.agree, shares.hidden, shares.farther, shares.measured)] == pytest.approx(
        [0.5, 0.25, 0.25, 0.8])
    assert depth_agreement(shares).item() == pytest.approx(2 / 5.5)


def test_nothing_measured_agrees_with_nothing():
    mask = torch.ones(1, 2, 2, dtype=torch.bool)
    shares = depth_shares(torch.ones(1, 2, 2), mask, torch.zeros(1, 2, 2), 0.005)
    assert not any(x.any() for x in (shares.agree, shares.hidden, shares.farther, shares.measured))
    assert depth_agreement(shares).item() == 0


def test_agreement_prefers_the_truth(part, render):
    T = truths()
    depth, true, wrong = measured(render(T), "occluder"), render(T), render(perturbed(T, 15, 0.01))
    score, worse = (depth_agreement(depth_shares(r.depth, r.mask, depth, 0.005)) for r in (true, wrong))
    assert (score > worse + 0.2).all()


@pytest.mark.parametrize("offset", [-0.12, -0.03, 0.08])
def test_shift_brings_the_surface_to_the_measured_one(part, render, offset):
    T = truths()
    start = T.clone()
    start[:, :3, 3] *= 1 + offset
    view, depth = render(start), measured(render(T), "holes")
    moved = shift_to_depth(view.depth, view.mask, depth, K1.expand(4, 3, 3), start, part.diameter)
    region = render(T).mask
    within = shift_to_depth(view.depth, view.mask, depth, K1.expand(4, 3, 3), start, part.diameter, region)
    assert ((moved - T)[:, 2, 3].abs() < 0.02).all()
    assert ((within - T)[:, :3, 3].norm(dim=1) < 0.01).all()


def test_shift_without_depth_leaves_the_pose(part, render):
    T = truths()
    view = render(T)
    assert torch.equal(shift_to_depth(view.depth, view.mask, torch.zeros_like(view.depth),
                                      K1.expand(4, 3, 3), T, part.diameter), T)


def test_few_measured_pixels_say_little():
    """An object that gives no depth but at its outline, where its background is measured, is no worse than one that lies
    in the background and of which as little is measured."""
    mask = torch.ones(2, 10, 10, dtype=torch.bool)
    observed = torch.zeros(2, 10, 10)
    observed[:, 0] = 1.0  # a tenth, the background
    rendered = torch.tensor([0.8, 1.0])[:, None, None].expand(2, 10, 10)
    shares = depth_shares(rendered, mask, observed, 0.005)
    assert shares.agree.tolist() == [0, 1]
    said = believable(shares)
    assert said.agree[0] > 0.4 * said.agree[1] and depth_agreement(said)[0] > 0.2
    assert (said.agree + said.hidden + said.farther).tolist() == pytest.approx([1, 1])
    observed[:, :3] = 1.0
    enough = depth_shares(rendered, mask, observed, 0.005)
    assert believable(enough).agree.tolist() == enough.agree.tolist()
