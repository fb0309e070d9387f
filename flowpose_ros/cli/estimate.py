"""`flowpose estimate`: poses of the objects in one image."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

from flowpose_ros.cli.dataset_flags import add_unit_flag
from flowpose_ros.cli.option_flags import add_option_flags, options_from
from flowpose_ros.cli.progress import warm_up_with_progress
from flowpose_ros.errors import DetectionError, FrameError
from flowpose_ros.estimation.estimator import Estimator
from flowpose_ros.estimation.estimator_options import EstimatorOptions
from flowpose_ros.evaluation.contour import draw_pose
from flowpose_ros.evaluation.images import check_image_path, read_color, read_depth, write_image
from flowpose_ros.evaluation.json_input import read_mapping, take_number, take_numbers
from flowpose_ros.evaluation.table import format_table
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.records import Detection, Frame, FrameResult
from flowpose_ros.rendering.raycast import RaycastRenderer


FAR_OFF = 1.7
"""A pose so many times farther than depth has it, or nearer, is not that of what depth shows."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add this subcommand to the program."""
    parser = subparsers.add_parser(
        "estimate", help="poses of the objects in one image",
        epilog="example: flowpose estimate image.png --intrinsics 615,615,320,240 --objects objects \\\n"
               "             --box mug,210,150,330,290 --depth depth.png",
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", metavar="IMAGE", type=Path, help="rectified colour image")
    parser.add_argument("--intrinsics", required=True, metavar="FX,FY,CX,CY|FILE",
                        help="pixels, or a JSON or YAML file with fx, fy, cx, cy, with cam_K, or as ROS keeps calibrations "
                             "(camera_matrix)")
    parser.add_argument("--objects", required=True, metavar="FOLDER", type=Path, help="meshes of the objects")
    add_unit_flag(parser)
    parser.add_argument("--box", required=True, action="append", metavar="LABEL,L,T,R,B",
                        help="an object and its box in pixels; may be repeated")
    parser.add_argument("--depth", metavar="FILE", type=Path,
                        help="depth, registered to the colour image: PNG or TIFF of one channel, or .npy")
    parser.add_argument("--depth-scale", type=scale, metavar="X",
                        help="metres per unit of the depth image, which is a thousandth of BOP's depth_scale (default: "
                             "0.001, of an image of floating point numbers 1)")
    parser.add_argument("--output", metavar="FILE", type=Path,
                        help="picture with the poses drawn (default: IMAGE's name with _poses.png, here)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    # --depth names the file here, and whether to use it follows from that.
    add_option_flags(parser.add_argument_group("estimator"), EstimatorOptions, skip=("depth",))
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Estimate, print the poses, write the picture; exit code 1 when a detection got no pose."""
    options = options_from(args, EstimatorOptions, depth="off" if args.depth is None else "auto")
    picture = args.output or Path(f"{args.image.stem}_poses.png")
    check_image_path(picture)
    depth = read_depth(args.depth, args.depth_scale) if args.depth is not None else None
    frame = Frame(read_color(args.image), parse_intrinsics(args.intrinsics), depth)
    detections = [parse_box(text) for text in args.box]
    catalogue = Catalogue.load(args.objects, args.unit, [detection.label for detection in detections])
    estimator = Estimator(catalogue, options)
    warm_up_with_progress(estimator)
    result = estimator.estimate(frame, detections)
    for line in doubts(frame, catalogue, result):
        print(f"note: {line}", file=sys.stderr)
    print(_as_json(result) if args.json else _as_table(result))
    write_image(picture, _overlay(frame, catalogue, result))
    if not args.json:
        print(f"picture: {picture}")
    return 1 if result.dropped else 0


def doubts(frame: Frame, catalogue: Catalogue, result: FrameResult) -> list[str]:
    """What in the input is probably not as it was meant, in words."""
    height, width = frame.image.shape[:2]
    lines = []
    if abs(frame.K[0, 2] - width / 2) > width / 4 or abs(frame.K[1, 2] - height / 2) > height / 4:
        lines.append(f"the principal point ({frame.K[0, 2]:g}, {frame.K[1, 2]:g}) is far from the middle of the {width} x "
                     f"{height} image: are the intrinsics those of another resolution?")
    if frame.depth is None:
        return lines
    if not (frame.depth > 0).any():
        return [*lines, "the depth image has no valid pixel: poses are without depth"]
    for estimate in result.estimates:
        left, top, right, bottom = estimate.detection.box.round().astype(int).clip(0)
        measured = frame.depth[top:bottom + 1, left:right + 1]
        middle = float(np.median(measured[measured > 0])) if (measured > 0).any() else 0.0
        z = float(estimate.T_cam_obj[2, :3] @ catalogue[estimate.label].mesh.center + estimate.T_cam_obj[2, 3])
        if middle and not 1 / FAR_OFF < z / middle < FAR_OFF:
            lines.append(f"{estimate.label}: the depth image says {middle:.3g} m in its box, its pose {z:.3g} m: is "
                         "--depth-scale right?")
    return lines


def parse_intrinsics(text: str) -> np.ndarray:
    """K [3,3] of "fx,fy,cx,cy" or of a JSON or YAML file with these four, with cam_K, or with ROS's camera_matrix.

    Raises FrameError or DatasetError.
    """
    if text.endswith((".json", ".yaml", ".yml")):
        content = read_mapping(Path(text))
        if "camera_matrix" in content:
            return take_numbers(content["camera_matrix"], "data", 9, f"{text}: camera_matrix").reshape(3, 3)
        if "cam_K" in content:
            rows = content["cam_K"]
            flat = sum(rows, []) if isinstance(rows, list) and all(isinstance(row, list) for row in rows) else rows
            return take_numbers({"cam_K": flat}, "cam_K", 9, text).reshape(3, 3)
        if not {"fx", "fy", "cx", "cy"} <= content.keys():
            raise FrameError(f"{text}: expected fx, fy, cx and cy, cam_K or camera_matrix, got "
                             f"{', '.join(map(str, content)) or 'nothing'}")
        numbers = [take_number(content, key, float("nan"), text) for key in ("fx", "fy", "cx", "cy")]
    else:
        numbers = _numbers(text.split(","))
    if numbers is None or len(numbers) != 4:
        raise FrameError(f"--intrinsics: expected fx,fy,cx,cy or a .json or .yaml file, got {text!r}")
    fx, fy, cx, cy = numbers
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def parse_box(text: str) -> Detection:
    """The detection of "label,left,top,right,bottom"; a label may hold commas. Raises DetectionError."""
    label, *words = text.rsplit(",", 4)
    numbers = _numbers(words)
    if not label or numbers is None or len(numbers) != 4:
        raise DetectionError(f"--box: expected LABEL,LEFT,TOP,RIGHT,BOTTOM, got {text!r}")
    return Detection(label, np.array(numbers))


def scale(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number above 0, got {text}")
    return value


def _numbers(words: list[str]) -> list[float] | None:
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def _overlay(frame: Frame, catalogue: Catalogue, result: FrameResult) -> np.ndarray:
    renderer, image = RaycastRenderer(), frame.image
    for estimate in result.estimates:
        image = draw_pose(image, catalogue[estimate.label].mesh, estimate.T_cam_obj, frame.K, renderer,
                          text=f"{estimate.label} {estimate.score:.2f}")
    return image


def _as_table(result: FrameResult) -> str:
    poses = [(e.label, e.score, *e.T_cam_obj[:3, 3], " ".join(f"{v:.4f}" for v in e.T_cam_obj[:3, :3].ravel()))
             for e in result.estimates]
    lines = [format_table(("object", "score", "x m", "y m", "z m", "R_cam_obj row by row"), poses)]
    lines += [f"no pose: {dropped.detail}" for dropped in result.dropped]
    return "\n".join(lines)


def _as_json(result: FrameResult) -> str:
    return json.dumps({
        "poses": [{"label": e.label, "instance": e.instance, "score": e.score, "T_cam_obj": e.T_cam_obj.tolist(),
                   "covariance": e.covariance.tolist()} for e in result.estimates],
        "dropped": [{"label": d.detection.label, "reason": d.reason, "detail": d.detail} for d in result.dropped],
        "seconds": result.timings}, indent=1)
