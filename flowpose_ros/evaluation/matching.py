"""Which estimate answers which annotated instance, and the scores that follow from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RECALL_POINTS = np.linspace(0, 1, 101)


def match_greedily(errors: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """The instance [E] that each of E estimates is matched to, -1 for none.

    errors [E,G] of each estimate against each of G instances; scores [E]. The best-scored estimate
    chooses first and takes the free instance of lowest error, which must be below the threshold.
    Source: BOP toolkit, `match_poses`.
    """
    matched = np.full(len(scores), -1)
    free = np.ones(errors.shape[1] if errors.ndim == 2 else 0, bool)
    for estimate in np.argsort(-scores, kind="stable"):
        candidates = np.where(free, errors[estimate], np.inf)
        if candidates.size and candidates.min() < threshold:
            matched[estimate] = candidates.argmin()
            free[matched[estimate]] = False
    return matched


def average_precision(true_positive: Sequence[bool] | np.ndarray, target_count: int) -> float:
    """Mean over 101 recall levels of the best precision at that recall or beyond (COCO).

    true_positive [E]: whether each estimate, best-scored first, found a target; target_count > 0.
    Source: BOP toolkit, `calc_ap`.
    """
    hits = np.cumsum(np.asarray(true_positive, dtype=bool))
    if not len(hits):
        return 0.0
    precision = hits / np.arange(1, len(hits) + 1)
    best_beyond = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(best_beyond[np.searchsorted(hits / target_count, RECALL_POINTS)].mean())
