"""What the node says about itself on /diagnostics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from flowpose_ros.runtime.timing import Percentiles

MEMORY_SHORT = ("no memory left on the device even for the smallest batch; end what else uses it, or choose fewer "
                "hypotheses")

FRAME_LOST = ("frame_unusable", "frame_out_of_memory", "frame_failed")
"""Reasons for which a frame that was worked on has no answer."""


@dataclass(frozen=True)
class Health:
    """The state of the node: problem is empty when all is well; images: how many came, were answered and were dropped;
    drops are totals by reason; tracks: how many are followed, and of these how many the last image confirmed;
    memory_short: the device's memory did not suffice for the last image, or the last detections; enabled: whether
    `~/enable` is on."""

    problem: str
    rate_hz: float
    stages: Mapping[str, Percentiles]
    images: tuple[int, int, int]
    drops: Mapping[str, int]
    tracks: tuple[int, int] = (0, 0)
    memory_short: bool = False
    enabled: bool = True


def diagnostics(stamp: Time, node_name: str, health: Health) -> DiagnosticArray:
    """One status with rate, tracks, images, p50 and p95 per stage in milliseconds, drops by reason, and memory."""
    values = {"rate_hz": f"{health.rate_hz:.2f}", "memory_mb": f"{memory_bytes() / 1e6:.0f}"}
    values["tracks"], values["tracks_confirmed"] = map(str, health.tracks)
    values["images_received"], values["images_answered"], values["images_dropped"] = map(str, health.images)
    for stage, times in health.stages.items():
        values[f"{stage}_p50_ms"] = f"{times.p50 * 1e3:.1f}"
        values[f"{stage}_p95_ms"] = f"{times.p95 * 1e3:.1f}"
    values.update({f"dropped_{reason}": str(count) for reason, count in health.drops.items()})
    level, message = ((DiagnosticStatus.ERROR, MEMORY_SHORT) if health.memory_short else
                      (DiagnosticStatus.WARN, health.problem) if health.problem else
                      (DiagnosticStatus.OK, "running" if health.enabled else "switched off by ~/enable"))
    status = DiagnosticStatus(
        level=level, name=f"{node_name}: pose estimation", message=message,
        values=[KeyValue(key=key, value=value) for key, value in values.items()])
    return DiagnosticArray(header=Header(stamp=stamp), status=[status])


def memory_bytes(process: int | str = "self") -> int:
    """Resident memory of a process, by its number; of this one if not told."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
