"""Rows as printed tables and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowpose_ros.evaluation.table import format_table
from training.validation.cases import ALL, GROUPS
from training.validation.rows import RECALLS, FlowRow, Row
from training.validation.trials import NOMINAL

INPUTS = {False: "RGB", True: "RGB-D"}

AnyRow = TypeVar("AnyRow", Row, FlowRow)


def table_of(rows: Sequence[Row]) -> str:
    """The rows of all cases as a printed table."""
    return _table([row for row in rows if row.group == ALL])


def group_table_of(rows: Sequence[Row]) -> str:
    """The rows of each group from nominal starts as a printed table."""
    return _table([row for row in rows if row.group != ALL and row.start == NOMINAL])


def _table(rows: Sequence[Row]) -> str:
    header = ("refiner", "start", "input", "cases", "n", "<0.1 d before", *(f"<{limit} d" for limit in RECALLS),
              "median/d", "better", "worse", "accepted", "false", "false MSSD", "kept")
    return format_table(header, [(r.refiner, r.start, INPUTS[r.depth], r.group, r.count, r.recall_before, *r.recalls,
                                  r.median, r.better, r.worse, r.accepted, r.false, r.false_mssd, r.kept)
                                 for r in rows])


def flow_table_of(rows: Sequence[FlowRow]) -> str:
    """The flow's rows of all cases, and of each group from nominal starts, as a printed table."""
    return format_table(("flow from", "cases", "n", "EPE mean/px", "EPE median/px", "certainty AUC"),
                        [(r.start, r.group, r.count, r.mean, r.median, r.auc) for r in rows
                         if r.group == ALL or r.start == NOMINAL])


def draw(rows: Sequence[Row], flow: Sequence[FlowRow], path: Path) -> None:
    """The recalls of each refiner and the errors of the flow: curves over the angle of the start, and below them the
    groups of cases from nominal starts."""
    refiners = list(dict.fromkeys(row.refiner for row in rows))
    lines = [by_angle for by_angle in (True, False) if shown(rows, by_angle)]
    figure = Figure(figsize=(6 * len(refiners) + 6, 4 * len(lines)))
    for by_angle, panels in zip(lines, figure.subplots(len(lines), len(refiners) + 1, squeeze=False)):
        for refiner, axes in zip(refiners, panels):
            draw_recalls = draw_curves if by_angle else draw_bars
            draw_recalls(axes, [row for row in shown(rows, by_angle) if row.refiner == refiner])
            axes.set(title=refiner, ylabel="share that ends within", ylim=(0, 1.3), yticks=np.linspace(0, 1, 6))
            axes.legend(fontsize=8, ncols=2, loc="upper center")
        draw_flow(panels[-1], shown(flow, by_angle), "-" if by_angle else "none")
        for axes in panels:
            axes.grid(alpha=0.3)
            if by_angle:
                axes.set_xlabel("start, degrees from the truth")
            else:
                axes.set_xticks(range(len(GROUPS)), [name.replace(" seen", "\nseen") for name in GROUPS])
                axes.set(xlabel="cases, nominal starts", xlim=(-0.5, len(GROUPS) - 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def shown(rows: Sequence[AnyRow], by_angle: bool) -> list[AnyRow]:
    """The rows of all cases from starts of fixed angles, or those of each group from nominal starts."""
    return [r for r in rows if (r.start != NOMINAL and r.group == ALL if by_angle else r.start == NOMINAL)]


def place_of(row: Row | FlowRow) -> int:
    """Where a row is drawn: at the angle of its start, or at its group."""
    return GROUPS.index(row.group) if row.start == NOMINAL else int(row.start.split()[0])


def draw_curves(axes: Axes, rows: Sequence[Row]) -> None:
    """Recalls at each place, joined by lines."""
    for depth in {r.depth for r in rows}:
        chosen = [r for r in rows if r.depth == depth]
        for k, limit in enumerate(RECALLS):
            axes.plot([place_of(r) for r in chosen], [r.recalls[k] for r in chosen], "o-" if depth else "x--",
                      color=f"C{k}", label=f"{INPUTS[depth]} < {limit} d")


def draw_bars(axes: Axes, rows: Sequence[Row]) -> None:
    """Recalls at each place as bars, that within a smaller limit before that within a larger one."""
    for depth in {r.depth for r in rows}:
        chosen = [r for r in rows if r.depth == depth]
        place = np.array([place_of(r) for r in chosen]) + (0.2 if depth else -0.2)
        for k, limit in reversed(list(enumerate(RECALLS))):
            axes.bar(place, [r.recalls[k] for r in chosen], 0.36, color=f"C{k}", edgecolor="white",
                     hatch="" if depth else "///", label=f"{INPUTS[depth]} < {limit} d")


def draw_flow(axes: Axes, rows: Sequence[FlowRow], line: str) -> None:
    """End-point error at each place, and on an axis of its own the AUC."""
    place, other = [place_of(r) for r in rows], axes.twinx()
    axes.plot(place, [r.mean for r in rows], "C0o", linestyle=line, label="EPE, mean")
    axes.plot(place, [r.median for r in rows], "C1o", linestyle=line, label="EPE, median")
    other.plot(place, [r.auc for r in rows], "C2s", linestyle=line, label="certainty AUC")
    axes.set(title="flow, first pass", ylabel="end-point error, crop pixels")
    axes.set_ylim(bottom=0)
    other.set(ylabel="AUC", ylim=(0, 1.05))
    axes.legend(handles=[*axes.lines, *other.lines], fontsize=8)
