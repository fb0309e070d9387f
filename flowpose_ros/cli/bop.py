"""`flowpose bop`: poses for a dataset in BOP layout, as a BOP csv file."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from flowpose_ros.cli.dataset_flags import add_dataset_flags, need_ground_truth, need_objects, open_dataset, targets_of
from flowpose_ros.cli.evaluate import print_scores, score_with_progress
from flowpose_ros.cli.option_flags import add_option_flags, options_from
from flowpose_ros.cli.progress import warm_up_with_progress
from flowpose_ros.errors import DatasetError, FlowposeError
from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.estimation.estimator_options import EstimatorOptions
from flowpose_ros.evaluation.bop_dataset import BopDataset, GroundTruth, ImageId, detections_of
from flowpose_ros.evaluation.detections import ImageDetections, best_per_target, read_detections
from flowpose_ros.evaluation.output_paths import make_folder, make_room_for
from flowpose_ros.evaluation.report import write_report
from flowpose_ros.evaluation.results import ResultRow, result_file_name, write_results
from flowpose_ros.evaluation.score_tables import timing_table
from flowpose_ros.evaluation.targets import Target, images_of, with_objects
from flowpose_ros.records import Detection

DetectionSource = Callable[[ImageId], ImageDetections]
EXIT_INCOMPLETE = 1
TOLD = 3
"""So many of what is dropped for one reason are told one by one."""


@dataclass
class Run:
    """What estimating the images of a dataset gave.

    images: those that could be read; timings: seconds per stage; dropped: lost detections, and images, by reason.
    """

    images: list[ImageId] = field(default_factory=list)
    rows: list[ResultRow] = field(default_factory=list)
    timings: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    dropped: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add this subcommand to the program."""
    parser = subparsers.add_parser(
        "bop", help="poses for a dataset in BOP layout, as a BOP csv file",
        epilog="example: flowpose bop datasets/ycbv --detections gt --depth on --report report",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add_dataset_flags(parser)
    parser.add_argument("--detections", required=True, metavar="gt|FILE.json",
                        help="ground truth boxes, or detections in BOP's default format")
    parser.add_argument("--output", metavar="FILE.csv", type=Path,
                        help="result file (default: METHOD_DATASET-SPLIT[-TYPE].csv here)")
    add_option_flags(parser.add_argument_group("estimator"), EstimatorOptions)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Estimate, write the csv, and where there is ground truth print scores; report if asked for.

    1 when an image could not be read or not a single pose came out.
    """
    options = options_from(args, EstimatorOptions)
    dataset = open_dataset(args)
    targets = targets_of(args, dataset)
    need_objects(dataset, targets or ())
    images = images_of(targets) if targets is not None else dataset.images
    source = detection_source(args.detections, dataset, targets)
    output = args.output or Path(result_file_name(f"flowpose-{options.coarse}-{options.refiner}",
                                                  dataset.name.replace("_", "").replace("-", ""),
                                                  *args.split.split("_", 1)))
    make_room_for(output)
    if args.report is not None:
        make_folder(args.report)
    estimator = Estimator(dataset.catalogue, options)
    warm_up_with_progress(estimator)
    outcome = Run()
    try:
        estimate_images(estimator, dataset, images, source, outcome)
    finally:  # an interrupted run keeps what it has
        write_results(output, outcome.rows)
        print(f"{len(outcome.rows)} poses of {len(outcome.images)} of {len(images)} images: {output}")
    for reason, count in sorted(outcome.dropped.items()):
        print(f"dropped, {reason}: {count}")
    read = set(outcome.images)
    evaluation, scored = None, [target for target in targets or () if target.image_id in read]
    if dataset.has_ground_truth and scored:
        evaluation = score_with_progress(dataset, outcome.rows, with_objects(scored, dataset))
        if len(outcome.images) < len(images):
            print(f"scores without the {len(images) - len(outcome.images)} of {len(images)} images that could not be read")
        print_scores(evaluation)
    print(timing_table(outcome.timings))
    if args.report is not None:
        page = write_report(args.report, output.stem, dataset, outcome.rows, evaluation, outcome.timings,
                            outcome.images)
        print(f"report: {page}")
    return 0 if outcome.rows and len(outcome.images) == len(images) else EXIT_INCOMPLETE


def detection_source(detections: str, dataset: BopDataset, targets: Sequence[Target] | None) -> DetectionSource:
    """Where the detections of an image come from: its ground truth ("gt") or a file.

    Only what the targets ask for is used, of a file the best detections; those of objects or images that the dataset
    does not have are counted and printed.
    Raises DatasetError when the ground truth is missing or the file unusable.
    """
    wanted: dict[ImageId, dict[str, int]] = defaultdict(dict)
    named = [target for target in targets or () if target.obj_id is not None]
    for target in named:
        wanted[target.image_id][dataset.label_of(target.obj_id)] = target.inst_count

    def of_targets(found: Sequence[Detection], image_id: ImageId) -> tuple[Detection, ...]:
        return best_per_target(found, wanted[image_id]) if named else tuple(found)

    if detections == "gt":
        need_ground_truth(dataset, "--detections gt")

        def of_truth(image_id: ImageId) -> ImageDetections:
            chosen = of_targets(visible_first(dataset.ground_truth(image_id)), image_id)
            return ImageDetections(tuple(sorted(chosen, key=lambda detection: detection.instance)))

        return of_truth
    if not detections.endswith(".json"):
        raise DatasetError(f"--detections: expected gt or a .json file, got {detections!r}")
    by_image = read_detections(
        detections, lambda obj_id: dataset.label_of(obj_id) if str(obj_id) in dataset.catalogue else f"object {obj_id}")
    images = set(dataset.images)
    unknown = sum(image_id not in images or detection.label not in dataset.catalogue
                  for image_id, found in by_image.items() for detection in found.detections)
    if unknown:
        print(f"{detections}: {unknown} detections of images or objects that {dataset.root} does not have")

    def of_image(image_id: ImageId) -> ImageDetections:
        found = by_image.get(image_id, ImageDetections())
        return ImageDetections(of_targets(found.detections, image_id), found.time)

    return of_image


def visible_first(truths: Sequence[GroundTruth]) -> tuple[Detection, ...]:
    """The detections of an image's ground truth, the most visible instance first."""
    return tuple(sorted(detections_of(truths), key=lambda detection: -truths[detection.instance].visib_fract))


def estimate_images(estimator: Estimator, dataset: BopDataset, images: Sequence[ImageId],
                    source: DetectionSource, outcome: Run) -> None:
    """Estimate the images one by one into `outcome`; each row's time is the detector's and the estimator's together.

    An image that cannot be read is said, counted as `image_unusable` and passed over.
    """
    for image_id in tqdm(images, desc="estimating", unit="image", disable=None):
        try:
            frame, found = dataset.frame(image_id), source(image_id)
        except FlowposeError as error:
            tqdm.write(f"image {image_id}: {error}", file=sys.stderr)
            outcome.dropped["image_unusable"] += 1
            continue
        start = time.perf_counter()
        result = estimator.estimate(frame, found.detections)
        seconds = time.perf_counter() - start
        outcome.images.append(image_id)
        for stage, spent in (*result.timings.items(), ("image", seconds)):
            outcome.timings[stage].append(spent)
        for dropped in result.dropped:
            outcome.dropped[dropped.reason] += 1
            if outcome.dropped[dropped.reason] <= TOLD:
                tqdm.write(f"image {image_id}: no pose: {dropped.detail}", file=sys.stderr)
        for estimate in result.estimates:
            obj_id = dataset.catalogue[estimate.label].obj_id
            if obj_id is None:
                raise DatasetError(f"{estimate.label}: expected an object with a BOP id, got none")
            outcome.rows.append(ResultRow(image_id, obj_id, estimate.score, estimate.T_cam_obj, seconds + found.time))
