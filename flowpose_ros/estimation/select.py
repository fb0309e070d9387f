"""Which of several refined poses is the answer, and how sure it is."""

from __future__ import annotations

import numpy as np
import torch

from flowpose_ros.estimation.refine_genflow import Judged
from flowpose_ros.records import Refined


def pose_score(judged: Judged) -> torch.Tensor:
    """Scores [B] in [0,1]: the geometric mean of what supports a pose.

    The weighted inlier ratio (GoTrack's quality), the scorer's match, the colours' correlation and, where there is depth, its
    agreement: each can veto, none decides alone.
    """
    parts = [judged.inlier_ratio.clamp(1e-3, 1), judged.match.clamp(1e-3, 1), judged.colour.clamp(1e-3, 1)]
    if judged.depth_agreement is not None:
        # Depth is the most reliable witness.
        parts += [judged.depth_agreement.clamp(1e-3, 1)] * 2
    return torch.stack(parts).log().mean(0).exp()


def select(start: Judged, refined: Judged) -> list[Refined]:
    """One answer per hypothesis, best first; a refinement that looks worse than its start is undone.

    start and refined hold the same B hypotheses before and after refinement.
    """
    score_start, score_refined = pose_score(start), pose_score(refined)
    kept = score_start > score_refined
    answers = []
    for i in range(len(kept)):
        source, score = (start, score_start) if kept[i] else (refined, score_refined)
        T = rigid(source.T_cam_obj[i].double().cpu().numpy())
        answers.append(Refined(T, float(source.inlier_ratio[i].clamp(0, 1)),
                               symmetric(source.covariance[i].double().cpu().numpy()),
                               float(score[i]), bool(kept[i])))
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
