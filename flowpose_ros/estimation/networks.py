"""The networks of an estimator, loaded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from flowpose_ros.errors import WeightsError
from flowpose_ros.networks.flow import GenFlow, GenFlowConfig
from flowpose_ros.networks.pose_score import PoseScore, PoseScoreConfig
from flowpose_ros.networks.scorer import Scorer, ScorerConfig
from flowpose_ros.networks.weights import file_hash, load_network, shipped_folder

CROP_SIZE = 128
"""Side in pixels of the crops that the shipped weights were trained on."""


@dataclass(frozen=True)
class Networks:
    """flow: the refiner and its features; scorer: compares templates with the query; fingerprint: the hash of the
    features' weights."""

    flow: GenFlow
    scorer: Scorer
    device: torch.device
    fingerprint: str


def load_networks(folder: str, device: str) -> Networks:
    """Networks from a folder of weights ("" for the shipped ones) on "cpu", "cuda" or "auto".

    The refiner is the one file genflow_*.safetensors, of whatever size. Raises WeightsError when a file is missing,
    broken or of another kind, or when there are several refiners.
    """
    root = _root(folder)
    chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    flow = load_network(_refiner(root), "genflow", GenFlowConfig, GenFlow)
    scorer = load_network(root / "scorer.safetensors", "scorer", ScorerConfig, Scorer)
    # On a CPU instance norms take twice as long with channels last.
    flow.to(chosen, memory_format=torch.channels_last if chosen.type == "cuda" else torch.contiguous_format)
    return Networks(flow, scorer.to(chosen), chosen, file_hash(_refiner(root)))


def load_pose_score(folder: str, device: torch.device) -> PoseScore:
    """The pose score of the same folder; raises WeightsError as `load_networks` does, and when it was fitted to other
    witnesses than there are now."""
    path = _root(folder) / "pose_score.safetensors"
    score = load_network(path, "pose_score", PoseScoreConfig, PoseScore)
    if score.config != PoseScoreConfig():
        raise WeightsError(f"weights {path}: expected {PoseScoreConfig()}, got {score.config}; "
                           "fit it again with training.calibrate")
    return score.to(device)


def _refiner(root: Path) -> Path:
    found = sorted(root.glob("genflow_*.safetensors"))
    if len(found) != 1:
        raise WeightsError(f"weights {root}: expected one file genflow_*.safetensors, "
                           f"got {', '.join(path.name for path in found) or 'none'}")
    return found[0]


def _root(folder: str) -> Path:
    return Path(folder) if folder else shipped_folder()
