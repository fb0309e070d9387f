"""How fast the node follows objects, from an image's stamp to its poses on the other side of DDS.

    python benchmark/latency.py                          # one object of the demo clip, 10 images a second
    python benchmark/latency.py --objects 3 --rate 4
    python benchmark/latency.py path/to/bop/dataset --scene 48 --depth off

The node runs in a process of its own; this one plays the clip there and back, each image stamped before it is sent,
with detections for every tenth. The reference, measured in the same run, is what the node itself takes for a frame:
what is above it is the way through messages, queues and DDS.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.qos import qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from tqdm import tqdm  # noqa: E402
from vision_msgs.msg import Detection2DArray, Detection3DArray  # noqa: E402

from flowpose_ros.errors import FlowposeError  # noqa: E402
from flowpose_ros.evaluation.bop_dataset import BopDataset, Sample  # noqa: E402
from flowpose_ros.evaluation.table import format_table  # noqa: E402
from flowpose_ros.nodes.messages.frames import frame_messages, header_at, stamp_ns  # noqa: E402
from flowpose_ros.nodes.spin import listening  # noqa: E402
from flowpose_ros.runtime.environment import private_ros_environment  # noqa: E402
from flowpose_ros.runtime.node_process import NodeProcess  # noqa: E402

DETECTED_EVERY = 10
READY_S = 180.0
"""Until templates are made and the first poses found."""
SETTLED_S = 3.0
"""Left out at the beginning: the first frames are followed beside the end of estimation."""


class Player:
    """Sends images, and keeps when poses of which stamp came, and how many."""

    def __init__(self, client, labels: list[str], depth: bool) -> None:
        self.labels, self.depth = labels, depth
        self.arrived: dict[int, tuple[int, int]] = {}
        self.state: dict[str, float] = {}
        self._topics = {topic: client.create_publisher(kind, topic, qos_profile_sensor_data) for topic, kind in (
            ("image", Image), ("camera_info", CameraInfo), ("depth", Image), ("detections", Detection2DArray))
            if depth or topic != "depth"}
        client.create_subscription(Detection3DArray, "flowpose/poses", self._take, 10)
        client.create_subscription(DiagnosticArray, "/diagnostics", self._take_state, 10)

    def send(self, sample: Sample, detected: bool) -> int:
        """Send an image, with detections or without; its stamp in nanoseconds."""
        stamp = time.time_ns()
        wanted = [d for d in sample.detections if d.label in self.labels]
        for topic, message in frame_messages(header_at(stamp, "camera"), sample.frame, wanted).items():
            if topic in self._topics and (detected or topic != "detections"):
                self._topics[topic].publish(message)
        return stamp

    def ready(self) -> bool:
        """Whether the last answer had poses of all objects."""
        return bool(self.arrived) and self.arrived[max(self.arrived)][1] >= len(self.labels)

    def _take(self, message: Detection3DArray) -> None:
        self.arrived[stamp_ns(message)] = time.time_ns(), len(message.detections)

    def _take_state(self, message: DiagnosticArray) -> None:
        self.state = {value.key: float(value.value) for value in message.status[0].values}


def play(player: Player, samples: list[Sample], rate: float, seconds: float) -> list[int]:
    """Send the clip there and back at a rate; the stamps that were sent after the objects were found."""
    there_and_back = samples + samples[-2:0:-1]
    begin = time.monotonic()
    while not player.ready():
        if time.monotonic() - begin > READY_S:
            raise FlowposeError(f"expected poses of {len(player.labels)} objects within {READY_S:.0f} s, got none")
        player.send(samples[0], True)
        time.sleep(0.5)
    stamps, due = [], time.monotonic()
    for k in tqdm(range(round(seconds * rate)), unit="image", disable=None):
        stamps.append(player.send(there_and_back[k % len(there_and_back)], k % DETECTED_EVERY == 0))
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))
    time.sleep(2)
    return stamps


def report(player: Player, stamps: list[int]) -> None:
    """Print rate, latency and the ratio to the node's own time for a frame."""
    stamps = [stamp for stamp in stamps if stamp - stamps[0] > SETTLED_S * 1e9]
    answered = [(stamp, *player.arrived[stamp]) for stamp in stamps if stamp in player.arrived]
    latency = np.array([(at - stamp) / 1e6 for stamp, at, _ in answered])
    poses = np.mean([count for *_, count in answered]) / len(player.labels)
    own, seconds = player.state["total_p50_ms"], (stamps[-1] - stamps[0]) / 1e9
    print(format_table(("objects", "sent", "answered", "Hz", "poses of objects", "p50 ms", "p95 ms", "most ms",
                        "node's own p50 ms", "p95 / own"),
                       [(len(player.labels), len(stamps), len(answered), (len(answered) - 1) / seconds, poses,
                         *np.percentile(latency, (50, 95, 100)), own, np.percentile(latency, 95) / own)]))
    print(f"{len(os.sched_getaffinity(0))} CPU cores")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, default=ROOT / "demo", help="BOP dataset (default: the demo)")
    parser.add_argument("--scene", type=int, default=0)
    parser.add_argument("--objects", type=int, default=1, help="how many of the scene's objects are followed")
    parser.add_argument("--rate", type=float, default=10.0, help="images a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--depth", choices=("auto", "off"), default="auto")
    args = parser.parse_args()
    os.environ.update(private_ros_environment())
    try:
        dataset = BopDataset(args.dataset)
        samples = list(dataset.samples([i for i in dataset.images if i.scene_id == args.scene]))
        labels = [d.label for d in samples[0].detections][:args.objects]
        parameters = {"objects": str(args.dataset / "models"), "labels": ",".join(labels), "mode": "track",
                      "depth": args.depth}
        with (tempfile.TemporaryDirectory() as logs, listening("latency") as client,
              NodeProcess("estimator_node", Path(logs) / "log.txt", parameters)):
            player = Player(client, labels, args.depth != "off")
            report(player, play(player, samples, args.rate, args.seconds))
    except FlowposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
