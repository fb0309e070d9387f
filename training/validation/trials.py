"""One start of one case: what refinement makes of it, and how good the flow is that the network sees there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.judge import judge, trust
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.match import MatchOptions, match_poses
from flowpose_ros.estimation.networks import Networks
from flowpose_ros.estimation.refine import LoopOptions
from flowpose_ros.estimation.refine_genflow import last_update, refine_genflow
from flowpose_ros.estimation.refine_refpose import RefPoseOptions, refine_refpose
from flowpose_ros.estimation.settle import SettleOptions, settled
from flowpose_ros.estimation.support import flow_support
from flowpose_ros.estimation.trail import Trail
from flowpose_ros.estimation.views import FrameTensors, Shape
from flowpose_ros.evaluation.metrics import add_s
from flowpose_ros.geometry.camera import sample_crop
from flowpose_ros.rendering.renderer import Renderer
from training.perturb import moved_pose, nominal_pose, turn_by
from training.targets import FlowTarget, flow_target
from training.validation.cases import Case, farthest
from training.validation.measures import FlowErrors, flow_errors

ANGLES = (5, 10, 20, 30, 45, 60)
NOMINAL = "nominal"

Start = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]
Refiner = Callable[[Target, Look, DepthOptions, torch.Generator], list[Look]]
REFINERS: dict[str, Refiner] = {
    "genflow": lambda target, first, *rest: refine_genflow(target, first, LoopOptions(), *rest),
    "refpose": lambda target, first, *rest: refine_refpose(target, first, RefPoseOptions(), *rest)}


@dataclass(frozen=True)
class Answer:
    """What came of a start: ADD-S before and after refinement and MSSD after it, shares of the diameter; the answer's
    score in [0,1]."""

    before: float
    after: float
    mssd: float
    score: float


def starts() -> dict[str, Start]:
    """The kinds of starts: the papers' noise, and fixed angles about any axis with its translation."""
    def turned(degrees: int) -> Start:
        return lambda T, center, diameter, rng: moved_pose(
            T, center, diameter, turn_by(np.radians(degrees), rng), 1.0, rng)

    return {NOMINAL: nominal_pose, **{f"{degrees} deg": turned(degrees) for degrees in ANGLES}}


def start_of(case: Case, start: Start, seed: int, index: int) -> np.ndarray:
    """The start [4,4] of case `index`, the same for every refiner, with depth and without."""
    mesh = case.model.mesh
    return start(case.T_cam_obj, mesh.center, mesh.diameter, np.random.default_rng([seed, index]))


def look_at(case: Case, T_init: np.ndarray, depth: bool, networks: Networks, renderer: Renderer) -> tuple[Target, Look]:
    """A case's object as it is sought, and the look at a start [4,4] of it."""
    tensors = FrameTensors.of(case.frame, depth, networks.device)
    target = Target(tensors, Shape.of(case.model, networks.device), networks, renderer)
    return target, target.look(torch.from_numpy(T_init)[None].float().to(networks.device))


def refined(case: Case, T_init: np.ndarray, refiner: Refiner, depth: bool, networks: Networks, renderer: Renderer
            ) -> Answer:
    """What refinement answers from a start [4,4].

    As in estimation the answer is the pose that is judged best of all looked at, the start included, and settled.
    """
    target, first = look_at(case, T_init, depth, networks, renderer)
    generator = torch.Generator().manual_seed(0)
    trail = Trail(lambda look: judge(target, look, DepthOptions()))
    matched, _ = trail.add(match_poses(target, first, MatchOptions(), DepthOptions(), generator))
    trail.add(refiner(target, matched, DepthOptions(), generator))
    answer = settled(target, trail, SettleOptions(), DepthOptions())
    mesh, T = case.model.mesh, answer.T_cam_obj[0].double().cpu().numpy()
    points = mesh.surface_points(500)
    before, after = (add_s(pose, case.T_cam_obj, points) / mesh.diameter for pose in (T_init, T))
    score = float(trust(target, answer, flow_support(target, answer).spread, DepthOptions()))
    return Answer(before, after, farthest(case.model, T, case.T_cam_obj), score)


@torch.no_grad()
def flow_of(case: Case, T_init: np.ndarray, networks: Networks, renderer: Renderer) -> FlowErrors | None:
    """How good the last update of the network's first pass is from a start [4,4], without depth; None where nothing
    tells where the image shows the object."""
    if case.seen is None:
        return None
    target, look = look_at(case, T_init, False, networks, renderer)
    truth = true_flow(case, look, renderer)
    flow, visible = (torch.from_numpy(x)[None].to(networks.device) for x in (truth.flow, truth.visible))
    return flow_errors(last_update(target, look).field, flow, visible, look.views.rendering.mask)


def true_flow(case: Case, look: Look, renderer: Renderer) -> FlowTarget:
    """The true flow of a look at one pose of a case, to the symmetric equivalent of the truth that is nearest."""
    views, drawn, mesh = look.views, look.views.rendering.to("cpu"), case.model.mesh
    T_near = case.model.symmetries.nearest(case.T_cam_obj, look.T_cam_obj[0].double().cpu().numpy())
    T_gt = views.camera.to_crop(torch.from_numpy(T_near).to(look.T_cam_obj)[None])
    K = torch.from_numpy(case.frame.K).to(T_gt)
    depth = renderer.render(mesh, T_gt, views.camera.K, drawn.mask.shape[1:]).depth
    seen = sample_crop(torch.from_numpy(case.seen)[None].to(T_gt), views.camera, K, mode="nearest")[:, 0]
    depth, T_init, T_gt, K = (x[0].cpu().numpy() for x in (depth * seen, views.T_crop_obj, T_gt, views.camera.K))
    return flow_target(*(x[0].numpy() for x in (drawn.xyz, drawn.normal, drawn.mask)), depth, T_init, T_gt, K,
                       2 * mesh.radius)
