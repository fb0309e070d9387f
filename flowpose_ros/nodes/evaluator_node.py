"""Scores the estimator's poses, looked up on TF, against the ground truth of the scene being played."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from std_msgs.msg import Header
from tf2_ros import Buffer, TransformException, TransformListener
from vision_msgs.msg import Detection2DArray, Detection3D, Detection3DArray

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.results import ResultRow, write_results
from flowpose_ros.evaluation.score_tables import Table, object_table, timing_table
from flowpose_ros.evaluation.scores import Evaluation, evaluate
from flowpose_ros.evaluation.targets import targets_from_ground_truth
from flowpose_ros.nodes.bop_stream import BopStream, StreamOptions
from flowpose_ros.nodes.messages.frames import stamp_ns
from flowpose_ros.nodes.messages.poses import transform_matrix
from flowpose_ros.nodes.parameters import declare_options, read_options
from flowpose_ros.nodes.spin import run
from flowpose_ros.options import Options, option
from flowpose_ros.runtime.stop_request import StopRequest

QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
TF_PATIENCE_S = 2.0
"""How long a pose may take to appear on TF after its message, seconds."""


@dataclass(frozen=True)
class EvaluatorOptions(Options):
    """What is written, and when the evaluation ends."""

    output: str = option("", "write the scores to this JSON file, and the poses to a BOP csv beside it", runtime=False)
    tf_prefix: str = option("", "the estimator's tf_prefix", runtime=False)
    idle_s: float = option(30.0, "end after so long without a message, once the first has come, seconds",
                           low=1.0, high=3600.0, runtime=False)


@dataclass(frozen=True)
class _Answer:
    """A message on `poses` that waits for the transforms of its detections of known objects."""

    header: Header
    detections: tuple[Detection3D, ...]
    arrived: float


class EvaluatorNode(Node):
    """Ends, with a table, when every image of the scene has its answer or nothing comes any more."""

    def __init__(self) -> None:
        super().__init__("flowpose_evaluator")
        declare_options(self, StreamOptions, EvaluatorOptions)
        self._options = read_options(self, EvaluatorOptions)
        self._stream = BopStream(read_options(self, StreamOptions))
        self._rows: list[ResultRow] = []
        self._shown: dict[int, float] = {}
        self._latencies: dict[int, float] = {}
        self._waiting: list[_Answer] = []
        self._without_tf = 0
        self._unknown = 0
        self._latest: float | None = None
        self._buffer = Buffer(cache_time=Duration(seconds=3600))
        self._listener = TransformListener(self._buffer, self)
        self.create_subscription(Detection2DArray, "detections", self._take_detections, QoSProfile(
            depth=50, reliability=ReliabilityPolicy.BEST_EFFORT))
        self.create_subscription(Detection3DArray, "poses", self._take_poses, QOS)
        self.finished = False

    def begin(self, stopping: StopRequest) -> None:
        """Start to look for the transforms of the answers."""
        self._stop = stopping
        self.create_timer(0.02, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> bool:
        """Score what came, print the tables and write the files; an image without an answer has no poses."""
        self._stop.take_time()  # the scores of what was played are what it is run for
        played = {self._stream.image_at(stamp) for stamp in self._shown}
        targets = [t for t in targets_from_ground_truth(self._stream.dataset) if t.image_id in played]
        print(f"{len(self._latencies)} of {len(played)} images answered, "
              f"{self._without_tf} poses without a transform, {self._unknown} of no known object")
        if targets:
            evaluation = evaluate(self._stream.dataset, self._rows, targets)
            latency = timing_table({"image to poses": list(self._latencies.values())})
            print(f"{object_table(evaluation)}\n\n{latency}")
            if self._options.output:
                self._write(evaluation, len(played))
        return True

    def _take_detections(self, message: Detection2DArray) -> None:
        stamp = stamp_ns(message)
        self._latest = time.monotonic()
        if self._stream.image_at(stamp) is not None:
            self._shown.setdefault(stamp, self._latest)

    def _take_poses(self, message: Detection3DArray) -> None:
        self._latest = time.monotonic()
        stamp = stamp_ns(message)
        if self._stream.image_at(stamp) is not None and stamp not in self._latencies:
            self._latencies[stamp] = self._latest - self._shown.setdefault(stamp, self._latest)
            known = tuple(detection for detection in message.detections if self._knows(detection))
            self._unknown += len(message.detections) - len(known)
            self._waiting.append(_Answer(message.header, known, self._latest))
            self.get_logger().info(f"{len(self._latencies)} of {len(self._stream)} images answered")

    def _knows(self, detection: Detection3D) -> bool:
        results = detection.results
        return bool(results) and results[0].hypothesis.class_id in self._stream.dataset.catalogue

    def _tick(self) -> None:
        now = time.monotonic()
        self._waiting = [answer for answer in self._waiting if not self._score(answer, now)]
        complete = len(self._latencies) == len(self._stream) and not self._waiting
        idle = self._latest is not None and now - self._latest > self._options.idle_s
        self.finished = complete or idle

    def _score(self, answer: _Answer, now: float) -> bool:
        """Score an answer when its transforms are here, or without them after the patience."""
        transforms = [self._look_up(answer.header, detection.id) for detection in answer.detections]
        if None in transforms and now - answer.arrived < TF_PATIENCE_S:
            return False
        self._without_tf += transforms.count(None)
        stamp = stamp_ns(answer)
        for detection, transform in zip(answer.detections, transforms):
            if transform is not None:
                hypothesis = detection.results[0].hypothesis
                obj_id = self._stream.dataset.catalogue[hypothesis.class_id].obj_id
                self._rows.append(ResultRow(self._stream.image_at(stamp), obj_id, hypothesis.score,
                                            transform_matrix(transform), self._latencies[stamp]))
        return True

    def _look_up(self, header: Header, name: str):
        child = self._options.tf_prefix + name
        try:
            return self._buffer.lookup_transform(header.frame_id, child, Time.from_msg(header.stamp)).transform
        except TransformException:
            return None

    def _write(self, evaluation: Evaluation, images: int) -> None:
        path = Path(self._options.output)
        content = {"images": images, "answered": len(self._latencies), "poses_without_transform": self._without_tf,
                   "poses_of_unknown_objects": self._unknown,
                   "latency_s": float(np.median(list(self._latencies.values()))) if self._latencies else None,
                   "objects": _records(object_table(evaluation))}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, indent=1) + "\n")
        except OSError as error:
            raise DatasetError(f"{path}: expected a writable path, got {error.strerror}") from error
        write_results(path.with_suffix(".csv"), self._rows)


def _records(table: Table) -> list[dict[str, object]]:
    return [dict(zip(table.header, row)) for row in table.rows]


def main(args: list[str] | None = None) -> int:
    """Run the evaluator; see docs/node.md for its parameters."""
    return run(EvaluatorNode, args)


if __name__ == "__main__":
    sys.exit(main())
