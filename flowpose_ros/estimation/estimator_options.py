"""What a user of the estimator chooses."""

from __future__ import annotations

from dataclasses import dataclass, field

from flowpose_ros.estimation.coarse_flow_vote import FlowVoteOptions
from flowpose_ros.estimation.coarse_gmm import GmmOptions
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.match import MatchOptions
from flowpose_ros.estimation.refine import LoopOptions
from flowpose_ros.estimation.refine_refpose import RefPoseOptions
from flowpose_ros.estimation.settle import SettleOptions
from flowpose_ros.options import Options, option

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
