"""BOP result files: one pose per line, millimetres in the file, metres here."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import ImageId
from flowpose_ros.evaluation.output_paths import make_room_for

COLUMNS = ("scene_id", "im_id", "obj_id", "score", "R", "t", "time")
HEADER = ",".join(COLUMNS)
MM = 1e-3
NO_TIME = -1.0
TIME_TOLERANCE = 1e-3
"""Seconds by which the times of one image's lines may differ (BOP)."""
ROTATION_TOLERANCE = 1e-2
"""Largest entry of R R^T - I that rounding in a result file may leave."""


@dataclass(frozen=True)
class ResultRow:
    """One estimated pose: T_cam_obj [4,4] float64 metres; time: seconds for all of the image's
    objects, detection included, or -1 where it was not measured."""

    image_id: ImageId
    obj_id: int
    score: float
    T_cam_obj: np.ndarray
    time: float = NO_TIME


def result_file_name(method: str, dataset: str, split: str, split_type: str = "", ident: str = "") -> str:
    """METHOD_DATASET-SPLIT[-TYPE][_ID].csv; raises DatasetError when a part would break the pattern."""
    for what, word, forbidden in (("method", method, "_"), ("dataset", dataset, "_-"), ("split", split, "_-"),
                                  ("split type", split_type, "_-"), ("identifier", ident, "_")):
        if set(word) & set(forbidden + "/") or (not word and what in ("method", "dataset", "split")):
            raise DatasetError(f"result file name: {what}: expected a word without any of {forbidden}/, got {word!r}")
    return (f"{method}_{dataset}-{split}" + (f"-{split_type}" if split_type else "")
            + (f"_{ident}" if ident else "") + ".csv")


def write_results(path: Path | str, rows: Iterable[ResultRow]) -> None:
    """Write poses as a BOP result file; raises DatasetError when the path is not writable."""
    lines = [HEADER]
    for row in rows:
        R = " ".join(f"{value:.10g}" for value in row.T_cam_obj[:3, :3].ravel())
        t = " ".join(f"{value:.10g}" for value in row.T_cam_obj[:3, 3] / MM)
        lines.append(f"{row.image_id.scene_id},{row.image_id.im_id},{row.obj_id},{row.score:.8g},"
                     f"{R},{t},{row.time:.6f}")
    make_room_for(Path(path))
    try:
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{path}: expected a writable path, got {error.strerror}") from None


def read_results(path: Path | str) -> tuple[ResultRow, ...]:
    """The poses of a BOP result file.

    Raises DatasetError, naming file and line, when the header, a field, a rotation, or the agreement
    of the times of one image is wrong.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: expected a readable csv file, got {error}") from None
    header = ",".join(cell.strip() for cell in lines[0]) if lines else ""
    if header != HEADER:
        raise DatasetError(f"{path}: line 1: expected the header {HEADER}, got {header!r}")
    rows, times = [], {}
    for number, cells in enumerate(lines[1:], start=2):
        if not cells:
            continue
        where = f"{path}: line {number}"
        row = _parse_row(cells, where)
        first = times.setdefault(row.image_id, row.time)
        if abs(row.time - first) > TIME_TOLERANCE:
            raise DatasetError(f"{where}: time: expected {first} as in the first line of image "
                               f"{row.image_id}, got {row.time}")
        rows.append(row)
    return tuple(rows)


def _parse_row(cells: list[str], where: str) -> ResultRow:
    if len(cells) != len(COLUMNS):
        raise DatasetError(f"{where}: expected {len(COLUMNS)} fields ({HEADER}), got {len(cells)}")
    scene_id, im_id, obj_id = (_integer(cells[i], f"{where}: {COLUMNS[i]}") for i in range(3))
    score = _numbers(cells[3], 1, f"{where}: score")[0]
    R = _numbers(cells[4], 9, f"{where}: R").reshape(3, 3)
    if np.abs(R @ R.T - np.eye(3)).max() > ROTATION_TOLERANCE or np.linalg.det(R) < 0:
        raise DatasetError(f"{where}: R: expected a rotation row by row, got {cells[4]!r}")
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, _numbers(cells[5], 3, f"{where}: t") * MM
    time = _numbers(cells[6], 1, f"{where}: time")[0]
    if time < 0 and time != NO_TIME:
        raise DatasetError(f"{where}: time: expected seconds, or -1 for none, got {cells[6]!r}")
    return ResultRow(ImageId(scene_id, im_id), obj_id, float(score), T, float(time))


def _integer(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DatasetError(f"{where}: expected an integer, got {text!r}") from None


def _numbers(text: str, count: int, where: str) -> np.ndarray:
    try:
        numbers = np.array([float(word) for word in text.split()])
    except ValueError:
        numbers = np.empty(0)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise DatasetError(f"{where}: expected {count} finite number{'s' * (count > 1)}, got {text!r}")
    return numbers
