"""COCO run lengths: a mask as the lengths of its alternating runs of 0 and 1, column by column."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowpose_ros.errors import DatasetError

LARGEST_SIDE = 1 << 15


def decode_run_length(size: Any, counts: Any, where: str) -> np.ndarray:
    """The mask [H,W] bool of `size` (H, W) and `counts`: a list of integers or COCO's text of them.

    Raises DatasetError, naming `where`, when the runs do not fill the mask exactly.
    """
    if (not isinstance(size, (list, tuple)) or len(size) != 2
            or not all(isinstance(side, int) and 0 < side <= LARGEST_SIDE for side in size)):
        raise DatasetError(f"{where}: segmentation size: expected [height, width] up to {LARGEST_SIDE}, got {size!r}")
    runs = _runs_of_text(counts, where) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise DatasetError(f"{where}: segmentation counts: expected run lengths >= 0, got {str(counts)[:60]!r}")
    height, width = size
    if sum(runs) != height * width:
        raise DatasetError(f"{where}: segmentation counts: expected a total of {height} x {width} = "
                           f"{height * width} pixels, got {sum(runs)}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _runs_of_text(text: str, where: str) -> list[int]:
    """Run lengths of COCO's text form.

    Each character less 48 carries five bits of a number, lowest first, and says with its sixth
    bit that more follow; the last one's fifth bit is the sign. From the fourth number on, what is
    stored is the difference to the number two before.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise DatasetError(f"{where}: segmentation counts: expected COCO's characters 0 to o, got {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise DatasetError(f"{where}: segmentation counts: expected a complete number at the end, got {text[-8:]!r}")
    return runs
