"""Image messages to numpy arrays and back; decoding and colour conversion are rosbags-image's."""

import array

import cv2
import numpy as np
from rosbags.image import ImageError
from rosbags.image.image import convert_color, image_to_cvimage, to_cvtype
from sensor_msgs.msg import CompressedImage, Image

DEPTHS = {"u1": "8U", "i1": "8S", "u2": "16U", "i2": "16S", "i4": "32S", "f4": "32F", "f8": "64F"}


class CvBridgeError(TypeError):
    """An image cannot be converted."""


class CvBridge:
    """Converts between sensor_msgs images and numpy arrays (H x W, or H x W x channels)."""

    def imgmsg_to_cv2(self, img_msg, desired_encoding="passthrough"):
        """Pixels of an Image; 'passthrough' keeps its encoding. Raises CvBridgeError."""
        try:
            image = image_to_cvimage(_without_row_padding(img_msg))
            return _convert(image, img_msg.encoding, desired_encoding)
        except (ImageError, TypeError, ValueError, cv2.error) as error:
            raise CvBridgeError(str(error)) from error

    def cv2_to_imgmsg(self, cvim, encoding="passthrough", header=None):
        """An Image of the pixels, named `encoding` without conversion. Raises CvBridgeError on a mismatch."""
        channels = 1 if cvim.ndim == 2 else cvim.shape[2]
        if encoding == "passthrough":
            encoding = f"{_depth(cvim)}C{channels}"
        _check_fits(cvim, channels, encoding)
        message = Image(height=cvim.shape[0], width=cvim.shape[1], encoding=encoding)
        message.is_bigendian = int(cvim.dtype.byteorder == ">")
        message.step = cvim.shape[1] * channels * cvim.itemsize
        message.data = array.array("B", cvim.tobytes())
        if header is not None:
            message.header = header
        return message

    def compressed_imgmsg_to_cv2(self, cmprs_img_msg, desired_encoding="passthrough"):
        """Pixels of a CompressedImage, BGR or grey unless asked otherwise. Raises CvBridgeError."""
        buffer = np.frombuffer(cmprs_img_msg.data, np.uint8)
        image = cv2.imdecode(buffer, cv2.IMREAD_ANYCOLOR) if buffer.size else None
        if image is None:
            raise CvBridgeError(f"cannot decode {buffer.size} bytes of format '{cmprs_img_msg.format}'")
        try:
            return _convert(image, "mono8" if image.ndim == 2 else "bgr8", desired_encoding)
        except (ImageError, cv2.error) as error:
            raise CvBridgeError(str(error)) from error

    def cv2_to_compressed_imgmsg(self, cvim, dst_format="jpg"):
        """A CompressedImage of BGR or grey pixels. Raises CvBridgeError."""
        try:
            _, encoded = cv2.imencode(f".{dst_format}", cvim)
        except cv2.error as error:
            raise CvBridgeError(str(error)) from error
        return CompressedImage(format=dst_format, data=array.array("B", encoded.tobytes()))


def _convert(image, encoding, desired):
    return image if desired == "passthrough" else convert_color(image, encoding, desired)


def _without_row_padding(message):
    """The message itself, or a copy whose rows are dense: rosbags-image does not look at `step`."""
    _, _, dtype, channels = to_cvtype(message.encoding)
    pixel = channels * np.dtype(dtype).itemsize
    row = message.width * pixel
    if message.step == row:
        return message
    if message.step % pixel:  # upstream shears such images in silence, so nothing may rely on them
        raise ValueError(f"step {message.step}: expected whole pixels of {pixel} bytes")
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, :row]
    return Image(
        height=message.height, width=message.width, encoding=message.encoding,
        is_bigendian=message.is_bigendian, step=row, data=array.array("B", rows.tobytes()),
    )  # fmt: skip


def _depth(cvim):
    try:
        return DEPTHS[cvim.dtype.str[1:]]
    except KeyError:
        raise CvBridgeError(f"no image encoding holds {cvim.dtype} pixels") from None


def _check_fits(cvim, channels, encoding):
    try:
        _, _, dtype, expected = to_cvtype(encoding)
    except ImageError as error:
        raise CvBridgeError(str(error)) from error
    if cvim.dtype.newbyteorder("=") != np.dtype(dtype) or channels != expected:
        raise CvBridgeError(f"encoding {encoding} needs {expected} x {dtype}, got {channels} x {cvim.dtype}")
