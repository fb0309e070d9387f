"""What input that is less than ideal costs: boxes that are off, as a detector's are, meshes without their print,
objects that the image cuts off, and objects that give no depth.

    python benchmark/rough_input.py                                   # the demo clip, with depth and without
    python benchmark/rough_input.py path/to/bop/dataset --off 0.1 0.2 --depth off

The reference, measured in the same run, is the annotated boxes and the meshes as they are. Each side of a box is moved
by up to a share of the box's width or height, at random. Of an object that the image cuts off, a
quarter of its box lies outside, at a side drawn at random. Black, shiny and clear objects give no depth where their
surroundings do; that takes the dataset's masks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flowpose_ros.cli.evaluate import score_with_progress  # noqa: E402
from flowpose_ros.errors import FlowposeError  # noqa: E402
from flowpose_ros.estimation.estimator import Estimator  # noqa: E402
from flowpose_ros.estimation.estimator_options import EstimatorOptions  # noqa: E402
from flowpose_ros.evaluation.bop_dataset import BopDataset  # noqa: E402
from flowpose_ros.evaluation.results import ResultRow  # noqa: E402
from flowpose_ros.evaluation.scores import SHARE_OF_DIAMETER, found_share  # noqa: E402
from flowpose_ros.evaluation.table import format_table  # noqa: E402
from flowpose_ros.evaluation.targets import Target, targets_from_ground_truth  # noqa: E402
from flowpose_ros.objects.appearance import PLAIN_GREY  # noqa: E402
from flowpose_ros.objects.catalogue import Catalogue  # noqa: E402
from flowpose_ros.objects.mesh import Mesh  # noqa: E402
from flowpose_ros.records import Detection, Frame  # noqa: E402

CUT = 0.25
"""How much of a box lies outside of an image that cuts its object off."""
AS_ANNOTATED = "as annotated"


@dataclass(frozen=True)
class Outcome:
    """Average recall (BOP), and the share of the objects that are right by ADD-S."""

    recall: float
    right: float


def unprinted(mesh: Mesh) -> Mesh:
    """The mesh as a file without colours and pictures gives it."""
    return replace(mesh, colors=np.full_like(mesh.colors, PLAIN_GREY),
                   face_texture=np.full_like(mesh.face_texture, -1), textures=())


@dataclass(frozen=True)
class Shown:
    """What a camera and a detector give of an image: masks [H,W] bool of the instances, or None."""

    frame: Frame
    detections: tuple[Detection, ...]
    masks: Sequence[np.ndarray] | None


Change = Callable[[Shown, np.random.Generator], list[Shown]]
"""What is seen in place of an image; several where each object is seen in one of its own."""


def as_it_is(shown: Shown, rng: np.random.Generator) -> list[Shown]:
    """No change."""
    return [shown]


def boxes_off(share: float) -> Change:
    """Each side of a box moved by up to a share of the box."""
    def change(shown: Shown, rng: np.random.Generator) -> list[Shown]:
        sizes = (np.tile(d.box[2:] - d.box[:2], 2) for d in shown.detections)
        return [replace(shown, detections=tuple(replace(d, box=d.box + share * rng.uniform(-1, 1, 4) * size)
                                                for d, size in zip(shown.detections, sizes)))]

    return change


def cut_off(shown: Shown, rng: np.random.Generator) -> list[Shown]:
    """For each object an image that ends where CUT of its box are outside, at one of four sides."""
    return [_cut(shown.frame, detection, int(rng.integers(4))) for detection in shown.detections]


def _cut(frame: Frame, detection: Detection, side: int) -> Shown:
    height, width = frame.image.shape[:2]
    left, top, right, bottom = detection.box + 0.5
    at = CUT * np.array([right - left, bottom - top, right - left, bottom - top]) * [1, 1, -1, -1] + detection.box + 0.5
    window = np.array([0, 0, width, height])
    window[side] = round(at[side])
    x0, y0, x1, y1 = window
    K = frame.K - np.array([[0, 0, x0], [0, 0, y0], [0, 0, 0]])
    depth = None if frame.depth is None else frame.depth[y0:y1, x0:x1]
    part = replace(frame, image=frame.image[y0:y1, x0:x1], K=K, depth=depth)
    box = (detection.box - [x0, y0, x0, y0]).clip(-0.5, np.array([x1 - x0, y1 - y0] * 2) - 0.5)
    return Shown(part, (replace(detection, box=box, mask=None),), None)


def without_own_depth(shown: Shown, rng: np.random.Generator) -> list[Shown]:
    """No depth where the objects are, all other depth as it is."""
    depth = shown.frame.depth.copy()
    depth[np.any(shown.masks, axis=0)] = 0
    return [replace(shown, frame=replace(shown.frame, depth=depth))]


def measured(dataset: BopDataset, targets: Sequence[Target], change: Change, depth: str) -> Outcome:
    """What comes of a dataset's changed images, the same for an image in every run."""
    estimator = Estimator(dataset.catalogue, EstimatorOptions(depth=depth))
    estimator.warm_up()
    rows = []
    for sample in tqdm(list(dataset.samples()), unit="image", disable=None):
        rng = np.random.default_rng([sample.image_id.scene_id, sample.image_id.im_id])
        for shown in change(Shown(sample.frame, sample.detections, dataset.masks(sample.image_id)), rng):
            rows += [ResultRow(sample.image_id, dataset.catalogue[e.label].obj_id, e.score, e.T_cam_obj, 0.0)
                     for e in estimator.estimate(shown.frame, shown.detections).estimates]
    evaluation = score_with_progress(dataset, rows, targets)
    right = [c for c in evaluation.comparisons if c.add_s < SHARE_OF_DIAMETER * c.diameter]
    return Outcome(evaluation.total.ar, found_share(evaluation.total.target_count, right))


def trials(true: BopDataset, shares: Sequence[float], depth: str) -> Iterator[tuple[str, BopDataset, Change]]:
    """Name, dataset and change of each row of the table."""
    bare = BopDataset(true.root, true.split, catalogue=Catalogue(
        [replace(model, mesh=unprinted(model.mesh)) for model in true.catalogue]))
    yield AS_ANNOTATED, true, as_it_is
    yield "meshes without print", bare, as_it_is
    yield from ((f"boxes off by up to {share:.0%}", true, boxes_off(share)) for share in shares)
    yield f"cut off by {CUT:.0%}", true, cut_off
    if depth == "on" and true.masks(true.images[0]) is not None:
        yield "objects give no depth", true, without_own_depth


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, default=ROOT / "demo", help="BOP dataset (default: the demo)")
    parser.add_argument("--off", nargs="+", type=float, default=[0.1, 0.2], metavar="SHARE",
                        help="how far the sides of boxes are off (default: 0.1 0.2)")
    parser.add_argument("--depth", choices=("on", "off", "both"), default="both")
    args = parser.parse_args()
    table = []
    try:
        true = BopDataset(args.dataset)
        targets = targets_from_ground_truth(true)
        for depth in ("on", "off") if args.depth == "both" else (args.depth,):
            found = {name: measured(dataset, targets, change, depth)
                     for name, dataset, change in trials(true, args.off, depth)}
            reference = found[AS_ANNOTATED].recall or float("nan")
            table += [("RGB-D" if depth == "on" else "RGB", name, o.recall, o.right, o.recall / reference)
                      for name, o in found.items()]
    except FlowposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_table(("input", "", "AR", f"ADD-S < {SHARE_OF_DIAMETER} d", "of as annotated"), table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
