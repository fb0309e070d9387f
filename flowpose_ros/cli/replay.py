"""`flowpose replay`: a bag through the node, into a bag with the results added."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from tqdm import tqdm

from flowpose_ros.cli.dataset_flags import add_unit_flag
from flowpose_ros.cli.option_flags import add_option_flags, options_from
from flowpose_ros.errors import BagError
from flowpose_ros.estimation.estimator_options import EstimatorOptions
from flowpose_ros.options import named_values
from flowpose_ros.runtime.environment import private_ros_environment
from flowpose_ros.runtime.frame_assembler import AssemblerOptions
from flowpose_ros.runtime.node_options import NodeOptions
from flowpose_ros.runtime.node_process import NodeProcess
from flowpose_ros.runtime.replay_options import ReplayOptions

POLL_S = 0.1
EXIT_INCOMPLETE = 1
OPENED, COMPRESSED = "waiting for", "images are compressed"
READ = re.compile(r"(\d+) of (\d+) messages")
SUMMARY = re.compile(r"^(\d+) of (\d+) frames answered, (\d+) poses$", re.MULTILINE)
LEFT_OUT = re.compile(r"\w+: \d+ left out.*")
NOT_OF_A_REPLAY = ("objects", "object_unit", "image_transport", "mode", "autostart", "publish_tf", "watchdog_s")
"""Parameters of the node that a replay decides, or that have no meaning in it."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add this subcommand to the program."""
    parser = subparsers.add_parser(
        "replay", help="a bag through the node, into a bag with the results added",
        description="Feed the images and detections of a rosbag2 bag (sqlite3 or mcap) to the estimator node, frame "
                    "by frame, and write a copy of the bag with its poses (/flowpose/poses) and transforms (/tf).",
        epilog="example: flowpose replay kitchen_bag --objects models --image-topic /camera/color/image_raw "
               "--camera-info-topic /camera/color/camera_info --detections-topic /yolo/detections",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", metavar="BAG", type=Path, help="bag folder, or a single .mcap or .db3 file")
    parser.add_argument("--objects", metavar="FOLDER", type=Path, required=True, help="folder of the objects")
    add_unit_flag(parser)
    parser.add_argument("--output", metavar="BAG", type=Path, help="bag to write (default: BAG with _poses added)")
    add_option_flags(parser, ReplayOptions, skip=("bag", "output"))
    add_option_flags(parser, AssemblerOptions)
    add_option_flags(parser, NodeOptions, skip=NOT_OF_A_REPLAY)
    add_option_flags(parser, EstimatorOptions)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Replay the bag and say how many frames were answered; 1 when some were not."""
    output = args.output or args.bag.with_name(f"{args.bag.stem}_poses")
    if output.exists():
        raise BagError(f"{output}: expected a new folder to write to, got one that exists")
    replay = options_from(args, ReplayOptions, bag=str(args.bag.resolve()), output=str(output.resolve()))
    given = options_from(args, NodeOptions, objects=str(args.objects.resolve()), object_unit=args.unit or "")
    assembly = named_values(options_from(args, AssemblerOptions))
    estimator = named_values(given) | named_values(options_from(args, EstimatorOptions)) | assembly
    logs, own = output.with_name(f"{output.name}_logs"), private_ros_environment()  # a replay must not move a robot's TF
    with NodeProcess("replay_node", logs / "replay.txt", named_values(replay) | assembly, environment=own) as player:
        await_opened(player)
        packed = {"image_transport": "compressed" if COMPRESSED in player.output else "raw"}
        with NodeProcess("estimator_node", logs / "estimator.txt", estimator | packed, environment=own) as node:
            follow(player, node)
    for reason in LEFT_OUT.findall(player.output + node.output):
        print(reason, file=sys.stderr)
    summary = SUMMARY.search(player.output)
    if summary is None:
        raise BagError(f"the replay ended without a summary (log: {player.log})")
    print(f"{summary[0]}: {output}")
    answered, frames, poses = map(int, summary.groups())
    if not poses:
        print(f"no pose came out (log: {node.log})", file=sys.stderr)
    return 0 if answered == frames and poses else EXIT_INCOMPLETE


def await_opened(player: NodeProcess) -> None:
    """Wait until the bag is open and has its topics, before anything is loaded for it."""
    while OPENED not in player.output and not player.ended():
        time.sleep(POLL_S)


def follow(player: NodeProcess, estimator: NodeProcess) -> None:
    """Show how far the bag is read until its end; raises FlowposeError when one of the nodes fails."""
    with tqdm(desc="replay", unit="message", disable=None) as bar:
        while not player.ended():
            if estimator.ended():
                raise BagError(f"the estimator ended before the bag did (log: {estimator.log})")
            for read, total in READ.findall(player.output)[-1:]:
                bar.total = int(total)
                bar.update(int(read) - bar.n)
            time.sleep(POLL_S)
