"""Templates as the scorer sees them: features made once for each object, kept on disk, and compared with a query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flowpose_ros.cache import kept
from flowpose_ros.estimation.networks import CROP_SIZE, Networks
from flowpose_ros.geometry.rotations import angles_between, mean_nearest_angle
from flowpose_ros.networks.scorer import cell_cover
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.renderer import Renderer
from flowpose_ros.rendering.templates import Templates, load_templates

CHUNK = 26
VERSION = "2"
"""Change it when the same networks come to give other features of the same templates."""


@dataclass(frozen=True)
class TemplateFeatures:
    """N templates: rotations [N,3,3] float64 (object to crop camera), features [N,C,h,w] float16, and the share
    [N,1,h,w] of each cell that the object covers; spacing: mean angle to the nearest neighbour, radians."""

    rotations: np.ndarray
    features: torch.Tensor
    cover: torch.Tensor
    spacing: float


@torch.no_grad()
def template_features(templates: Templates, networks: Networks) -> TemplateFeatures:
    """Features of templates, on the networks' device."""
    features = [networks.flow.encode(rgb.to(networks.device).float() / 255)[1].half()
                for rgb in templates.rgb.split(CHUNK)]
    rotations = templates.rotations.double().numpy()
    return TemplateFeatures(rotations, torch.cat(features), cell_cover(templates.mask.to(networks.device)),
                            mean_nearest_angle(rotations))


def load_template_features(mesh: Mesh, renderer: Renderer, networks: Networks, count: int, cache: Path,
                           progress: Callable[[float], None] | None = None) -> TemplateFeatures:
    """Features of `count` evenly spread templates of a mesh, from `cache` if it holds those of this very mesh and of
    these weights."""
    def make() -> dict[str, torch.Tensor]:
        made = template_features(load_templates(mesh, renderer, count, CROP_SIZE, cache, progress), networks)
        return {"rotations": torch.from_numpy(made.rotations), "features": made.features, "cover": made.cover}

    stored = kept(cache / "features", f"{VERSION} {mesh.content_hash} {networks.fingerprint} {count} {CROP_SIZE}", make)
    rotations = stored["rotations"].numpy()
    return TemplateFeatures(rotations, stored["features"].to(networks.device), stored["cover"].to(networks.device),
                            mean_nearest_angle(rotations))


@torch.no_grad()
def score_templates(seen: TemplateFeatures, query: torch.Tensor, networks: Networks) -> np.ndarray:
    """Logits [N] of templates against query features [1,C,h,w]."""
    logits = [networks.scorer(f.float(), c, query.float())
              for f, c in zip(seen.features.split(CHUNK), seen.cover.split(CHUNK))]
    return torch.cat(logits).double().cpu().numpy()


def spread_best(rotations: np.ndarray, logits: np.ndarray, count: int, apart: float) -> list[int]:
    """Indices of the best rotations, best first, none nearer than `apart` radians to a better one."""
    chosen: list[int] = []
    for i in np.argsort(-logits, kind="stable"):
        if not chosen or angles_between(rotations[i:i + 1], rotations[chosen]).min() >= apart:
            chosen.append(int(i))
        if len(chosen) == count:
            break
    return chosen
