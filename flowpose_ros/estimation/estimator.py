"""The way as a whole: a frame and its detections in, poses out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from flowpose_ros.cache import cache_folder
from flowpose_ros.errors import FlowposeError, OptionError
from flowpose_ros.estimation.batches import is_memory_shortage
from flowpose_ros.estimation.checks import check_detection, check_in_front
from flowpose_ros.estimation.clock import Clock
from flowpose_ros.estimation.estimator_options import REFINERS, EstimatorOptions
from flowpose_ros.estimation.judge import trust
from flowpose_ros.estimation.look import Target
from flowpose_ros.estimation.memory import give_back_memory
from flowpose_ros.estimation.networks import Networks, load_networks
from flowpose_ros.estimation.rehearsal import rehearsal
from flowpose_ros.estimation.search import Search
from flowpose_ros.estimation.select import rigid, symmetric
from flowpose_ros.estimation.settle import settled
from flowpose_ros.estimation.support import flow_support
from flowpose_ros.estimation.template_features import TemplateFeatures, load_template_features
from flowpose_ros.estimation.trail import Trail
from flowpose_ros.estimation.turns import shape_turns
from flowpose_ros.estimation.views import FrameTensors, Shape
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.records import Detection, Dropped, Frame, FrameResult, PoseEstimate
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.renderer import Renderer
from flowpose_ros.rendering.renderers import renderer_for

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
                estimate = self._estimate_one(tensors, frame, detection, options, index, timings)
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

    def _estimate_one(self, tensors: FrameTensors, frame: Frame, detection: Detection, options: EstimatorOptions, index: int,
                      timings: dict[str, float]) -> PoseEstimate:
        clock = Clock(timings)
        target, trail = self._search(tensors, check_detection(detection, frame), options, index, clock)
        answer = settled(target, trail, options.settle, options.fit)
        support = flow_support(target, answer)
        score = float(trust(target, answer, support.spread, options.fit))
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
        options = self.options
        tensors = FrameTensors.of(frame, options.depth != "off", self._networks.device)
        target, trail = self._search(tensors, check_detection(detection, frame), options, 0, Clock({}))
        settled(target, trail, options.settle, options.fit)
        return target, trail

    def _search(self, tensors: FrameTensors, detection: Detection, options: EstimatorOptions, index: int, clock: Clock
                ) -> tuple[Target, Trail]:
        """The object of a detection in a frame, and the poses of it that were looked at."""
        prepared = self._prepare(detection.label)
        clock.lap("prepare")
        box = torch.from_numpy(detection.box).float().to(tensors.K.device)
        target = Target(tensors, prepared.shape, self._networks, self._renderer, box)
        return target, Search(target, detection, options, index, clock).run(prepared.templates, prepared.turns)
