"""What a score or timing table says, for the terminal and for the report alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowpose_ros.evaluation.scores import SHARE_OF_DIAMETER, Comparison, Evaluation, Scores, found_share
from flowpose_ros.evaluation.table import format_table


@dataclass(frozen=True)
class Table:
    """Column names and rows of values."""

    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    def __str__(self) -> str:
        return format_table(self.header, self.rows)


def summary_table(scores: Scores) -> Table:
    """The dataset's scores, one per row."""
    return Table(("score", "value"), (
        ("AR_VSD", scores.ar_vsd), ("AR_MSSD", scores.ar_mssd), ("AR_MSPD", scores.ar_mspd), ("AR", scores.ar),
        ("AR (MSSD, MSPD mean)", scores.ar_mssd_mspd), ("AP (detection)", scores.ap)))


def object_table(evaluation: Evaluation) -> Table:
    """Scores and median errors of each object, and of all together."""
    rows = [_object_row(label, scores, [c for c in evaluation.comparisons if c.label == label])
            for label, scores in evaluation.objects.items()]
    return Table(("object", "targets", "AR", "VSD", "MSSD", "MSPD", "AP", "ADD-S<0.1d", "rot deg", "trans mm",
                  "ADD mm", "ADD-S mm"),
                 (*rows, _object_row("all", evaluation.total, evaluation.comparisons)))


def timing_table(timings: Mapping[str, Sequence[float]]) -> Table:
    """Median and 95th percentile of each stage's seconds, in milliseconds."""
    return Table(("stage", "p50 ms", "p95 ms", "calls"),
                 tuple((stage, *(round(1e3 * float(np.percentile(seconds, q)), 1) for q in (50, 95)), len(seconds))
                       for stage, seconds in timings.items() if len(seconds)))


def _object_row(label: str, scores: Scores, comparisons: Sequence[Comparison]) -> tuple[object, ...]:
    recall = found_share(scores.target_count, [c for c in comparisons if c.add_s < SHARE_OF_DIAMETER * c.diameter])
    recalls = scores.ar, scores.ar_vsd, scores.ar_mssd, scores.ar_mspd
    return (label, scores.target_count, *(recalls if scores.target_count else 4 * (None,)), scores.ap, recall,
            _median([np.degrees(c.rotation) for c in comparisons]), _median([1e3 * c.translation for c in comparisons]),
            _median([1e3 * c.add for c in comparisons]), _median([1e3 * c.add_s for c in comparisons]))


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if len(values) else None
