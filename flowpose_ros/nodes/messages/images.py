"""sensor_msgs/Image and CompressedImage into arrays: checked before they are converted."""

from __future__ import annotations

import array
import io

import cv2
import numpy as np
from cv_bridge import CvBridge
from PIL import Image as PillowImage
from sensor_msgs.msg import Image

from flowpose_ros.errors import FrameError

RAW_CONVERSIONS = {
    "bayer_rggb8": cv2.COLOR_BayerBG2RGB, "bayer_bggr8": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGR2RGB, "bayer_grbg8": cv2.COLOR_BayerGB2RGB,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY, "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2, "yuyv": cv2.COLOR_YUV2RGB_YUY2}
"""What sensors send before anybody converts it, and OpenCV's way to RGB; it names a mosaic by the second row's second and
third pixel."""
BYTES_PER_COLOR_PIXEL = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1,
                         **{name: 1 if name.startswith("bayer") else 2 for name in RAW_CONVERSIONS}}
BYTES_PER_DEPTH_PIXEL = {"16UC1": 2, "32FC1": 4}
BYTES_PER_LABEL_PIXEL = {"mono8": 1, "8UC1": 1, "mono16": 2, "16UC1": 2, "32SC1": 4}
MAX_SIDE = 16384
MAX_PIXELS = 64_000_000
MAX_COMPRESSED_BYTES = 64_000_000


def color_image(message, bridge: CvBridge) -> np.ndarray:
    """The RGB image [H,W,3] uint8 of a sensor_msgs/Image.

    Raises FrameError when its size, step, data or encoding is unusable.
    """
    _check_layout(message, BYTES_PER_COLOR_PIXEL, "image")
    dense = _dense(message, BYTES_PER_COLOR_PIXEL[message.encoding])
    if message.encoding in RAW_CONVERSIONS:
        return _from_raw(dense)
    return np.array(bridge.imgmsg_to_cv2(dense, desired_encoding="rgb8"))


def _from_raw(message) -> np.ndarray:
    """The RGB image [H,W,3] uint8 of a mosaic, or of two pixels that share their colour."""
    mosaic = message.encoding.startswith("bayer")
    if message.width % 2 or mosaic and message.height % 2:
        raise FrameError(f"image: expected an even size with the encoding {message.encoding}, got {message.width} x "
                         f"{message.height}")
    shape = (message.height, message.width) if mosaic else (message.height, message.width, 2)
    return cv2.cvtColor(np.frombuffer(message.data, np.uint8).reshape(shape), RAW_CONVERSIONS[message.encoding])


def depth_image(message, bridge: CvBridge) -> np.ndarray:
    """The depth [H,W] float32 metres of a sensor_msgs/Image (REP-118: 16UC1 mm or 32FC1 m); 0 invalid.

    NaN, infinite and negative readings become 0. Raises FrameError as color_image does.
    """
    raw = _pixels(message, BYTES_PER_DEPTH_PIXEL, "depth", bridge)
    depth = raw.astype(np.float32)
    if message.encoding == "16UC1":
        depth *= np.float32(1e-3)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def label_image(message, bridge: CvBridge) -> np.ndarray:
    """The label image [H,W] int32 of a sensor_msgs/Image of whole numbers, one a pixel; raises FrameError as
    color_image does."""
    return _pixels(message, BYTES_PER_LABEL_PIXEL, "masks", bridge).astype(np.int32)


def _pixels(message, bytes_per_pixel: dict[str, int], what: str, bridge: CvBridge) -> np.ndarray:
    """The numbers [H,W] of an image of one channel, as they are."""
    _check_layout(message, bytes_per_pixel, what)
    if message.is_bigendian and bytes_per_pixel[message.encoding] > 1:
        raise FrameError(f"{what}: expected little-endian data, got is_bigendian set")
    dense = _dense(message, bytes_per_pixel[message.encoding])
    return np.asarray(bridge.imgmsg_to_cv2(dense, desired_encoding="passthrough"))


def _dense(message, pixel: int):
    """The message, or a copy of it whose rows of so many bytes a pixel follow one another: cv_bridge shears images whose
    rows are padded by part of a pixel."""
    row = message.width * pixel
    if message.step == row:
        return message
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, :row]
    return Image(header=message.header, height=message.height, width=message.width, encoding=message.encoding,
                 is_bigendian=message.is_bigendian, step=row, data=array.array("B", rows.tobytes()))


def compressed_color_image(message) -> np.ndarray:
    """The RGB image [H,W,3] uint8 of a sensor_msgs/CompressedImage (JPEG or PNG).

    Raises FrameError when it is too large, of another kind, or broken.
    """
    data = bytes(message.data)
    if not 0 < len(data) <= MAX_COMPRESSED_BYTES:
        raise FrameError(f"compressed image: expected 1 to {MAX_COMPRESSED_BYTES} bytes, got {len(data)}")
    _check_size(*_compressed_size(data), "compressed image")
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # the camera's K knows no EXIF
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise FrameError(f"compressed image: cannot be decoded: {error}") from error
    if decoded is None:
        raise FrameError(f"compressed image: expected a whole JPEG or PNG, got {len(data)} bytes that "
                         "cannot be decoded")
    return np.ascontiguousarray(decoded[..., ::-1])


def _compressed_size(data: bytes) -> tuple[int, int]:
    """Height and width from the file's header, so that a small file cannot claim all memory."""
    try:
        with PillowImage.open(io.BytesIO(data), formats=("JPEG", "PNG")) as header:
            return header.height, header.width
    except PillowImage.DecompressionBombError as error:
        raise FrameError(f"compressed image: expected at most {MAX_PIXELS} pixels, got more: {error}") from error
    except Exception as error:  # a broken header fails in many ways inside the reader
        raise FrameError(f"compressed image: expected a JPEG or PNG, got {len(data)} bytes with "
                         f"the first being {data[:8].hex()}") from error


def _check_size(height: int, width: int, what: str) -> None:
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise FrameError(f"{what}: expected 1 to {MAX_SIDE} pixels a side and at most {MAX_PIXELS}, "
                         f"got {width} x {height}")


def _check_layout(message, bytes_per_pixel: dict[str, int], what: str) -> None:
    """Raise FrameError unless encoding, size, step and the length of the data fit together."""
    if message.encoding not in bytes_per_pixel:
        raise FrameError(f"{what}: expected the encoding {', '.join(bytes_per_pixel)}, "
                         f"got '{message.encoding}'")
    _check_size(message.height, message.width, what)
    pixel = bytes_per_pixel[message.encoding]
    itemsize = pixel if bytes_per_pixel is not BYTES_PER_COLOR_PIXEL else 1
    if message.step < message.width * pixel or message.step % itemsize:
        raise FrameError(f"{what}: expected a step of at least {message.width * pixel} bytes in whole "
                         f"pixels' parts of {itemsize}, got {message.step}")
    if len(message.data) != message.step * message.height:
        raise FrameError(f"{what}: expected {message.step * message.height} bytes of data "
                         f"(step x height), got {len(message.data)}")
