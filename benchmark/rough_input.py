"""What input that is less than ideal costs: boxes that are off, as a detector's are, and meshes without their print.

    python benchmark/rough_input.py                                   # the demo clip, with depth and without
    python benchmark/rough_input.py path/to/bop/dataset --off 0.1 0.2 --depth off

The reference, measured in the same run, is the annotated boxes and the meshes as they are. Each side of a box is moved
by up to a share of the box's width or height, at random.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from flowpose_ros.cli.bop import DetectionSource, Run, estimate_images  # noqa: E402
from flowpose_ros.cli.evaluate import score_with_progress  # noqa: E402
from flowpose_ros.errors import FlowposeError  # noqa: E402
from flowpose_ros.estimation.estimator import Estimator  # noqa: E402
from flowpose_ros.estimation.estimator_options import EstimatorOptions  # noqa: E402
from flowpose_ros.evaluation.bop_dataset import BopDataset, ImageId, detections_of  # noqa: E402
from flowpose_ros.evaluation.detections import ImageDetections  # noqa: E402
from flowpose_ros.evaluation.scores import SHARE_OF_DIAMETER, found_share  # noqa: E402
from flowpose_ros.evaluation.table import format_table  # noqa: E402
from flowpose_ros.evaluation.targets import Target, targets_from_ground_truth  # noqa: E402
from flowpose_ros.objects.appearance import PLAIN_GREY  # noqa: E402
from flowpose_ros.objects.catalogue import Catalogue  # noqa: E402
from flowpose_ros.objects.mesh import Mesh  # noqa: E402


@dataclass(frozen=True)
class Outcome:
    """Average recall (BOP), and the share of the objects that are right by ADD-S."""

    recall: float
    right: float


def unprinted(mesh: Mesh) -> Mesh:
    """The mesh as a file without colours and pictures gives it."""
    return replace(mesh, colors=np.full_like(mesh.colors, PLAIN_GREY),
                   face_texture=np.full_like(mesh.face_texture, -1), textures=())


def boxes_off(dataset: BopDataset, share: float) -> DetectionSource:
    """The annotated boxes, each side moved by up to a share of the box; the same for an image in every run."""
    def of_image(image_id: ImageId) -> ImageDetections:
        rng = np.random.default_rng([image_id.scene_id, image_id.im_id])
        found = []
        for detection in detections_of(dataset.ground_truth(image_id)):
            size = np.tile(detection.box[2:] - detection.box[:2], 2)
            found.append(replace(detection, box=detection.box + share * rng.uniform(-1, 1, 4) * size))
        return ImageDetections(tuple(found))

    return of_image


def measured(dataset: BopDataset, targets: Sequence[Target], share: float, depth: str) -> Outcome:
    """What comes of a dataset's images with boxes so far off."""
    estimator = Estimator(dataset.catalogue, EstimatorOptions(depth=depth))
    estimator.warm_up()
    run = Run()
    estimate_images(estimator, dataset, dataset.images, boxes_off(dataset, share), run)
    evaluation = score_with_progress(dataset, run.rows, targets)
    right = [c for c in evaluation.comparisons if c.add_s < SHARE_OF_DIAMETER * c.diameter]
    return Outcome(evaluation.total.ar, found_share(evaluation.total.target_count, right))


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
        bare = BopDataset(args.dataset, catalogue=Catalogue(
            [replace(model, mesh=unprinted(model.mesh)) for model in true.catalogue]))
        targets = targets_from_ground_truth(true)
        trials = [("as annotated", true, 0.0), ("meshes without print", bare, 0.0),
                  *((f"boxes off by up to {share:.0%}", true, share) for share in args.off)]
        for depth in ("on", "off") if args.depth == "both" else (args.depth,):
            found = {name: measured(dataset, targets, share, depth) for name, dataset, share in trials}
            reference = found["as annotated"].recall or float("nan")
            table += [("RGB-D" if depth == "on" else "RGB", name, o.recall, o.right, o.recall / reference)
                      for name, o in found.items()]
    except FlowposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_table(("input", "", "AR", f"ADD-S < {SHARE_OF_DIAMETER} d", "of as annotated"), table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
