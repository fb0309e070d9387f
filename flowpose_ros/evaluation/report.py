"""A page to look at: every image with its poses drawn, the score tables, the times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from flowpose_ros.evaluation.bop_dataset import BopDataset, GroundTruth, ImageId
from flowpose_ros.evaluation.contour import TRUTH_STYLE, draw_pose
from flowpose_ros.evaluation.images import write_image
from flowpose_ros.evaluation.output_paths import make_folder
from flowpose_ros.evaluation.results import ResultRow
from flowpose_ros.evaluation.score_tables import Table, object_table, summary_table, timing_table
from flowpose_ros.evaluation.scores import Comparison, Evaluation
from flowpose_ros.evaluation.table import format_cell
from flowpose_ros.rendering.raycast import RaycastRenderer

MAX_PICTURES = 100
"""A page with more pictures than this shows evenly spaced images."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1400px; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .2rem .7rem; border-bottom: 1px solid #d8dee4 }
td { text-align: right; font-variant-numeric: tabular-nums } td:first-child, th:first-child { text-align: left }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(600px, 1fr)); gap: 1.5rem }
figure { margin: 0 } img { width: 100% } figcaption { font-size: 14px; overflow-x: auto }
"""


def write_report(folder: Path | str, title: str, dataset: BopDataset, rows: Sequence[ResultRow],
                 evaluation: Evaluation | None = None, timings: Mapping[str, Sequence[float]] | None = None,
                 images: Iterable[ImageId] | None = None) -> Path:
    """Write FOLDER/index.html with its pictures beside it and return its path.

    images: those to show, by default the ones that have estimates; timings: seconds per stage.
    Raises DatasetError when an image cannot be read or the folder not be written.
    """
    folder = Path(folder)
    make_folder(folder)
    shown = _spread(sorted(set(images) if images is not None else {row.image_id for row in rows}))
    figures = _figures(folder, dataset, rows, evaluation, shown)
    tables = []
    if evaluation is not None:
        tables += [("Scores", summary_table(evaluation.total)), ("Objects", object_table(evaluation))]
    if timings:
        tables.append(("Times", timing_table(timings)))
    body = "\n".join([f"<h2>{name}</h2>{_html_table(table)}" for name, table in tables]
                     + ["<h2>Pictures</h2><p>Green: estimate. Light blue: ground truth. "
                        "Axes x, y, z: red, green, blue.</p>", f'<div class="pictures">{"".join(figures)}</div>'])
    (folder / "index.html").write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>\n{body}</html>\n", encoding="utf-8")
    return folder / "index.html"


def picture_name(image_id: ImageId) -> str:
    """File name of an image's picture beside the page."""
    return f"{image_id.scene_id:06d}_{image_id.im_id:06d}.jpg"


def draw_image(image: np.ndarray, K: np.ndarray, dataset: BopDataset, rows: Iterable[ResultRow],
               truths: Iterable[GroundTruth], renderer: RaycastRenderer) -> np.ndarray:
    """A copy of an image [H,W,3] with the estimates, and above them the thin outlines of the truth."""
    for row in rows:
        model = dataset.catalogue[str(row.obj_id)]
        image = draw_pose(image, model.mesh, row.T_cam_obj, K, renderer, text=f"{model.label} {row.score:.2f}")
    for truth in truths:
        mesh = dataset.catalogue[str(truth.obj_id)].mesh
        image = draw_pose(image, mesh, truth.T_cam_obj, K, renderer, TRUTH_STYLE)
    return image


def _figures(folder: Path, dataset: BopDataset, rows: Sequence[ResultRow], evaluation: Evaluation | None,
             shown: Sequence[ImageId]) -> list[str]:
    """One figure element per image; writes the pictures."""
    by_image: dict[ImageId, list[ResultRow]] = defaultdict(list)
    for row in rows:
        by_image[row.image_id].append(row)
    compared: dict[ImageId, list[Comparison]] = defaultdict(list)
    for comparison in evaluation.comparisons if evaluation is not None else ():
        compared[comparison.row.image_id].append(comparison)
    renderer, figures = RaycastRenderer(), []
    for image_id in shown:
        frame = dataset.frame(image_id, with_depth=False)
        name = picture_name(image_id)
        write_image(folder / name, draw_image(frame.image, frame.K, dataset, by_image[image_id],
                                              dataset.ground_truth(image_id), renderer))
        figures.append(f'<figure><a href="{name}"><img src="{name}" loading="lazy" alt="image {image_id}"></a>'
                       f"<figcaption>{image_id}{_html_table(_error_table(compared[image_id]))}</figcaption></figure>")
    return figures


def _error_table(comparisons: Sequence[Comparison]) -> Table:
    return Table(("object", "score", "rot deg", "trans mm", "MSSD/d", "MSPD px", "ADD-S mm"),
                 tuple((c.label, c.row.score, float(np.degrees(c.rotation)), 1e3 * c.translation, c.mssd, c.mspd,
                        1e3 * c.add_s) for c in comparisons))


def _html_table(table: Table) -> str:
    if not table.rows:
        return ""
    header = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{escape(format_cell(value))}</td>" for value in row) + "</tr>"
                   for row in table.rows)
    return f"<table><tr>{header}</tr>{rows}</table>"


def _spread(images: Sequence[ImageId]) -> list[ImageId]:
    """At most MAX_PICTURES of the images, evenly spaced."""
    if len(images) <= MAX_PICTURES:
        return list(images)
    return [images[i] for i in np.linspace(0, len(images) - 1, MAX_PICTURES).round().astype(int)]
