"""The way as a whole: a frame and its detections in, poses out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from flowpose_ros.cache import cache_folder
from flowpose_ros.errors import DetectionError, FlowposeError, OptionError
from flowpose_ros.estimation.batches import is_memory_shortage, join
from flowpose_ros.estimation.coarse_flow_vote import FlowVoteOptions, coarse_flow_vote
from flowpose_ros.estimation.coarse_gmm import GmmOptions, coarse_gmm
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.hypotheses import Hypotheses
from flowpose_ros.estimation.judge import judge, trust
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.match import MatchOptions, match_poses
from flowpose_ros.estimation.memory import give_back_memory
from flowpose_ros.estimation.networks import Networks, load_networks
from flowpose_ros.estimation.refine import LoopOptions
from flowpose_ros.estimation.refine_genflow import refine_genflow
from flowpose_ros.estimation.refine_refpose import RefPoseOptions, refine_refpose
from flowpose_ros.estimation.rehearsal import rehearsal
from flowpose_ros.estimation.select import SAME, best_of, distinct_best, rigid, symmetric
from flowpose_ros.estimation.settle import SettleOptions, settled
from flowpose_ros.estimation.support import flow_support
from flowpose_ros.estimation.template_features import TemplateFeatures, load_template_features
from flowpose_ros.estimation.trail import Trail
from flowpose_ros.estimation.turns import shape_turns
from flowpose_ros.estimation.views import FrameTensors, Shape
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.options import Options, option
from flowpose_ros.records import Detection, Dropped, Frame, FrameResult, PoseEstimate
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.renderer import Renderer
from flowpose_ros.rendering.renderers import renderer_for

MIN_BOX = 8.0
"""Boxes with a shorter side, in pixels, show too little of an object."""

COARSE = {"gmm": ("gmm",), "flow_vote": ("flow_vote",), "auto": ("flow_vote", "gmm")}
REFINERS = {"genflow": ("genflow",), "refpose": ("refpose",), "auto": ("genflow", "refpose")}
"""Stages that each choice asks, in this order; auto asks the second where the best pose of the first is in doubt."""


@dataclass(frozen=True)
class EstimatorOptions(Options):
    """What a user chooses; the stages' own options are nested."""

    coarse: str = option("auto", "coarse stage: GenFlow's, RefPose's, or RefPose's and then GenFlow's where in doubt",
                         choices=tuple(COARSE), runtime=False)
    refiner: str = option("genflow", "refinement: GenFlow's, RefPose's, or GenFlow's and then RefPose's where in doubt",
                          choices=tuple(REFINERS), runtime=False)
    depth: str = option("auto", "use depth: if there is any, always, or never", choices=("auto", "on", "off"),
                        runtime=False)
    sure: float = option(0.5, "how right a pose must seem for auto to ask no other stage", low=0.0, high=1.0)
    templates: int = option(128, "evenly spread views of each object that detections are compared with", low=12,
                            high=2000, runtime=False)
    hypotheses: int = option(5, "hypotheses that are matched for each detection", low=1, high=64)
    turned: int = option(2, "poses that only print and colour tell from the best match, matched as well; 0 for none",
                         low=0, high=24)
    updated: int = option(3, "of these, the best after matching that the flow updates", low=1, high=64)
    box_weight: float = option(1.0, "how much it speaks against a pose that its box is off the detection's, for each side; "
                                    "less for detectors that are often off by more than a tenth, 0 for not at all",
                               low=0.0, high=10.0)
    score_threshold: float = option(0.0, "poses with a lower score are dropped", low=0.0, high=1.0)
    seed: int = option(0, "of everything random; equal seeds give equal poses", low=0)
    device: str = option("auto", "where the networks run", choices=("auto", "cpu", "cuda"), runtime=False)
    weights: str = option("", "folder of weights; the shipped ones if empty", runtime=False)
    gmm: GmmOptions = field(default_factory=GmmOptions)
    vote: FlowVoteOptions = field(default_factory=FlowVoteOptions)
    match: MatchOptions = field(default_factory=MatchOptions)
    genflow: LoopOptions = field(default_factory=LoopOptions)
    refpose: RefPoseOptions = field(default_factory=RefPoseOptions)
    settle: SettleOptions = field(default_factory=SettleOptions)
    fit: DepthOptions = field(default_factory=DepthOptions)


@dataclass(frozen=True)
class Prepared:
    """What estimation needs of an object: its shape, the features of its templates, and its turns (`shape_turns`)."""

    shape: Shape
    templates: TemplateFeatures
    turns: torch.Tensor


class Estimator:
    """Poses of catalogue objects; `options` may be replaced between frames."""

    def __init__(self, catalogue: Catalogue, options: EstimatorOptions = EstimatorOptions()) -> None:
        """Load the networks. Raises OptionError, or WeightsError also when the refiner asked for is not there."""
        if options.device == "cuda" and not torch.cuda.is_available():
            raise OptionError("device", "expected a CUDA device, found none; use cpu or auto")
        self.catalogue, self.options = catalogue, options
        self._networks = load_networks(options.weights, options.device)
        if "refpose" in REFINERS[options.refiner]:
            self._networks.need_geometry()
        self._renderer = self.renderer()
        self._prepared: dict[str, Prepared] = {}

    @property
    def networks(self) -> Networks:
        """What it estimates with."""
        return self._networks

    def renderer(self) -> Renderer:
        """A renderer where the networks run, for one thread."""
        return renderer_for(self._networks.device)

    def warm_up(self, progress: Callable[[str, float], None] | None = None) -> None:
        """Prepare every object's templates and features; progress gets the object and the share done. On a GPU one of
        them is estimated, so that the first image does not wait for what this records."""
        labels = self.catalogue.labels
        for i, label in enumerate(labels):
            def report(share: float, i: int = i, label: str = label) -> None:
                if progress is not None:
                    progress(label, (i + share) / len(labels))

            report(0.0)
            self._prepare(label, report)
            report(1.0)
        if labels and self._networks.device.type == "cuda":
            frame, detection = rehearsal(self._prepare(labels[0]).shape, self._renderer)
            self.estimate(frame, [detection])

    def _prepare(self, label: str, progress: Callable[[float], None] | None = None) -> Prepared:
        model = self.catalogue[label]
        if model.label not in self._prepared:
            self._prepared[model.label] = Prepared(
                Shape.of(model, self._networks.device),
                load_template_features(model.mesh, self._renderer, self._networks, self.options.templates,
                                       cache_folder(), progress),
                shape_turns(model, RaycastRenderer()).to(self._networks.device))
        return self._prepared[model.label]

    def estimate(self, frame: Frame, detections: Sequence[Detection]) -> FrameResult:
        """A pose for each detection; one that gets none is in `dropped`, with the reason."""
        options = self.options
        tensors = FrameTensors.of(frame, options.depth != "off", self._networks.device)
        estimates: list[PoseEstimate] = []
        dropped: list[Dropped] = []
        timings: dict[str, float] = {}
        if options.depth == "on" and tensors.depth is None:
            return FrameResult((), tuple(Dropped(d, "depth_missing", f"{d.label}: depth: expected with every frame, got no "
                                                                "valid pixel") for d in detections))
        for index, detection in enumerate(detections):
            try:
                estimate = self._estimate_one(tensors, frame, detection, index, timings)
            except Exception as error:
                short = is_memory_shortage(error)
                if not (short or isinstance(error, FlowposeError)):
                    raise
                named = f"{detection.label}: {str(error).removeprefix(f'{detection.label}: ')}"
                dropped.append(Dropped(detection, "out_of_memory" if short else "unusable_detection", named))
                continue
            if estimate.score < options.score_threshold:
                dropped.append(Dropped(detection, "low_score", f"{detection.label}: score {estimate.score:.2f}, "
                                                               f"threshold {options.score_threshold:.2f}"))
            else:
                estimates.append(estimate)
        give_back_memory()
        return FrameResult(tuple(estimates), tuple(dropped), timings)

    def targets(self, frame: Frame, labels: Sequence[str], renderer: Renderer) -> list[Target]:
        """Objects to look for in a frame, with a renderer of the calling thread's own."""
        tensors = FrameTensors.of(frame, self.options.depth != "off", self._networks.device)
        return [Target(tensors, self._prepare(label).shape, self._networks, renderer) for label in labels]

    def judge(self, frame: Frame, label: str, T_cam_obj: np.ndarray) -> float:
        """The score in [0,1] that `estimate` would give a pose [4,4] of an object in a frame."""
        target = self.targets(frame, [label], self._renderer)[0]
        look = target.look(torch.from_numpy(T_cam_obj).float()[None].to(self._networks.device))
        return float(trust(target, look, flow_support(target, look).spread, self.options.fit)[0])

    def _estimate_one(self, tensors: FrameTensors, frame: Frame, detection: Detection, index: int,
                      timings: dict[str, float]) -> PoseEstimate:
        seen, clock = check_detection(detection, frame), Clock(timings)
        target, trail = self._search(tensors, seen, index, clock)
        answer = settled(target, trail, self.options.settle, self.options.fit)
        support = flow_support(target, answer)
        score = float(trust(target, answer, support.spread, self.options.fit))
        T_cam_obj = rigid(answer.T_cam_obj[0].double().cpu().numpy())
        model = target.shape.model
        check_in_front(T_cam_obj, model.mesh, detection.label)
        clock.lap("select")
        instance = detection.instance if detection.instance is not None else index
        covariance = symmetric(support.covariance[0].double().cpu().numpy())
        return PoseEstimate(model.label, instance, T_cam_obj, score, covariance, detection)

    def trail(self, frame: Frame, detection: Detection) -> tuple[Target, Trail]:
        """All poses that `estimate` looks at for the first detection of a frame, the settled answer
        included; raises DetectionError as `check_detection` does."""
        tensors = FrameTensors.of(frame, self.options.depth != "off", self._networks.device)
        target, trail = self._search(tensors, check_detection(detection, frame), 0, Clock({}))
        settled(target, trail, self.options.settle, self.options.fit)
        return target, trail

    def _search(self, tensors: FrameTensors, detection: Detection, index: int, clock: Clock) -> tuple[Target, Trail]:
        """The object of a detection in a frame, and the poses of it that were looked at."""
        options = self.options
        prepared = self._prepare(detection.label)
        clock.lap("prepare")
        shape = prepared.shape
        box = torch.from_numpy(detection.box).float().to(tensors.K.device)
        target = Target(tensors, shape, self._networks, self._renderer, box)
        generator = torch.Generator().manual_seed(options.seed)
        trail = Trail(lambda look: judge(target, look, options.fit, options.box_weight))
        ends = []
        for coarse in COARSE[options.coarse]:
            found = self._coarse(coarse, target, detection, prepared.templates, index, generator)
            clock.lap("coarse")
            first = target.look(found.T_cam_obj)
            value = trail.judge(first)
            chosen = distinct_best(found.T_cam_obj.double().cpu().numpy(), value, shape.model.symmetries,
                                   options.hypotheses, SAME)
            ends.append(trail.add(match_poses(target, first.take(chosen), options.match, options.fit, generator),
                                  value[chosen]))
            clock.lap("match")
            if ends[-1][1].max() >= options.sure:
                break
        last, value = map(join, zip(*ends))
        if options.turned and len(prepared.turns):
            turned = target.look(last.T_cam_obj[value.argmax()] @ prepared.turns)
            likeliness = trail.judge(turned)
            likely = best_of(likeliness, options.turned)
            ends = (last, value), trail.add(match_poses(target, turned.take(likely), options.match, options.fit,
                                                        generator), likeliness[likely])
            last, value = map(join, zip(*ends))
            clock.lap("match")
        best = last.take(best_of(value, options.updated))
        for refiner in REFINERS[options.refiner]:
            _, value = trail.add(self._refine(refiner, target, best, generator))
            clock.lap("refine")
            if value.max() >= options.sure:
                break
        return target, trail

    def _coarse(self, name: str, target: Target, detection: Detection, templates: TemplateFeatures, index: int,
                generator: torch.Generator) -> Hypotheses:
        """Hypotheses of a detection by the coarse stage of that name."""
        options = self.options
        if name == "flow_vote":
            return coarse_flow_vote(target, detection, templates, options.vote, options.fit, generator)
        return coarse_gmm(target, detection, templates, options.hypotheses, options.gmm, options.fit,
                          np.random.default_rng([options.seed, index]))

    def _refine(self, name: str, target: Target, first: Look, generator: torch.Generator) -> list[Look]:
        """Looks at better poses by the refiner of that name."""
        options = self.options
        if name == "refpose":
            return refine_refpose(target, first, options.refpose, options.fit, generator)
        return refine_genflow(target, first, options.genflow, options.fit, generator)


class Clock:
    """Adds the time between laps to a table of stages."""

    def __init__(self, timings: dict[str, float]) -> None:
        self._timings, self._last = timings, time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap to a stage, in seconds."""
        now = time.perf_counter()
        self._timings[stage] = self._timings.get(stage, 0.0) + now - self._last
        self._last = now


def check_detection(detection: Detection, frame: Frame) -> Detection:
    """The detection with its box clipped to the image; raises DetectionError where too little is left of it, or its
    mask is not of the image's size."""
    box = np.asarray(detection.box, dtype=np.float64)
    height, width = frame.image.shape[:2]
    if box.shape != (4,) or not np.isfinite(box).all():
        raise DetectionError(f"{detection.label}: box: expected 4 finite numbers, got {box.tolist()}")
    if detection.mask is not None and detection.mask.shape != (height, width):
        raise DetectionError(f"{detection.label}: mask: expected {width} x {height} pixels as the image has, got "
                             f"{' x '.join(map(str, reversed(detection.mask.shape)))}")
    clipped = box.clip(-0.5, np.array([width, height, width, height]) - 0.5)
    if (clipped[2:] - clipped[:2] < MIN_BOX).any():
        raise DetectionError(f"{detection.label}: box: expected at least {MIN_BOX:.0f} pixels a side inside the "
                             f"{width} x {height} image, got {box.tolist()}")
    return replace(detection, box=clipped)


def check_in_front(T_cam_obj: np.ndarray, mesh: Mesh, label: str) -> None:
    """Raise DetectionError unless a posed object [4,4] has its centre farther than its radius before the camera."""
    z = T_cam_obj[2, :3] @ mesh.center + T_cam_obj[2, 3]
    if not z > mesh.radius:
        raise DetectionError(f"{label}: pose: expected its centre farther than its radius of {mesh.radius:.3f} m "
                             f"in front of the camera, got z = {z:.3f} m")
