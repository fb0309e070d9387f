"""Summaries of many starts, for all cases and for each group of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from flowpose_ros.estimation.batches import join
from training.validation.cases import GROUPS, Case
from training.validation.measures import FlowErrors, area_under_roc
from training.validation.trials import Answer

RECALLS = (0.02, 0.05, 0.1)
RIGHT = 0.1
"""An answer is right when its error is below this share of the diameter."""
WORSE = 0.01
ACCEPTED = 0.5
"""Score from which an answer is accepted."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Row:
    """What came of N starts of one kind in the cases of one group. Errors are ADD-S, shares of the diameter.

    recall_before: within RIGHT before refinement; recalls: within RECALLS after it; median: after it;
    better: share of starts that ended nearer to the truth; worse: share that ended farther by over WORSE;
    accepted: share of answers that score ACCEPTED or more; false: share of the accepted that are not right, false_mssd:
    that are not right by MSSD; kept: share of the right ones that are accepted. A share of nothing is None.
    """

    refiner: str
    start: str
    depth: bool
    group: str
    count: int
    recall_before: float
    recalls: tuple[float, ...]
    median: float
    better: float
    worse: float
    accepted: float
    false: float | None
    false_mssd: float | None
    kept: float | None


@dataclass(frozen=True)
class FlowRow:
    """How good the flow is from starts of one kind in N cases of one group: mean and median end-point error of all
    visible cells, crop pixels, and the area under the ROC curve of certainty as a sign of visibility; None of
    nothing."""

    start: str
    group: str
    count: int
    mean: float | None
    median: float | None
    auc: float | None


def by_group(cases: Sequence[Case], found: Sequence[Result | None]) -> dict[str, list[Result]]:
    """The results of cases in each group that has any; None is no result."""
    chosen = {group: [result for case, result in zip(cases, found) if result is not None and group in case.groups]
              for group in GROUPS}
    return {group: results for group, results in chosen.items() if results}


def share(chosen: np.ndarray) -> float | None:
    """Share of True among [N] bool; None of nothing."""
    return float(chosen.mean()) if len(chosen) else None


def row_of(refiner: str, start: str, depth: bool, group: str, answers: Sequence[Answer]) -> Row:
    """Summary of answers."""
    before, after, mssd, score = np.array([(a.before, a.after, a.mssd, a.score) for a in answers]).T
    accepted, right = score >= ACCEPTED, after < RIGHT
    return Row(refiner, start, depth, group, len(answers), share(before < RIGHT),
               tuple(share(after < limit) for limit in RECALLS), float(np.median(after)), share(after < before),
               share(after > before + WORSE), share(accepted), share(~right[accepted]),
               share(mssd[accepted] >= RIGHT), share(accepted[right]))


def flow_row_of(start: str, group: str, errors: Sequence[FlowErrors]) -> FlowRow:
    """Summary of flow fields, their cells taken together."""
    all_cells = join(errors)
    distance = all_cells.distance.cpu().numpy()
    mean, median = (float(of(distance)) if len(distance) else None for of in (np.mean, np.median))
    return FlowRow(start, group, len(errors), mean, median, area_under_roc(all_cells.certainty, all_cells.visible))
