"""Records a scene as a bag."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.nodes.bags import type_name, typestore_of
from flowpose_ros.nodes.bop_stream import START_NS
from flowpose_ros.nodes.messages.frames import (
    camera_info_message,
    depth_message,
    detections_message,
    header_at,
    image_message,
)

TYPES = {"/image": Image, "/camera_info": CameraInfo, "/depth": Image, "/detections": Detection2DArray}
PERIOD_NS = 100_000_000


def write_bag(path: Path, root: Path, plugin: StoragePlugin = StoragePlugin.SQLITE3, skip: str = "",
              compressed: bool = False, edit: Callable[[str, Any], None] = lambda topic, message: None) -> list[int]:
    """Write the images of a scene, stamped as the player stamps them, leaving out topic `skip`; their stamps. compressed:
    as PNG on /image/compressed; edit: changes a topic's message."""
    stamps = []
    types = {("/image/compressed" if compressed and topic == "/image" else topic):
             (CompressedImage if compressed and topic == "/image" else kind) for topic, kind in TYPES.items()}
    store = typestore_of(types.values())
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections = {topic: writer.add_connection(topic, type_name(kind), typestore=store)
                       for topic, kind in types.items() if topic != skip}
        for index, sample in enumerate(BopDataset(root).samples()):
            stamps.append(START_NS + index * PERIOD_NS)
            header = header_at(stamps[-1], "camera_optical")
            messages = {"/camera_info": camera_info_message(header, sample.frame),
                        "/image": image_message(header, sample.frame.image),
                        "/image/compressed": CompressedImage(header=header, format="png", data=cv2.imencode(
                            ".png", sample.frame.image[..., ::-1])[1].tobytes()),
                        "/depth": depth_message(header, sample.frame.depth),
                        "/detections": detections_message(header, sample.detections)}
            for order, (topic, message) in enumerate(messages.items()):
                if topic in connections:
                    edit(topic, message)
                    writer.write(connections[topic], stamps[-1] + order, serialize_message(message))
    return stamps
