"""`flowpose replay`: a bag through the node, into a bag with the results added."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from flowpose_ros.cli.option_flags import add_option_flags, options_from
from flowpose_ros.errors import FlowposeError
from flowpose_ros.estimation.estimator import EstimatorOptions


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add this subcommand to the program."""
    parser = subparsers.add_parser(
        "replay", help="a bag through the node, into a bag with the results added",
        description="Feeds the images and detections of a rosbag2 bag (sqlite3 or mcap) to the estimator node, frame "
                    "by frame, and writes a copy of the bag with its poses (/flowpose/poses) and transforms (/tf).",
        epilog="example: flowpose replay kitchen_bag --objects models --image /camera/color/image_raw "
               "--camera-info /camera/color/camera_info --detections /yolo/detections",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", metavar="BAG", type=Path, help="bag folder, or a single .mcap or .db3 file")
    parser.add_argument("--objects", metavar="FOLDER", type=Path, required=True, help="folder of the objects")
    parser.add_argument("--output", metavar="BAG", type=Path, help="bag to write (default: BAG with _poses added)")
    for name, default in (("image", "/image"), ("camera-info", "/camera_info"), ("detections", "/detections")):
        parser.add_argument(f"--{name}", metavar="TOPIC", default=default,
                            help=f"topic of the {name.replace('-', ' ')} (default: %(default)s)")
    parser.add_argument("--depth-topic", metavar="TOPIC", help="topic of the registered depth images "
                        "(default: /depth where the bag has it)")
    parser.add_argument("--answer-timeout", metavar="SECONDS", type=float, default=60.0,
                        help="give a frame up after so long (default: %(default)s)")
    add_option_flags(parser, EstimatorOptions)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Replay the bag and say how many frames were answered."""
    session, parameters = _ros_parts()
    output = args.output or args.bag.with_name(f"{args.bag.stem}_poses")
    topics = session.ReplayTopics(args.image, args.camera_info, detections=args.detections)
    if args.depth_topic:
        topics = replace(topics, depth=args.depth_topic, require_depth=True)
    values = {"objects": str(args.objects.resolve()),
              **parameters.parameter_values(options_from(args, EstimatorOptions))}
    with tqdm(total=1.0, desc="replay", bar_format="{l_bar}{bar}| {elapsed}", disable=None) as bar:
        summary = session.replay(args.bag, output, topics, values, args.answer_timeout,
                                 lambda share: bar.update(share - bar.n))
    print(f"{summary.answered} of {summary.frames} frames answered, {summary.poses} poses: {output}")
    return 0 if summary.answered == summary.frames else 1


def _ros_parts():
    """The modules that need ROS, imported only when a bag is to be replayed."""
    try:
        from flowpose_ros.nodes import parameters, replay_session
    except ImportError as error:
        raise FlowposeError(f"replay needs ROS 2 and rosbags: {error}; `flowpose doctor` tells what to "
                            "install") from error
    return replay_session, parameters
