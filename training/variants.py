"""What the papers' ablations vary, each variant as a configuration: GenFlow's refiner, RefPose's geometry network, and
its template classifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from flowpose_ros.estimation.batches import take
from flowpose_ros.geometry.ransac import P3pProblem, RansacOptions, run_ransac
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.networks.encoder import Encoder
from flowpose_ros.networks.flow import SIZES, GenFlow, GenFlowConfig, Update
from flowpose_ros.networks.geometry_net import GeometryConfig, GeometryNet
from flowpose_ros.networks.scorer import Scorer, cell_cover
from flowpose_ros.networks.weights import load_network
from training.device_pairs import device_batches
from training.geometry_loss import true_geometry
from training.learner import Figures, Loss
from training.losses import LossWeights, field_losses, masked_mean, view_of
from training.pairs import PairBatch, PairStream, batches_of, collate
from training.reuse import quarter_turned
from training.train_geometry import GeometryLoss, GeometryTraining
from training.train_refiner import RefinerLoss, RefinerTraining
from training.train_scorer import NEAR, ScorerSample, ScorerStream, scorer_loss, stack
from training.trainer import PairTraining

L1_ALONE = 0.3
"""Weight of the L1 error where no mixture is learnt beside it: both together have that gradient at some 5 pixels."""
SURE = 0.5
"""Flow vectors of this certainty are given to RANSAC."""
CROPS_PER_INLIER = 32
"""A crop has so many times the pixels of RANSAC's inlier distance: 4 of 128, as others have 4 to 10 of 256."""
RIGHT = 0.1
"""Share of the diameter within which a pose is right."""
MEASURED = 50
"""Held-out samples that are measured at once."""
MADE = 128
"""Samples that a device makes at once."""


@dataclass(frozen=True)
class Trial:
    """A network that learns, and its loss at each step."""

    network: nn.Module
    loss_at: Callable[[int], Loss]


class Family(ABC):
    """An ablation: its variants by name, and how each is taught and measured.

    features: the weights file of a refiner whose features all begin with; crop: side of the pictures.
    """

    variants: dict[str, Any]
    sample: type = PairBatch
    stream: type[PairStream] = PairStream

    def __init__(self, features: Path | None, crop: int, device: str) -> None:
        self.crop, self.device, self.refiner = crop, device, None
        if features is not None:
            self.refiner = load_network(features, "genflow", GenFlowConfig, GenFlow).to(device)

    def need_refiner(self) -> GenFlow:
        """The refiner whose features are used; raises ValueError when none was given."""
        if self.refiner is None:
            raise ValueError("features: expected the weights of a refiner, on whose features is learnt; got none")
        return self.refiner

    def made(self, seed: int, objects: str, workers: int, made_on: str) -> Iterable:
        """Samples of a seed with objects "train" or "held_out", endless: made by so many `workers`, or on the "device".

        Raises ValueError when samples of this kind are not made on a device.
        """
        if made_on == "workers":
            return chain.from_iterable(batches_of(self.stream(seed, self.crop, family=objects), workers, list))
        if self.sample is not PairBatch:
            raise ValueError(f"made on: expected workers, as {self.sample.__name__}s are made by them alone; "
                             f"got {made_on}")
        each = torch.arange(MADE, device=self.device)[:, None]
        return (take(batch, index) for batch in device_batches(
            self.stream(seed, self.crop, family=objects, batch=MADE), self.device) for index in each)

    @abstractmethod
    def course(self, steps: int, batch: int) -> PairTraining:
        """Rates and phases of a run."""

    @abstractmethod
    def trial(self, name: str, course: PairTraining) -> Trial:
        """A variant before it has learnt, of random numbers but for the features."""

    def join(self, samples: list, rng: np.random.Generator):
        """A batch to learn from, each of its samples turned by some quarter turns; those of equal turns together."""
        turns = rng.integers(4, size=len(samples))
        alike = {turn: collate([samples[i] for i in np.flatnonzero(turns == turn)]) for turn in np.unique(turns)}
        return collate([quarter_turned(batch, int(turn)) for turn, batch in alike.items()])

    @abstractmethod
    def figures(self, name: str, network: nn.Module, samples: list) -> dict[str, float]:
        """What a variant that has learnt comes to on samples it has not seen."""


# --- GenFlow


@dataclass(frozen=True)
class RefinerVariant:
    """A refiner, its losses, and whether its pose is RANSAC's of its last flow in place of its own."""

    network: GenFlowConfig
    weights: LossWeights = LossWeights()
    ransac: bool = False


class RefinerFamily(Family):
    """GenFlow's ablation: shape constraint, cascade and confidence; and what is not the paper's, the flow's error."""

    def __init__(self, features: Path | None, crop: int, device: str) -> None:
        super().__init__(features, crop, device)
        full = SIZES["T"] if self.refiner is None else self.refiner.config
        flat = replace(full, updates_coarse=full.updates_coarse + full.updates_fine, updates_fine=0)
        plain = replace(flat, confidence="single")
        self.variants = {
            "flow": RefinerVariant(replace(plain, constrained=False), LossWeights(pose=0.0), ransac=True),
            "constraint": RefinerVariant(plain),
            "constraint+cascade": RefinerVariant(replace(full, confidence="single")),
            "constraint+factors": RefinerVariant(flat),
            "all": RefinerVariant(full),
            "equal-weights": RefinerVariant(replace(full, confidence="none")),
            "two-factors": RefinerVariant(replace(full, confidence="factored")),
            "l1": RefinerVariant(replace(full, confidence="factored"), LossWeights(flow=0.0, flow_l1=L1_ALONE))}

    def course(self, steps: int, batch: int) -> PairTraining:
        course = RefinerTraining(crop=self.crop, steps=steps, batch=batch, alternate_from=1.0)
        return course if self.refiner is None else replace(course, features_until=0.0, pose_from=0.1)

    def trial(self, name: str, course: PairTraining) -> Trial:
        variant = self.variants[name]
        network = GenFlow(variant.network)
        if self.refiner is not None:
            network.features.load_state_dict(self.refiner.features.state_dict())
        loss = RefinerLoss(network.to(self.device), variant.weights)
        return Trial(network, lambda step: loss.features if course.features_alone(step, step) else loss.everything)

    @torch.no_grad()
    def figures(self, name: str, network: nn.Module, samples: list[PairBatch]) -> dict[str, float]:
        errors, poses, batches = [], [], measured_batches(samples)
        for batch in batches:
            last = network(network.encode(batch.query_rgb), view_of(batch))[-1]
            errors.append(float(field_losses(last, batch)[-1]))
            poses.append(ransac_pose(last, batch) if self.variants[name].ransac else last.T_crop_obj)
        return pose_figures(poses, batches) | {"flow error, px": weighted(errors, batches)}


def ransac_pose(update: Update, sample: PairBatch) -> torch.Tensor:
    """T_crop_obj [B,4,4] by RANSAC-PnP on the flow vectors that are sure; T_init where they give none."""
    points, pixels, certainty, valid = (part.flatten(2).transpose(1, 2) for part in (
        update.xyz, update.field.flow + update.pixel, update.field.certainty, update.valid))
    mask = (valid & (torch.sigmoid(certainty) > SURE))[..., 0]
    inlier = sample.radius.new_full((len(points),), sample.render_mask.shape[-1] / CROPS_PER_INLIER)
    found = run_ransac(P3pProblem(points, pixels, mask, sample.K, inlier), RansacOptions(),
                       torch.Generator().manual_seed(0))
    return torch.where(found.found[:, None, None], found.T, sample.T_init)


def measured_batches(samples: list[PairBatch]) -> list[PairBatch]:
    """Batches of at most MEASURED of samples that are batches of one."""
    return [collate(samples[first:first + MEASURED]) for first in range(0, len(samples), MEASURED)]


def weighted(means: list[float], batches: list[PairBatch]) -> float:
    """The mean of batches' means, by their samples."""
    return float(np.average(means, weights=[len(batch.K) for batch in batches]))


def pose_figures(poses: list[torch.Tensor], batches: list[PairBatch]) -> dict[str, float]:
    """How near poses [B,4,4] are to the truth of their batches, and how near these had started.

    Errors are mean distances of model points, shares of the diameter; the truth of a symmetric object is that nearest
    to its start.
    """
    before, after = (torch.cat([add(T, batch) for T, batch in zip(found, batches)]).cpu().numpy()
                     for found in ([batch.T_init for batch in batches], poses))
    return {f"< {RIGHT} d": float((after < RIGHT).mean()), "median, d": float(np.median(after)),
            f"start < {RIGHT} d": float((before < RIGHT).mean())}


def add(T: torch.Tensor, batch: PairBatch) -> torch.Tensor:
    """Mean distance [B] of model points under T [B,4,4] and the truth, share of the diameter (ADD)."""
    apart = transform_points(T, batch.points) - transform_points(batch.T_gt, batch.points)
    return apart.norm(dim=-1).mean(1) / batch.diameter


# --- RefPose


class GeometryFamily(Family):
    """RefPose's ablation of its refiner, and its pose by a learned head."""

    def __init__(self, features: Path | None, crop: int, device: str) -> None:
        super().__init__(features, crop, device)
        of = self.need_refiner().config
        full = GeometryConfig(of.fine, of.coarse)
        self.variants = {"all": full, "no-encoding": replace(full, encoded=False),
                         "bilinear": replace(full, upsampling="bilinear"),
                         "learned-attention": replace(full, attention="learned"),
                         "pose-head": replace(full, pose="head")}

    def course(self, steps: int, batch: int) -> PairTraining:
        return GeometryTraining(crop=self.crop, steps=steps, batch=batch)

    def trial(self, name: str, course: PairTraining) -> Trial:
        full = GeometryNet(self.variants["all"])  # first: one seed gives all variants the same
        network = begun_as(full, GeometryNet(self.variants[name])).to(self.device)
        loss = GeometryLoss(network, self.need_refiner())
        return Trial(loss.network, lambda step: loss)

    @torch.no_grad()
    def figures(self, name: str, network: nn.Module, samples: list[PairBatch]) -> dict[str, float]:
        errors, poses, batches = [], [], measured_batches(samples)
        for batch in batches:
            query, source = (self.refiner.encode(rgb) for rgb in (batch.query_rgb, batch.render_rgb))
            said = network(query, source, view_of(batch))
            truth, visible = true_geometry(batch, said.pixel)
            errors.append(float(masked_mean((said.xyz - truth).norm(dim=1, keepdim=True), visible)))
            poses.append(said.T_crop_obj)
        return pose_figures(poses, batches) | {"points' error, radii": weighted(errors, batches)}


def begun_as(full: nn.Module, network: nn.Module) -> nn.Module:
    """The network, with the weights that another has under the same name and in the same shape."""
    own = network.state_dict()
    network.load_state_dict(own | {name: value for name, value in full.state_dict().items()
                                   if name in own and value.shape == own[name].shape})
    return network


class OnImages(nn.Module):
    """A scorer and the features that it compares: what `features` makes maps [N,3,S,S] to [N,C,S/8,S/8]."""

    def __init__(self, features: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.head = Scorer()  # first: one seed gives all variants the same
        self.features = features()

    def forward(self, sample: ScorerSample) -> torch.Tensor:
        """Logits [B,N] of the views of each query."""
        queries, views = (self.features((rgb - 0.5) * 4) for rgb in (sample.query, sample.rgb.float() / 255))
        N = len(views) // len(queries)
        return self.head(views, cell_cover(sample.mask), queries.repeat_interleave(N, 0)).reshape(-1, N)


class Coarse(nn.Module):
    """The features at 1/8 of an encoder."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.encoder(image)[1]


class ScorerFamily(Family):
    """The template classifier on flow's features, on features that it learns itself, and on plain pieces of picture."""

    sample, stream = ScorerSample, ScorerStream

    def __init__(self, features: Path | None, crop: int, device: str) -> None:
        super().__init__(features, crop, device)
        encoder = self.need_refiner().features.requires_grad_(False)
        of = self.refiner.config
        self.variants = {
            "flow-features": lambda: Coarse(encoder),
            "own-features": lambda: Coarse(Encoder(channels=3, widths=of.widths, fine=of.fine, coarse=of.coarse,
                                                   norm="instance")),
            "pixels": lambda: nn.PixelUnshuffle(8)}

    def course(self, steps: int, batch: int) -> PairTraining:
        return PairTraining(crop=self.crop, steps=steps, batch=batch, learning_rate=1e-3)

    def trial(self, name: str, course: PairTraining) -> Trial:
        network = OnImages(self.variants[name]).to(self.device)

        def loss(batch: ScorerSample, pose_share: torch.Tensor) -> tuple[torch.Tensor, Figures]:
            total = scorer_loss(network(batch), batch.angle.reshape(len(batch.query), -1))
            return total, {"loss": total.detach()}

        return Trial(network, lambda step: loss)

    def join(self, samples: list[ScorerSample], rng: np.random.Generator) -> ScorerSample:
        return stack(samples)

    @torch.no_grad()
    def figures(self, name: str, network: nn.Module, samples: list[ScorerSample]) -> dict[str, float]:
        best = np.array([float(sample.angle[network(sample)[0].argmax()]) for sample in samples])
        return {f"best view < {np.degrees(NEAR):.0f} deg": float((best < NEAR).mean()),
                "its median, deg": float(np.degrees(np.median(best)))}


FAMILIES: dict[str, type[Family]] = {"genflow": RefinerFamily, "refpose": GeometryFamily, "scorer": ScorerFamily}
