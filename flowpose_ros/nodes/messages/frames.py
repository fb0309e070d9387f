"""Frames and detections into the messages that a camera driver and a detector would send."""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose

from flowpose_ros.records import Detection, Frame


def header_at(stamp_ns: int, frame_id: str) -> Header:
    """A header with a stamp given in nanoseconds."""
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return header


def stamp_ns(message: Any) -> int:
    """The stamp in nanoseconds of a message with a header."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def frame_messages(header: Header, frame: Frame, detections: Sequence[Detection],
                   masks_size: tuple[int, int] | None = None) -> dict[str, Any]:
    """The messages of a frame by topic, in the order to send them: the last completes it. Depth where the frame has it;
    masks, of that size (height, width), where one is given."""
    messages: dict[str, Any] = {"camera_info": camera_info_message(header, frame)}
    if frame.depth is not None:
        messages["depth"] = depth_message(header, frame.depth)
    if masks_size is not None:
        messages["masks"] = masks_message(header, detections, masks_size)
    return messages | {"image": image_message(header, frame.image),
                       "detections": detections_message(header, detections)}


def image_message(header: Header, image: np.ndarray) -> Image:
    """sensor_msgs/Image, rgb8, of an image [H,W,3] uint8."""
    return _image(header, image, "rgb8")


def depth_message(header: Header, depth: np.ndarray) -> Image:
    """sensor_msgs/Image, 32FC1 metres (REP-118), of a depth image [H,W]; 0 stays invalid."""
    return _image(header, depth.astype("<f4"), "32FC1")


def masks_message(header: Header, detections: Sequence[Detection], size: tuple[int, int]) -> Image:
    """sensor_msgs/Image, 16UC1, of `size` (height, width): where the first detection's mask is a 1, where the second's
    a 2, and so on; 0 elsewhere."""
    labels = np.zeros(size, "<u2")
    for number, detection in enumerate(detections, start=1):
        if detection.mask is not None:
            labels[detection.mask] = number
    return _image(header, labels, "16UC1")


def camera_info_message(header: Header, frame: Frame) -> CameraInfo:
    """sensor_msgs/CameraInfo of a camera without distortion."""
    height, width = frame.image.shape[:2]
    message = CameraInfo(header=header, height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
    message.k = frame.K.reshape(-1).astype(float)
    message.r = np.eye(3).reshape(-1)
    message.p = np.hstack([frame.K, np.zeros((3, 1))]).reshape(-1).astype(float)
    return message


def detections_message(header: Header, detections: Sequence[Detection]) -> Detection2DArray:
    """vision_msgs/Detection2DArray: boxes as centre and size, the label as class_id."""
    return Detection2DArray(header=header, detections=[_detection(header, d) for d in detections])


def _image(header: Header, pixels: np.ndarray, encoding: str) -> Image:
    # An array.array is taken as it is; a list or an ndarray is checked byte by byte, 100 times slower.
    return Image(header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
                 step=pixels[0].nbytes, data=array.array("B", pixels.tobytes()))


def _detection(header: Header, detection: Detection) -> Detection2D:
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = detection.label, float(detection.score)
    left, top, right, bottom = map(float, detection.box)
    box = BoundingBox2D(size_x=right - left, size_y=bottom - top)
    centre = getattr(box.center, "position", box.center)
    centre.x, centre.y = (left + right) / 2, (top + bottom) / 2
    identifier = "" if detection.instance is None else str(detection.instance)
    return Detection2D(header=header, results=[result], bbox=box, id=identifier)
