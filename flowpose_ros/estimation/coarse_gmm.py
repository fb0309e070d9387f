"""GenFlow's coarse stage: score templates, then sample rotations around the best (GenFlow 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from flowpose_ros.estimation.box_start import best_starts, box_crop
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.hypotheses import Hypotheses
from flowpose_ros.estimation.look import Target
from flowpose_ros.estimation.networks import CROP_SIZE
from flowpose_ros.estimation.template_features import TemplateFeatures, score_templates, template_features
from flowpose_ros.geometry.rotations import perturb_rotations
from flowpose_ros.options import Options, option
from flowpose_ros.records import Detection
from flowpose_ros.rendering.templates import render_views

SIGMA_OF_SPACING = 0.9


@dataclass(frozen=True)
class GmmOptions(Options):
    """How many rotations are looked at, and how the second round is drawn."""

    samples: int = option(104, "rotations drawn around the best in the second round; 0 for none", low=0, high=2000)
    components: int = option(16, "best rotations of the first round that the second is drawn from", low=1, high=200)
    temperature: float = option(1.0, "of the components' weights, in logits", low=0.01, high=100.0)
    candidates: int = option(24, "best rotations that depth, where there is any, ranks again", low=1, high=500)
    apart_deg: float = option(12.0, "hypotheses are at least this far apart, degrees", low=0.0, high=90.0)


@torch.no_grad()
def coarse_gmm(target: Target, detection: Detection, first: TemplateFeatures, count: int, options: GmmOptions,
               depth_options: DepthOptions, rng: np.random.Generator) -> Hypotheses:
    """The `count` best hypotheses of a detection, at least `apart_deg` from each other.

    first: features of the object's templates. The second round is drawn from a mixture of Gaussians
    in the tangent space of the best rotations, weighted by their scores (GenFlow 3.1; the paper leaves the fit open).
    """
    networks = target.networks
    camera = box_crop(detection.box, target.frame.K)
    query = networks.flow.encode(target.frame.crop(camera))[1]
    rotations, logits = first.rotations, score_templates(first, query, networks)
    if options.samples:
        drawn = draw_rotations(rotations, logits, first.spacing, options, rng)
        second = template_features(render_views(target.shape.model.mesh, target.renderer, drawn, CROP_SIZE), networks)
        rotations = np.concatenate([rotations, second.rotations])
        logits = np.concatenate([logits, score_templates(second, query, networks)])
    return best_starts(target, detection, camera, rotations, logits, count, options.candidates, options.apart_deg,
                       depth_options)


def draw_rotations(rotations: np.ndarray, logits: np.ndarray, spacing: float, options: GmmOptions,
                   rng: np.random.Generator) -> np.ndarray:
    """Rotations [samples,3,3] of the second round."""
    best = np.argsort(-logits)[:options.components]
    weight = np.exp((logits[best] - logits[best].max()) / options.temperature)
    component = rng.choice(best, options.samples, p=weight / weight.sum())
    return perturb_rotations(rotations[component], SIGMA_OF_SPACING * spacing, rng)
