"""`flowpose demo`: a clip through the real node over DDS, scored from TF, with pictures."""

from __future__ import annotations

import argparse
import json
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from flowpose_ros.cli.dataset_flags import need_ground_truth
from flowpose_ros.cli.demo_summary import demo_table, write_contact_sheet, write_movie
from flowpose_ros.cli.evaluate import score_with_progress
from flowpose_ros.errors import DatasetError, FlowposeError
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.evaluation.output_paths import make_folder
from flowpose_ros.evaluation.report import picture_name, write_report
from flowpose_ros.evaluation.results import ResultRow, read_results
from flowpose_ros.evaluation.targets import Target, images_of, targets_from_ground_truth
from flowpose_ros.runtime.environment import private_ros_environment, share_folder
from flowpose_ros.runtime.node_process import NodeProcess

POLL_S = 0.2
EXIT_NO_POSE = 1
PREPARED = re.compile(r"\]: (.+: \d+%)\s*$", re.MULTILINE)
ANSWERED = re.compile(r"(\d+) of \d+ images answered")
POSES = {"poses": "flowpose/poses"}


@dataclass(frozen=True)
class Answers:
    """What came back over ROS: poses as found on TF, images played and answered, poses TF did not have."""

    rows: tuple[ResultRow, ...]
    played: int
    answered: int
    without_transform: int


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add this subcommand to the program."""
    parser = subparsers.add_parser(
        "demo", help="the demo clip through the real node, with scores and pictures",
        description="Play a scene through the estimator node over DDS, look its poses up on TF, score and draw them.",
        epilog="example: flowpose demo\nexample: flowpose demo --dataset datasets/ycbv --frames 10 --depth off",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", metavar="DATASET", type=Path,
                        help="folder of a dataset in BOP layout with ground truth (default: the demo clip)")
    parser.add_argument("--output", metavar="DIR", type=Path, default=Path("output/demo"),
                        help="where the pictures, the page and the logs go (default: %(default)s)")
    parser.add_argument("--frames", metavar="N", type=count, default=0,
                        help="play the first N images only (default: all)")
    parser.add_argument("--depth", choices=("auto", "on", "off"), default="auto",
                        help="use depth images: where there are some, always, never (default: %(default)s)")
    parser.add_argument("--mode", choices=("detect", "track"), default="detect",
                        help="estimate each image anew, or follow what the first one shows (default: %(default)s)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Play, score, draw; 1 when not a single pose came out."""
    root = (args.dataset or share_folder() / "demo").resolve()
    dataset = BopDataset(root)
    need_ground_truth(dataset, "the demo")
    shown = set(dataset.images[:args.frames or None])
    targets = tuple(t for t in targets_from_ground_truth(dataset) if t.image_id in shown)
    if not targets:
        raise DatasetError(f"{root}: expected annotated objects in the first {len(shown)} images, got none")
    make_folder(args.output)
    answers = play(dataset, targets, args.output, args.frames, args.depth, args.mode)
    print(f"{answers.answered} of {answers.played} images answered, {len(answers.rows)} poses looked up on TF, "
          f"{answers.without_transform} not there")
    if not answers.rows:
        print(f"no pose came out; the nodes' logs are in {args.output / 'logs'}")
        return EXIT_NO_POSE
    show(dataset, targets, answers.rows, args.output)
    return 0


def play(dataset: BopDataset, targets: tuple[Target, ...], output: Path, frames: int, depth: str,
         mode: str) -> Answers:
    """Run estimator, player and evaluator until every image has its answer."""
    scores = (output / "scores.json").resolve()
    for stale in (scores, scores.with_suffix(".csv")):
        stale.unlink(missing_ok=True)
    labels = sorted({dataset.label_of(target.obj_id) for target in targets})
    stream = {"dataset": str(dataset.root), "split": dataset.split, "limit": frames}
    logs, own = output.resolve() / "logs", private_ros_environment()
    with ExitStack() as stack:
        evaluator, estimator, player = (stack.enter_context(process) for process in (
            NodeProcess("evaluator_node", logs / "evaluator.txt", {**stream, "output": str(scores)}, POSES, own),
            NodeProcess("estimator_node", logs / "estimator.txt",
                        {"objects": str(dataset.root / "models"), "labels": ",".join(labels), "depth": depth,
                         "mode": mode, "use_sim_time": True}, environment=own),
            NodeProcess("bop_player_node", logs / "player.txt",
                        {**stream, "lockstep": True, "depth": depth != "off", "introduce": mode == "track"}, POSES,
                        own)))
        follow(estimator, player, evaluator, len(labels), len(images_of(targets)))
    content = json.loads(scores.read_text())
    return Answers(read_results(scores.with_suffix(".csv")), content["images"], content["answered"],
                   content["poses_without_transform"])


def follow(estimator: NodeProcess, player: NodeProcess, evaluator: NodeProcess, objects: int, images: int) -> None:
    """Show how far the nodes are until the evaluator has ended; raises FlowposeError when one fails."""
    print(f"preparing {objects} objects, then playing {images} images through the node")
    with tqdm(total=images, unit="image", disable=None) as bar:
        while not evaluator.ended():
            player.ended()
            if estimator.ended():
                raise FlowposeError(f"the estimator ended before all images were played (log: {estimator.log})")
            answered = ANSWERED.findall(evaluator.output)
            stages = PREPARED.findall(estimator.output)
            bar.set_description("playing" if answered else stages[-1] if stages else "starting")
            bar.update((int(answered[-1]) if answered else 0) - bar.n)
            time.sleep(POLL_S)


def show(dataset: BopDataset, targets: tuple[Target, ...], rows: tuple[ResultRow, ...], output: Path) -> None:
    """Print the table; write the page, a contact sheet and a moving picture."""
    images = images_of(targets)
    evaluation = score_with_progress(dataset, rows, targets)
    latencies = list({row.image_id: row.time for row in rows}.values())
    page = write_report(output, f"flowpose demo: {dataset.name}", dataset, rows, evaluation,
                        {"image to poses": latencies}, images)
    print(f"\n{demo_table(evaluation)}\n")
    pictures = [path for path in (output / picture_name(image_id) for image_id in images) if path.is_file()]
    write_contact_sheet(output / "contact_sheet.jpg", pictures)
    write_movie(output / "demo.gif", pictures)
    print(f"pictures: {output / 'contact_sheet.jpg'}, {output / 'demo.gif'}\nreport: {page}")


def count(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of images above 0, got {value}")
    return value
