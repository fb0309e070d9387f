"""The node under a camera of 30 images a second that fails at random, for hours: python test/soak.py --hours 0.17

Every image must be accounted for, every pose must be one, memory must stand still once warm, and the node must answer
the next good frame and end cleanly. Prints what came of it, draws memory and rates over time, and exits with 1 where
a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import matplotlib  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from nodes.camera import Camera  # noqa: E402
from nodes.faults import FAULTS, spoil  # noqa: E402
from tqdm import tqdm  # noqa: E402

from flowpose_ros.evaluation.table import format_table  # noqa: E402
from flowpose_ros.nodes.diagnostics import memory_bytes  # noqa: E402
from flowpose_ros.nodes.spin import listening  # noqa: E402
from flowpose_ros.runtime.environment import private_ros_environment  # noqa: E402
from flowpose_ros.runtime.node_process import NodeProcess  # noqa: E402

FAULT_SHARE = 0.1
"""Share of images in which one topic's message is spoilt."""
STAMP_FAULTS = {"zero": 0.004, "twice": 0.004, "out of order": 0.004, "future": 0.0003, "jump back": 0.0003}
"""Shares of images with such a stamp. The last two make the node forget what it follows: on a CPU, finding it again
takes many seconds."""
SILENT_SHARE = 0.03
"""Share of images in which one topic says nothing."""
COMPARED = (0.2, 0.6), (0.6, 1.0)
"""Parts of the time whose memory is compared; in the first fifth it may grow."""
KEPT = 0.1
"""Share of the readings of a while that show no more than what is kept: the others show also what is in work, whose size
changes by the image. In an hour in which nothing grew, ten minutes differed by 0.3 % so (standard deviation, 0.8 % at most),
and their medians by 0.8 % (2.2 %)."""
GROWTH = 0.01
KEPT_ANSWERS = 1000
SECOND = 1_000_000_000
OBJECTS_READY_S = 120.0


@dataclass
class Watch:
    """What the node says and sends: (seconds, diagnostics) once a second, (seconds, MB of its memory) with each image,
    poses, and those that are none."""

    started: float = field(default_factory=time.monotonic)
    states: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    poses: int = 0
    bad_poses: int = 0

    def take_state(self, message: DiagnosticArray) -> None:
        """Keep the numbers of the node's diagnostics."""
        values = {value.key: float(value.value) for value in message.status[0].values}
        self.states.append((time.monotonic() - self.started, values))

    def take_memory(self, process: int) -> None:
        """Read the memory of the node's process."""
        self.memory.append((time.monotonic() - self.started, memory_bytes(process) / 1e6))

    def take_poses(self, message) -> None:
        """Count the poses of an answer, and those that are not finite or no rotation."""
        for detection in message.detections:
            pose = detection.results[0].pose.pose
            q = np.array([getattr(pose.orientation, axis) for axis in "xyzw"])
            t = np.array([getattr(pose.position, axis) for axis in "xyz"])
            self.poses += 1
            self.bad_poses += not (np.isfinite([*q, *t]).all() and abs(np.linalg.norm(q) - 1) < 1e-6)

    def value(self, key: str) -> float:
        """The latest value of a key of the diagnostics."""
        return self.states[-1][1].get(key, 0.0) if self.states else 0.0


class FailingCamera:
    """Sends the images of a clip over and over, one in ten spoilt in some way, some with wrong stamps."""

    def __init__(self, camera: Camera, seed: int) -> None:
        self.sent: Counter[str] = Counter()
        self._camera, self._rng = camera, np.random.default_rng(seed)
        self._clock = time.time_ns()
        self._count = 0

    def send(self, period_ns: int, good: bool = False) -> int:
        """Send the next image; its stamp. good: without faults."""
        self._clock += period_ns
        stamp = self._clock if good else self._stamp()
        sample = self._camera.samples[self._place()]
        messages = self._camera.messages(sample.frame, sample.detections, stamp)
        if not good and self._rng.random() < FAULT_SHARE:
            topic = str(self._rng.choice(list(FAULTS)))
            self.sent[f"{topic}: {spoil(messages[topic], FAULTS[topic], self._rng)}"] += 1
        if not good and self._rng.random() < SILENT_SHARE:
            topic = str(self._rng.choice(list(FAULTS)))
            del messages[topic]
            self.sent[f"{topic}: not sent"] += 1
        self._camera.publish(messages)
        self.sent["images"] += "image" in messages
        if len(self._camera.answers) > KEPT_ANSWERS:
            self._camera.answers.clear()
        return stamp

    def _place(self) -> int:
        """Which image of the clip: there and back, so that nothing jumps."""
        last = len(self._camera.samples) - 1
        self._count += 1
        return last - abs(self._count % max(1, 2 * last) - last)

    def _stamp(self) -> int:
        shares = list(STAMP_FAULTS.values())
        kind = str(self._rng.choice(["right", *STAMP_FAULTS], p=[1 - sum(shares), *shares]))
        if kind == "right":
            return self._clock
        self.sent[f"stamp: {kind}"] += 1
        if kind == "jump back":
            self._clock -= 5 * SECOND
        back = SECOND // 30
        return {"zero": 0, "twice": self._clock - back, "out of order": self._clock - 2 * back,
                "future": self._clock + 3600 * SECOND, "jump back": self._clock}[kind]


def soak(dataset: Path, seconds: float, rate: float, mode: str, seed: int, output: Path) -> list[str]:
    """Run node and camera for so long; the broken promises in words."""
    os.environ.update(private_ros_environment())
    parameters = {"objects": str(dataset / "models"), "mode": mode, "depth": "auto", "masks": "auto"}
    with listening("soak") as client, NodeProcess("estimator_node", output / "estimator.txt", parameters) as node:
        watch, camera = Watch(), Camera(client, dataset)
        camera.keep(watch.take_poses)
        camera.publish_masks(camera.samples[0].frame.image.shape[:2])
        client.create_subscription(DiagnosticArray, "/diagnostics", watch.take_state, 10)
        if not _await(lambda: camera.connected() and watch.states, OBJECTS_READY_S, node, "the node to become active"):
            return ["the node did not become active"]
        failing, watch.started, watch.states = FailingCamera(camera, seed), time.monotonic(), []
        _play(failing, seconds, rate, watch, node)
        broken = _recovers(failing, camera, watch, node)
        begin = time.monotonic()
    if time.monotonic() - begin > 5:
        broken.append(f"ended {time.monotonic() - begin:.1f} s after it was asked to, expected 5")
    broken += judge(watch, seconds)
    report(watch, failing.sent, seconds, output)
    return broken


def _await(condition, timeout: float, node: NodeProcess, what: str) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if node.ended() or time.monotonic() > deadline:
            print(f"waited {timeout:.0f} s for {what}", file=sys.stderr)
            return False
        time.sleep(0.05)
    return True


def _play(failing: FailingCamera, seconds: float, rate: float, watch: Watch, node: NodeProcess) -> None:
    """Send images at the rate until the time is over."""
    with tqdm(total=round(seconds), unit="s", disable=None, desc="soak") as bar:
        begin = due = time.monotonic()
        while time.monotonic() - begin < seconds and not node.ended():
            failing.send(round(SECOND / rate))
            watch.take_memory(node.number)
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))
            bar.update(int(time.monotonic() - begin) - bar.n)
            bar.set_postfix_str(f"{watch.value('rate_hz'):.1f} Hz, {watch.value('memory_mb'):.0f} MB", refresh=False)


def _recovers(failing: FailingCamera, camera: Camera, watch: Watch, node: NodeProcess) -> list[str]:
    """What is broken when the faults end: a good image must be answered, and all images accounted for."""
    stamp = None

    def answered() -> bool:
        nonlocal stamp
        stamp = failing.send(SECOND, good=True)
        time.sleep(1)
        return stamp in camera.answers

    broken = [] if _await(answered, 60, node, "an answer to a good image") else ["no answer to a good image"]
    if not _await(lambda: missing(watch) == 0, 60, node, "an account of every image"):
        broken.append(f"{missing(watch):.0f} of {watch.value('images_received'):.0f} images not accounted for")
    return broken


def missing(watch: Watch) -> float:
    """Images that came and were neither answered nor dropped with a reason."""
    return watch.value("images_received") - watch.value("images_answered") - watch.value("images_dropped")


def judge(watch: Watch, seconds: float) -> list[str]:
    """The broken promises: poses that are none, and memory that grows."""
    broken = [f"{watch.bad_poses} of {watch.poses} poses are not finite or no rotation"] if watch.bad_poses else []
    if not watch.poses:
        broken.append("no pose came out at all")
    before, after = (kept_memory(watch, begin * seconds, end * seconds) for begin, end in COMPARED)
    print(f"memory kept: {before:.0f} MB, then {after:.0f} MB ({after / before - 1:+.1%})")
    if after > before * (1 + GROWTH):
        broken.append(f"memory grew by {after / before - 1:.1%} from {before:.0f} MB, expected at most {GROWTH:.0%}")
    return broken


def kept_memory(watch: Watch, begin: float, end: float) -> float:
    """MB that the node keeps between pieces of work, from a second on until another."""
    values = [mb for at, mb in watch.memory if begin <= at < end]
    return float(np.quantile(values, KEPT)) if values else float("nan")


def report(watch: Watch, sent: Counter[str], seconds: float, output: Path) -> None:
    """Print the counts and draw the course."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    print(format_table(("sent", "count"), sorted(sent.items())))
    last = watch.states[-1][1]
    print(format_table(("node", "count"), [(key, value) for key, value in last.items()
                                           if key.startswith(("images", "dropped", "memory", "rate", "latency"))]))
    figure, axes = plt.subplots(3, 1, figsize=(9, 7), sharex=True)
    axes[0].plot(*np.array(watch.memory).T * [[1 / 60], [1]], lw=0.2)
    step = seconds / 20
    axes[0].plot([(k + 0.5) * step / 60 for k in range(20)],
                 [kept_memory(watch, k * step, (k + 1) * step) for k in range(20)], "o-", color="black", ms=3, lw=1)
    axes[0].set_ylabel("memory, and kept, MB")
    at = [time_s / 60 for time_s, _ in watch.states]
    # Latency would tell of the stamps that jump back, and of no work.
    for panel, key, label in zip(axes[1:], ("rate_hz", "total_p95_ms"), ("answers, Hz", "work p95, ms")):
        panel.plot(at, [state.get(key, np.nan) for _, state in watch.states], lw=1)
        panel.set_ylabel(label)
    for panel in axes:
        panel.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(output / "soak.png", dpi=110)
    plt.close(figure)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=10 / 60, help="how long (default: ten minutes)")
    parser.add_argument("--dataset", type=Path, default=ROOT / "demo", help="clip in BOP layout (default: the demo's)")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second")
    parser.add_argument("--mode", choices=("track", "detect"), default="track")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("output/soak"), help="picture and log (default: %(default)s)")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    broken = soak(args.dataset.resolve(), args.hours * 3600, args.rate, args.mode, args.seed, args.output)
    for line in broken:
        print(f"BROKEN: {line}")
    if not broken:
        print(f"held: every image accounted for, memory still, the next good frame answered; {args.output}/soak.png")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
