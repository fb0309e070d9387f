"""The search for a detected object: starts of the coarse stages, matched, turned where looks repeat, refined."""

from __future__ import annotations

import numpy as np
import torch

from flowpose_ros.estimation.batches import join
from flowpose_ros.estimation.clock import Clock
from flowpose_ros.estimation.coarse_flow_vote import coarse_flow_vote
from flowpose_ros.estimation.coarse_gmm import coarse_gmm
from flowpose_ros.estimation.estimator_options import COARSE, REFINERS, EstimatorOptions
from flowpose_ros.estimation.hypotheses import Hypotheses
from flowpose_ros.estimation.judge import judge
from flowpose_ros.estimation.look import Look, Target
from flowpose_ros.estimation.match import match_poses
from flowpose_ros.estimation.refine_genflow import refine_genflow
from flowpose_ros.estimation.refine_refpose import refine_refpose
from flowpose_ros.estimation.select import SAME, best_of, distinct_best
from flowpose_ros.estimation.template_features import TemplateFeatures
from flowpose_ros.estimation.trail import Trail
from flowpose_ros.records import Detection


class Search:
    """One detection's search: what it looks for and by which options, and the trail of all poses looked at."""

    def __init__(self, target: Target, detection: Detection, options: EstimatorOptions, index: int, clock: Clock) -> None:
        """index: of the detection in its frame, for what is random; clock: told after each stage."""
        self.trail = Trail(lambda look: judge(target, look, options.fit, options.box_weight))
        self._target, self._detection, self._options, self._clock = target, detection, options, clock
        self._generator = torch.Generator().manual_seed(options.seed)
        self._draws = np.random.default_rng([options.seed, index])

    def run(self, templates: TemplateFeatures, turns: torch.Tensor) -> Trail:
        """The trail after all stages; turns [N,4,4] after which the object's shape looks the same."""
        matched, value = self._starts(templates)
        if self._options.turned and len(turns):
            matched, value = self._with_turned(matched, value, turns)
        self._refined(matched.take(best_of(value, self._options.updated)))
        return self.trail

    def _starts(self, templates: TemplateFeatures) -> tuple[Look, torch.Tensor]:
        """Matched hypotheses of the coarse stages and their scores; none is asked after one that seems right."""
        options, ends = self._options, []
        for name in COARSE[options.coarse]:
            found = self._coarse(name, templates)
            self._clock.lap("coarse")
            first = self._target.look(found.T_cam_obj)
            value = self.trail.judge(first)
            chosen = distinct_best(found.T_cam_obj.double().cpu().numpy(), value,
                                   self._target.shape.model.symmetries, options.hypotheses, SAME)
            ends.append(self._matched(first.take(chosen), value[chosen]))
            if ends[-1][1].max() >= options.sure:
                break
        return tuple(map(join, zip(*ends)))

    def _coarse(self, name: str, templates: TemplateFeatures) -> Hypotheses:
        """Hypotheses by the coarse stage of that name."""
        options = self._options
        if name == "flow_vote":
            return coarse_flow_vote(self._target, self._detection, templates, options.vote, options.fit, self._generator)
        return coarse_gmm(self._target, self._detection, templates, options.hypotheses, options.gmm, options.fit, self._draws)

    def _with_turned(self, matched: Look, value: torch.Tensor, turns: torch.Tensor) -> tuple[Look, torch.Tensor]:
        """The same with the likeliest of the poses that only print and colour tell from the best."""
        turned = self._target.look(matched.T_cam_obj[value.argmax()] @ turns)
        likeliness = self.trail.judge(turned)
        likely = best_of(likeliness, self._options.turned)
        return tuple(map(join, zip((matched, value), self._matched(turned.take(likely), likeliness[likely]))))

    def _matched(self, first: Look, value: torch.Tensor) -> tuple[Look, torch.Tensor]:
        """Looks at the matched poses of `first`, whose scores are `value`, and theirs."""
        options = self._options
        found = self.trail.add(match_poses(self._target, first, options.match, options.fit, self._generator), value)
        self._clock.lap("match")
        return found

    def _refined(self, first: Look) -> None:
        """Refine by each refiner, until one's poses seem right."""
        for name in REFINERS[self._options.refiner]:
            _, value = self.trail.add(self._refine(name, first))
            self._clock.lap("refine")
            if value.max() >= self._options.sure:
                break

    def _refine(self, name: str, first: Look) -> list[Look]:
        """Looks at better poses by the refiner of that name."""
        options = self._options
        if name == "refpose":
            return refine_refpose(self._target, first, options.refpose, options.fit, self._generator)
        return refine_genflow(self._target, first, options.genflow, options.fit, self._generator)
