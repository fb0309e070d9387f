"""`flowpose evaluate`: scores of a BOP csv file against the ground truth."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from flowpose_ros.cli.dataset_flags import add_dataset_flags, need_ground_truth, open_dataset, targets_of
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.evaluation.report import write_report
from flowpose_ros.evaluation.results import HEADER, NO_TIME, ResultRow, read_results
from flowpose_ros.evaluation.score_tables import object_table, summary_table, timing_table
from flowpose_ros.evaluation.scores import Evaluation, evaluate
from flowpose_ros.evaluation.targets import Target, images_of, with_objects


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add this subcommand to the program."""
    parser = subparsers.add_parser(
        "evaluate", help="scores of a BOP csv file against the ground truth",
        epilog="example: flowpose evaluate flowpose_ycbv-test.csv datasets/ycbv --report report",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", metavar="CSV", type=Path, help=f"result file ({HEADER})")
    add_dataset_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Read, score, print, and write the report if one is asked for."""
    dataset = open_dataset(args)
    need_ground_truth(dataset, "evaluation")
    rows = read_results(args.csv)
    targets = with_objects(targets_of(args, dataset), dataset)
    evaluation = score_with_progress(dataset, rows, targets)
    timings = {"image (time column)": _image_times(rows)}
    print_scores(evaluation)
    print(timing_table(timings))
    if args.report is not None:
        page = write_report(args.report, args.csv.stem, dataset, rows, evaluation, timings, images_of(targets))
        print(f"report: {page}")
    return 0


def score_with_progress(dataset: BopDataset, rows: Sequence[ResultRow], targets: Sequence[Target]) -> Evaluation:
    """Evaluate with a progress bar on a terminal."""
    with tqdm(total=len(images_of(targets)), desc="scoring", unit="image", disable=None) as bar:
        return evaluate(dataset, rows, targets, lambda image_id: bar.update())


def print_scores(evaluation: Evaluation) -> None:
    """Print the table of objects and the summary, and how many rows the dataset knows nothing of."""
    if evaluation.unknown:
        print(f"{evaluation.unknown} poses of images or objects that the dataset does not have")
    print(f"{object_table(evaluation)}\n\n{summary_table(evaluation.total)}\n")


def _image_times(rows: Sequence[ResultRow]) -> list[float]:
    """The measured times of the images, once each."""
    return list({row.image_id: row.time for row in rows if row.time != NO_TIME}.values())
