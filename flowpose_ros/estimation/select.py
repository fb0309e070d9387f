"""Which of several refined poses is the answer, and how sure it is."""

from __future__ import annotations

import numpy as np
import torch

from flowpose_ros.estimation.refine_genflow import Judged
from flowpose_ros.records import Refined


def pose_score(judged: Judged) -> torch.Tensor:
    """Scores [B] in [0,1]: the geometric mean of what supports a pose.

    The weighted inlier ratio (GoTrack's quality), the scorer's match, the colours' correlation and, where
    there is depth, its agreement: each can veto, none decides alone.
    """
    parts = [judged.inlier_ratio.clamp(1e-3, 1), judged.match.clamp(1e-3, 1), judged.colour.clamp(1e-3, 1)]
    if judged.depth_agreement is not None:
        # Depth is the most reliable witness.
        parts += [judged.depth_agreement.clamp(1e-3, 1)] * 2
    return torch.stack(parts).log().mean(0).exp()


def select(*stages: Judged) -> list[Refined]:
    """One answer per hypothesis, best first: that of the stage after which it looked best, so that a
    refinement that looks worse than its start is undone.

    stages hold the same B hypotheses, the starts first.
    """
    scores = torch.stack([pose_score(stage) for stage in stages])
    answers = []
    # Of equals the last: the more refined.
    best = len(stages) - 1 - scores.flip(0).argmax(0)
    for i, k in enumerate(best.tolist()):
        source = stages[k]
        answers.append(Refined(rigid(source.T_cam_obj[i].double().cpu().numpy()),
                               float(source.inlier_ratio[i].clamp(0, 1)),
                               symmetric(source.covariance[i].double().cpu().numpy()),
                               float(scores[k, i]), kept_start=k == 0))
    return sorted(answers, key=lambda r: -r.score)


def rigid(T: np.ndarray) -> np.ndarray:
    """T [4,4] with its rotation made orthonormal to double precision."""
    U, _, Vt = np.linalg.svd(T[:3, :3])
    out = T.copy()
    out[:3, :3] = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    return out


def symmetric(covariance: np.ndarray) -> np.ndarray:
    """The symmetric part of a covariance [6,6]."""
    return (covariance + covariance.T) / 2
