"""The networks of an estimator, loaded once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from flowpose_ros.errors import WeightsError
from flowpose_ros.estimation.recorded import Recorded
from flowpose_ros.networks.encoder import Features
from flowpose_ros.networks.flow import GenFlow, GenFlowConfig, RenderView, Update
from flowpose_ros.networks.geometry_net import GeometryConfig, GeometryNet
from flowpose_ros.networks.pose_score import PoseScore, PoseScoreConfig
from flowpose_ros.networks.scorer import Scorer, ScorerConfig
from flowpose_ros.networks.verifier import Verifier, VerifierConfig
from flowpose_ros.networks.weights import check_features, features_hash, load_network, shipped_folder

CROP_SIZE = 128
"""Side in pixels of the crops that the shipped weights were trained on."""
SCORER, VERIFIER, GEOMETRY = "scorer.safetensors", "verifier.safetensors", "geometry.safetensors"


@dataclass(frozen=True)
class Networks:
    """flow: GenFlow's refiner, and the features of all; settler: its like for the last step to an answer, in finer
    crops; scorer: compares templates with the query; pose_score: how far poses can be trusted; verifier: looks at poses
    cell by cell, and geometry: RefPose's refiner, or None where `folder` has none; fingerprint: hash of the features'
    weights."""

    flow: GenFlow
    settler: GenFlow
    scorer: Scorer
    pose_score: PoseScore
    verifier: Verifier | None
    geometry: GeometryNet | None
    device: torch.device
    folder: Path
    fingerprint: str

    @cached_property
    def flow_update(self) -> Recorded:
        """`update_of` of the refiner: most of an estimate's kernels are those of its fits."""
        return Recorded(partial(update_of, self.flow))

    @cached_property
    def settler_poses(self) -> Recorded:
        """`poses_of` of the settler."""
        return Recorded(partial(poses_of, self.settler))

    def need_geometry(self) -> GeometryNet:
        """The geometry network; raises WeightsError where there is none."""
        if self.geometry is None:
            raise WeightsError(f"weights {self.folder / GEOMETRY}: expected a geometry network for the refpose "
                               "refiner, found none; training.train_geometry makes it")
        return self.geometry


@torch.no_grad()
def update_of(network: GenFlow, given: tuple[Features, RenderView, Features]) -> Update:
    """The last update of a refiner for features of crops, the views there, and features of their renders."""
    query, view, source = given
    return network(query, view, source)[-1]


@torch.no_grad()
def poses_of(network: GenFlow, given: tuple[torch.Tensor, RenderView]) -> torch.Tensor:
    """The poses T_crop_obj [B,4,4] that a refiner ends with for crops [B,3,S,S] and the views there."""
    picture, view = given
    return network(network.encode(picture), view)[-1].T_crop_obj


def load_networks(folder: str, device: str) -> Networks:
    """Networks from a folder of weights ("" for the shipped ones) on "cpu", "cuda" or "auto".

    The refiner is the one file genflow_*.safetensors, of whatever size, and that of answers settle_*.safetensors, or
    the same where there is none; the geometry network may be missing, and, for training, the verifier. Raises
    WeightsError when another file is missing, when one is broken or of another kind, when there are several refiners,
    when a network is for the features of another refiner or for other widths, or when the verifier learnt from other
    evidence, or the pose score from other witnesses, than there is now.
    """
    root = _root(folder)
    chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    refiner, last = _only(root, "genflow_*.safetensors"), _only(root, "settle_*.safetensors", needed=False)
    flow, fingerprint = load_network(refiner, "genflow", GenFlowConfig, GenFlow), features_hash(refiner)
    settler = flow if last is None else load_network(last, "genflow", GenFlowConfig, GenFlow)
    scorer = load_network(root / SCORER, "scorer", ScorerConfig, Scorer)
    geometry, verifier = _geometry(root / GEOMETRY, flow.config), _verifier(root / VERIFIER)
    for path in (root / SCORER, root / VERIFIER, root / GEOMETRY):
        if path.exists():
            check_features(path, refiner, fingerprint)
    pose_score = _pose_score(root / "pose_score.safetensors")
    # On a CPU instance norms take twice as long with channels last.
    layout = torch.channels_last if chosen.type == "cuda" else torch.contiguous_format
    for refining in (flow, settler):
        refining.to(chosen, memory_format=layout)
    return Networks(flow, settler, scorer.to(chosen), pose_score.to(chosen), verifier and verifier.to(chosen),
                    geometry and geometry.to(chosen), chosen, root, fingerprint)


def _only(root: Path, pattern: str, needed: bool = True) -> Path | None:
    """The one file of that pattern; None if there is none and none is needed."""
    found = sorted(root.glob(pattern))
    if len(found) > 1 or needed and not found:
        raise WeightsError(f"weights {root}: expected one file {pattern}, "
                           f"got {', '.join(path.name for path in found) or 'none'}")
    return found[0] if found else None


def _pose_score(path: Path) -> PoseScore:
    score = load_network(path, "pose_score", PoseScoreConfig, PoseScore)
    if score.config != PoseScoreConfig():
        raise WeightsError(f"weights {path}: expected {PoseScoreConfig()}, got {score.config}; "
                           "fit it again with training.calibrate")
    return score


def _verifier(path: Path) -> Verifier | None:
    if not path.exists():
        return None
    network = load_network(path, "verifier", VerifierConfig, Verifier)
    if network.config.channels != VerifierConfig.channels:
        raise WeightsError(f"weights {path}: expected a verifier of {VerifierConfig.channels} maps, got one of "
                           f"{network.config.channels}; train it again with training.train_verifier")
    return network


def _geometry(path: Path, features: GenFlowConfig) -> GeometryNet | None:
    if not path.exists():
        return None
    network = load_network(path, "geometry", GeometryConfig, GeometryNet)
    wanted, got = ((c.fine, c.coarse) for c in (features, network.config))
    if wanted != got:
        raise WeightsError(f"weights {path}: expected a network for features of {wanted} channels, got one for {got}")
    return network


def _root(folder: str) -> Path:
    return Path(folder) if folder else shipped_folder()
