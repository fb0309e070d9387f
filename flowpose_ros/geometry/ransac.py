"""One RANSAC loop for every minimal problem; all hypotheses of all problems are scored at once.

A problem says how to solve samples, how far each datum is from a pose, and how to refit; the loop
knows nothing else about it (the split of roles is that of PoseLib).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch

from flowpose_ros.geometry import pnp
from flowpose_ros.geometry.camera import project
from flowpose_ros.geometry.kabsch import weighted_kabsch
from flowpose_ros.geometry.p3p import solve_p3p
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.options import Options, option


@dataclass(frozen=True)
class RansacOptions(Options):
    """How many samples are tried and how their winner is refined."""

    hypotheses: int = option(256, "samples drawn for each problem", low=1)
    scored_points: int = option(512, "data on which hypotheses are compared", low=16)
    refits: int = option(2, "refits to the inliers of the best hypothesis", low=0)


@dataclass(frozen=True)
class RansacResult:
    """Poses [B,4,4], their inliers [B,N] bool, their share of the valid data [B], and found [B] bool.

    Where `found` is False no sample could be solved and `T` is the identity.
    """

    T: torch.Tensor
    inlier: torch.Tensor
    inlier_ratio: torch.Tensor
    found: torch.Tensor


class RansacProblem(Protocol):
    """B problems of N data each: mask [B,N] bool says which count, threshold [B] what is an inlier. What does not count
    may be anything."""

    mask: torch.Tensor
    threshold: torch.Tensor

    def solve(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hypotheses [B,H,4,4] and ok [B,H] of the samples index [B,M,3]."""
        ...

    def residual(self, T: torch.Tensor) -> torch.Tensor:
        """Distances [B,H,N] of all data from hypotheses T [B,H,4,4]."""
        ...

    def refine(self, T: torch.Tensor, inlier: torch.Tensor) -> torch.Tensor:
        """Poses [B,4,4] refitted to inliers [B,N], from T [B,4,4]."""
        ...

    def take(self, index: torch.Tensor) -> RansacProblem:
        """The same problems with the data index [B,P] only."""
        ...


@torch.no_grad()
def run_ransac(problem: RansacProblem, options: RansacOptions, generator: torch.Generator) -> RansacResult:
    """The pose that most data support, for each of B problems (MSAC score; Torr & Zisserman 2000)."""
    B, N = problem.mask.shape
    samples = _draw(problem.mask, options.hypotheses * 3, generator).reshape(B, -1, 3)
    hypotheses, ok = problem.solve(samples)
    few = N <= options.scored_points
    scored = problem if few else problem.take(_draw(problem.mask, options.scored_points, generator))
    score, best = _support(scored, hypotheses).masked_fill(~ok, -1).max(1)
    found = score > 0
    T = hypotheses[torch.arange(B, device=best.device), best]
    T = torch.where(found[:, None, None], T, torch.eye(4, dtype=T.dtype, device=T.device))
    for _ in range(options.refits):
        refit = problem.refine(T, _inliers(problem, T))
        score = _support(problem, torch.stack([T, refit], 1))
        T = torch.where((found & (score[:, 1] >= score[:, 0]))[:, None, None], refit, T)
    inlier = _inliers(problem, T) & found[:, None]
    return RansacResult(T, inlier, inlier.sum(1) / problem.mask.sum(1).clamp_min(1), found)


def _draw(mask: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Indices [B,count] of true entries of mask [B,N], with replacement; any where none is true."""
    chance = mask.to(generator.device, torch.float32)
    chance = torch.where(mask.any(1, keepdim=True).to(chance.device), chance, torch.ones_like(chance))
    return torch.multinomial(chance, count, replacement=True, generator=generator).to(mask.device)


def _support(problem: RansacProblem, T: torch.Tensor) -> torch.Tensor:
    """Scores [B,H]: a datum counts 1 at distance 0 and nothing beyond the threshold."""
    share = problem.residual(T) / problem.threshold[:, None, None]
    return (1 - share.square()).clamp_min(0).masked_fill(~problem.mask[:, None], 0).sum(-1)


def _inliers(problem: RansacProblem, T: torch.Tensor) -> torch.Tensor:
    """Inliers [B,N] of poses T [B,4,4]."""
    return (problem.residual(T[:, None])[:, 0] < problem.threshold[:, None]) & problem.mask


@dataclass(frozen=True)
class KabschProblem:
    """3D-3D: source and target points [B,N,3], mask [B,N], threshold [B] in the points' unit."""

    source: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor
    threshold: torch.Tensor

    def solve(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        source, target = _gather(self.source, index), _gather(self.target, index)
        equal = torch.ones_like(source[..., 0])
        T, ok = weighted_kabsch(source.flatten(0, 1), target.flatten(0, 1), equal.flatten(0, 1))
        return T.unflatten(0, index.shape[:2]), ok.unflatten(0, index.shape[:2])

    def residual(self, T: torch.Tensor) -> torch.Tensor:
        return (transform_points(T, self.source[:, None]) - self.target[:, None]).norm(dim=-1)

    def refine(self, T: torch.Tensor, inlier: torch.Tensor) -> torch.Tensor:
        refit, ok = weighted_kabsch(self.source, self.target, inlier.to(self.source))
        return torch.where(ok[:, None, None], refit, T)

    def take(self, index: torch.Tensor) -> KabschProblem:
        return replace(self, source=_gather(self.source, index), target=_gather(self.target, index),
                       mask=self.mask.gather(1, index))


@dataclass(frozen=True)
class P3pProblem:
    """2D-3D: points [B,N,3] metres and pixels [B,N,2], mask [B,N], K [B,3,3], threshold [B] pixels."""

    points: torch.Tensor
    pixels: torch.Tensor
    mask: torch.Tensor
    K: torch.Tensor
    threshold: torch.Tensor

    def solve(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        homogeneous = torch.nn.functional.pad(self.pixels, (0, 1), value=1.0)
        rays = homogeneous @ torch.linalg.inv(self.K).transpose(1, 2)
        T, ok = solve_p3p(_gather(self.points, index).flatten(0, 1), _gather(rays, index).flatten(0, 1))
        B = len(index)
        return T.reshape(B, -1, 4, 4), ok.reshape(B, -1)

    def residual(self, T: torch.Tensor) -> torch.Tensor:
        seen = transform_points(T, self.points[:, None])
        error = (project(seen, self.K[:, None]) - self.pixels[:, None]).norm(dim=-1)
        return error.masked_fill(seen[..., 2] <= 0, torch.inf)

    def refine(self, T: torch.Tensor, inlier: torch.Tensor) -> torch.Tensor:
        points, pixels = (torch.where(inlier[..., None], x, 0.0) for x in (self.points, self.pixels))
        share = (inlier / inlier.sum(1, keepdim=True).clamp_min(1)).to(points)[..., None]
        center = (share * points).sum(1)
        about = points - center[:, None]
        radius = (share * about.square()).sum((1, 2)).sqrt().clamp_min(1e-6)
        weight = inlier[..., None].to(self.points).expand(-1, -1, 2)
        normalised = pnp.PnpProblem(about / radius[:, None, None], pixels, weight, self.K, 1.0)
        R, t = pnp.solve_pnp(normalised, *pnp.from_transform(T, center, radius))
        return pnp.to_transform(R, t, center, radius)

    def take(self, index: torch.Tensor) -> P3pProblem:
        return replace(self, points=_gather(self.points, index), pixels=_gather(self.pixels, index),
                       mask=self.mask.gather(1, index))


def _gather(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows [B,...,C] of values [B,N,C] at index [B,...]."""
    flat = index.flatten(1)[..., None].expand(-1, -1, values.shape[-1])
    return values.gather(1, flat).reshape(*index.shape, -1)
