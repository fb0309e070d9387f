"""GenFlow's coarse stage: score templates, then sample rotations around the best (GenFlow 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from flowpose_ros.estimation.agreement import colour_agreement
from flowpose_ros.estimation.depth import DepthOptions, depth_agreement, depth_shares, shift_to_depth
from flowpose_ros.estimation.icp import refine_icp
from flowpose_ros.estimation.look import Target
from flowpose_ros.estimation.networks import CROP_SIZE, Networks
from flowpose_ros.estimation.select import best_of
from flowpose_ros.estimation.views import Shape
from flowpose_ros.geometry.box import translation_from_box
from flowpose_ros.geometry.camera import CropCamera, crop_around
from flowpose_ros.geometry.crops import PADDING
from flowpose_ros.geometry.rotations import angles_between, mean_nearest_angle, perturb_rotations
from flowpose_ros.geometry.transforms import make_transform
from flowpose_ros.networks.scorer import cell_cover
from flowpose_ros.options import option
from flowpose_ros.records import Detection, Hypothesis
from flowpose_ros.rendering.templates import Templates, render_views

ENCODE_CHUNK = 26
RANK_SIZE = 64
"""Side in pixels of the crops in which depth ranks rotations: shape needs fewer than texture."""
SIGMA_OF_SPACING = 0.9


@dataclass(frozen=True)
class GmmOptions:
    """How many rotations are looked at, and how the second round is drawn."""

    templates: int = option(104, "evenly spread rotations of the first round", low=12, high=2000, runtime=False)
    samples: int = option(104, "rotations drawn around the best in the second round; 0 for none", low=0, high=2000)
    components: int = option(16, "best rotations of the first round that the second is drawn from", low=1, high=200)
    temperature: float = option(1.0, "of the components' weights, in logits", low=0.01, high=100.0)
    candidates: int = option(24, "best rotations that depth, where there is any, ranks again", low=1, high=500)
    apart_deg: float = option(12.0, "hypotheses are at least this far apart, degrees", low=0.0, high=90.0)


@dataclass(frozen=True)
class TemplateFeatures:
    """Templates as the scorer sees them: rotations [N,3,3] float64, features [N,C,h,w], cover [N,1,h,w]."""

    rotations: np.ndarray
    features: torch.Tensor
    cover: torch.Tensor
    spacing: float


def box_crop(box: np.ndarray, K: torch.Tensor) -> CropCamera:
    """The crop of a detection: along the ray of the box's middle, PADDING times its longer half."""
    left, top, right, bottom = box.tolist()
    focal = torch.stack([K[0, 0], K[1, 1]])
    middle = (K.new_tensor([(left + right) / 2, (top + bottom) / 2]) - K[:2, 2]) / focal
    half = (K.new_tensor([right - left, bottom - top]) / 2 / focal).max()
    # Seen from off the axis a box looks smaller than its pixels say.
    half = half / (1 + middle.square().sum())
    rays = torch.cat([middle, torch.ones_like(middle[:1])])[None]
    return crop_around(rays, PADDING * half[None], CROP_SIZE)


@torch.no_grad()
def template_features(templates: Templates, networks: Networks) -> TemplateFeatures:
    """Features of templates; the scorer compares these, so they can be computed beforehand."""
    features = [networks.flow.encode(rgb.to(networks.device).float() / 255)[1]
                for rgb in templates.rgb.split(ENCODE_CHUNK)]
    rotations = templates.rotations.double().numpy()
    return TemplateFeatures(rotations, torch.cat(features), cell_cover(templates.mask.to(networks.device)),
                            mean_nearest_angle(rotations))


@torch.no_grad()
def score_templates(seen: TemplateFeatures, query: torch.Tensor, networks: Networks) -> np.ndarray:
    """Logits [N] of templates against query features [1,C,h,w]."""
    logits = [networks.scorer(f.float(), c, query.float())
              for f, c in zip(seen.features.split(ENCODE_CHUNK), seen.cover.split(ENCODE_CHUNK))]
    return torch.cat(logits).double().cpu().numpy()


@torch.no_grad()
def coarse_gmm(target: Target, detection: Detection, first: TemplateFeatures, count: int, options: GmmOptions,
               depth_options: DepthOptions, rng: np.random.Generator) -> list[Hypothesis]:
    """The `count` best hypotheses of a detection, best first, at least `apart_deg` from each other.

    first: features of the object's templates. The second round is drawn from a mixture of Gaussians
    in the tangent space of the best rotations, weighted by their scores (METHOD A.4).
    """
    frame, shape, networks = target.frame, target.shape, target.networks
    camera = box_crop(detection.box, frame.K)
    query = networks.flow.encode(frame.crop(camera))[1]
    rotations, logits = first.rotations, score_templates(first, query, networks)
    if options.samples:
        drawn = draw_rotations(rotations, logits, first.spacing, options, rng)
        second = template_features(render_views(shape.model.mesh, target.renderer, drawn, CROP_SIZE), networks)
        rotations = np.concatenate([rotations, second.rotations])
        logits = np.concatenate([logits, score_templates(second, query, networks)])
    wanted = count if frame.depth is None else max(count, options.candidates)
    chosen = spread_best(rotations, logits, wanted, np.radians(options.apart_deg))
    T = place(detection, frame.K, shape, rotations[chosen], camera)
    match = torch.from_numpy(1 / (1 + np.exp(-logits[chosen]))).float().to(T.device)
    if frame.depth is not None:
        T, match = rank_by_depth(target, T, match, depth_options)
    return [Hypothesis(T[i].double().cpu().numpy(), float(match[i])) for i in best_of(match, count).tolist()]


def rank_by_depth(target: Target, T_cam_obj: torch.Tensor, match: torch.Tensor,
                  options: DepthOptions) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses [B,4,4] shifted and fitted to the depth, and their scores [B] with its agreement.

    A template net sees little of the shape at 128 pixels; depth sees it well once the pose is fitted.
    """
    frame, diameter = target.frame, target.shape.diameter
    views = target.render(T_cam_obj, RANK_SIZE)
    r, observed = views.rendering, frame.depth_crop(views.camera)
    T = shift_to_depth(r.depth, r.mask, observed, views.camera.K, views.T_crop_obj, diameter)
    # Moved along its ray an object shows nearly the same surface: no new render for the fit.
    fitted = refine_icp(r.xyz, r.normal, r.mask, views.T_crop_obj, observed, views.camera.K, T, diameter, options)
    views = target.render(views.camera.to_camera(fitted), RANK_SIZE)
    r = views.rendering
    agreement = depth_agreement(depth_shares(r.depth, r.mask, frame.depth_crop(views.camera),
                                             2 * options.inlier_distance(diameter)))
    colour = colour_agreement(r.rgb, r.mask, frame.crop(views.camera), cell=2)
    return views.camera.to_camera(views.T_crop_obj), match.sqrt() * colour * agreement.square()


def draw_rotations(rotations: np.ndarray, logits: np.ndarray, spacing: float, options: GmmOptions,
                   rng: np.random.Generator) -> np.ndarray:
    """Rotations [samples,3,3] of the second round."""
    best = np.argsort(-logits)[:options.components]
    weight = np.exp((logits[best] - logits[best].max()) / options.temperature)
    component = rng.choice(best, options.samples, p=weight / weight.sum())
    return perturb_rotations(rotations[component], SIGMA_OF_SPACING * spacing, rng)


def spread_best(rotations: np.ndarray, logits: np.ndarray, count: int, apart: float) -> list[int]:
    """Indices of the best rotations, none nearer than `apart` radians to a better one."""
    kept: list[int] = []
    for i in np.argsort(-logits, kind="stable"):
        if not kept or angles_between(rotations[i:i + 1], rotations[kept]).min() >= apart:
            kept.append(int(i))
        if len(kept) == count:
            break
    return kept


def place(detection: Detection, K: torch.Tensor, shape: Shape, R_crop_obj: np.ndarray,
          camera: CropCamera) -> torch.Tensor:
    """T_cam_obj [n,4,4] of rotations in the detection's crop that fill its box; K [3,3] of the image."""
    left, top, right, bottom = detection.box.tolist()
    K_crop = camera.K[0]
    pixels = K_crop[0, 0] * camera_scale(camera)
    half = torch.stack([(right - left) / 2 / K[0, 0] * pixels, (bottom - top) / 2 / K[1, 1] * pixels])
    middle = K_crop[:2, 2]
    R = torch.from_numpy(R_crop_obj).float().to(K.device)
    t = translation_from_box(shape.points, R, torch.cat([middle - half, middle + half]), K_crop)
    return camera.to_camera(make_transform(R, t))


def camera_scale(camera: CropCamera) -> torch.Tensor:
    """How much smaller a box looks along the crop's axis than along the camera's (see `box_crop`)."""
    return camera.R_crop_cam[0, 2, 2].square()
