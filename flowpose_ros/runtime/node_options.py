"""What can be set on the estimator node beside the options of estimation and of frame assembly."""

from __future__ import annotations

from dataclasses import dataclass

from flowpose_ros.options import Options, option


@dataclass(frozen=True)
class NodeOptions(Options):
    """The estimator node's own parameters."""

    objects: str = option("", "folder of the objects: BOP models/ as it is, or one mesh per object", runtime=False)
    object_unit: str = option("", "unit of the meshes where the folder does not say", runtime=False,
                              choices=("", "m", "mm", "cm", "inch"))
    labels: str = option("", "labels of the objects to load, separated by commas; empty loads all", runtime=False)
    image_transport: str = option("raw", "listen to 'image' or to 'image/compressed'", runtime=False,
                                  choices=("raw", "compressed"))
    masks: str = option("auto", "use a label image of the detections' masks: if there is any, always, or never",
                        choices=("auto", "on", "off"), runtime=False)
    rectified: bool = option(False, "images come undistorted (image_rect): P holds their intrinsics", runtime=False)
    mode: str = option("detect", "estimate every detection, or follow what was detected from image to image",
                       choices=("detect", "track"), runtime=False)
    threads: int = option(0, "CPU threads of the networks; 0 for all there are, shared where following and estimating "
                             "go side by side", low=0, high=1024, runtime=False)
    autostart: bool = option(True, "configure and activate at start, without a lifecycle manager", runtime=False)
    max_detections: int = option(20, "detections used per frame, best scores first", low=1, high=1000)
    publish_tf: bool = option(True, "put poses on /tf")
    tf_prefix: str = option("", "put before the names of the objects' TF frames")
    watchdog_s: float = option(5.0, "say what is missing after so long without a result, seconds",
                               low=0.5, high=3600.0)

