"""What a replay reads and writes: the parameters of the replay node and the flags of `flowpose replay`."""

from __future__ import annotations

from dataclasses import dataclass

from flowpose_ros.options import Options, option


@dataclass(frozen=True)
class ReplayOptions(Options):
    """Which bag is replayed, and where the inputs lie in it."""

    bag: str = option("", "bag folder, or a single .mcap or .db3 file", runtime=False)
    output: str = option("", "bag to write", runtime=False)
    image_topic: str = option("/image", "topic of the colour images, raw or compressed", runtime=False)
    camera_info_topic: str = option("/camera_info", "topic of their calibration", runtime=False)
    depth_topic: str = option("", "topic of the registered depth images; empty takes /depth where the bag has it",
                              runtime=False)
    detections_topic: str = option("/detections", "topic of the detections", runtime=False)
    masks_topic: str = option("", "topic of label images of their masks; empty takes /masks where the bag has it",
                              runtime=False)
    answer_timeout_s: float = option(60.0, "give a frame up after so long, seconds", low=0.1, high=3600.0,
                                     runtime=False)

