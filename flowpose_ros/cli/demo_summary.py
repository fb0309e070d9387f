"""What a demo ends with: a table for the terminal, a contact sheet and a moving picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flowpose_ros.evaluation.score_tables import Table
from flowpose_ros.evaluation.scores import SHARE_OF_DIAMETER, Comparison, Evaluation, found_share

SHEET_COLUMNS, SHEET_WIDTH, MOVIE_WIDTH = 4, 400, 480
MOVIE_FRAME_MS = 180


def demo_table(evaluation: Evaluation) -> Table:
    """Per object: recalls, median errors, and the latency of the images it was found in."""
    rows = [_row(label, scores.target_count, [c for c in evaluation.comparisons if c.label == label])
            for label, scores in evaluation.objects.items()]
    return Table(("object", "targets", "ADD-S<0.1d", "MSSD<0.1d", "rot deg", "trans mm", "p50 s", "p95 s"),
                 (*rows, _row("all", evaluation.total.target_count, evaluation.comparisons)))


def _row(label: str, targets: int, comparisons: Sequence[Comparison]) -> tuple[object, ...]:
    latencies = [c.row.time for c in comparisons]
    return (label, targets,
            found_share(targets, [c for c in comparisons if c.add_s < SHARE_OF_DIAMETER * c.diameter]),
            found_share(targets, [c for c in comparisons if c.mssd < SHARE_OF_DIAMETER]),
            _quantile([np.degrees(c.rotation) for c in comparisons], 50),
            _quantile([1e3 * c.translation for c in comparisons], 50),
            _quantile(latencies, 50), _quantile(latencies, 95))


def _quantile(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def write_contact_sheet(path: Path, pictures: Sequence[Path]) -> None:
    """All pictures in one, row by row."""
    tiles = [_scaled(picture, SHEET_WIDTH) for picture in pictures]
    height = max(tile.height for tile in tiles)
    columns = min(SHEET_COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * SHEET_WIDTH, -(-len(tiles) // columns) * height))
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % columns * SHEET_WIDTH, i // columns * height))
    sheet.save(path, quality=88)


def write_movie(path: Path, pictures: Sequence[Path]) -> None:
    """The pictures as an animated GIF, with one palette for all so that still parts stay still."""
    frames = [_scaled(picture, MOVIE_WIDTH) for picture in pictures]
    palette = frames[len(frames) // 2].quantize(128, dither=Image.Dither.NONE)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    indexed[0].save(path, save_all=True, append_images=indexed[1:], duration=MOVIE_FRAME_MS, loop=0, optimize=True)


def _scaled(picture: Path, width: int) -> Image.Image:
    with Image.open(picture) as image:
        return image.convert("RGB").resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
