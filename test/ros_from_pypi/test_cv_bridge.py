"""cv_bridge, the adapter or the real one: real image messages to arrays and back."""

import numpy as np
import pytest

pytest.importorskip("cv_bridge", reason="cv_bridge is not installed: `make setup` installs it")

from cv_bridge import CvBridge, CvBridgeError
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header


@pytest.fixture
def bridge():
    return CvBridge()


def pixels(shape, dtype):
    return (np.random.default_rng(0).random(shape) * 200).astype(dtype)


@pytest.mark.parametrize(
    ("encoding", "shape", "dtype"),
    [
        ("rgb8", (6, 5, 3), np.uint8),
        ("bgra8", (6, 5, 4), np.uint8),
        ("mono8", (6, 5), np.uint8),
        ("mono16", (6, 5), np.uint16),
        ("16UC1", (6, 5), np.uint16),
        ("32FC1", (6, 5), np.float32),
    ],
)
def test_pixels_survive_the_way_through_a_message(bridge, encoding, shape, dtype):
    image = pixels(shape, dtype)
    message = bridge.cv2_to_imgmsg(image, encoding, header=Header(frame_id="camera"))
    message = deserialize_message(serialize_message(message), Image)
    assert (message.header.frame_id, message.encoding) == ("camera", encoding)
    assert (message.height, message.width, message.step) == (6, 5, image.strides[0])
    received = bridge.imgmsg_to_cv2(message)
    assert received.dtype == dtype
    np.testing.assert_array_equal(received, image)


def test_an_encoding_is_found_for_plain_arrays(bridge):
    assert bridge.cv2_to_imgmsg(pixels((2, 2), np.float32)).encoding == "32FC1"
    assert bridge.cv2_to_imgmsg(pixels((2, 2, 3), np.uint8)).encoding == "8UC3"


def test_colours_are_converted_on_request(bridge):
    image = pixels((6, 5, 3), np.uint8)
    message = bridge.cv2_to_imgmsg(image, "rgb8")
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message, "bgr8"), image[..., ::-1])


def test_rows_may_be_padded(bridge):
    image = pixels((4, 3), np.uint8)
    padded = np.pad(image, ((0, 0), (0, 5)), constant_values=255)
    message = Image(height=4, width=3, encoding="mono8", step=8, data=padded.tobytes())
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message), image)


def test_big_endian_depth_is_read(bridge):
    depth = np.array([[1000, 2000]], np.uint16)
    message = Image(height=1, width=2, encoding="16UC1", step=4, is_bigendian=1, data=depth.byteswap().tobytes())
    np.testing.assert_array_equal(bridge.imgmsg_to_cv2(message), depth)


@pytest.mark.parametrize("image_format", ["png", "jpg"])
def test_compressed_images_are_decoded(bridge, image_format):
    image = np.full((16, 16, 3), (10, 120, 240), np.uint8)
    message = bridge.cv2_to_compressed_imgmsg(image, image_format)
    message = deserialize_message(serialize_message(message), CompressedImage)
    np.testing.assert_allclose(bridge.compressed_imgmsg_to_cv2(message), image, atol=4)
    np.testing.assert_allclose(bridge.compressed_imgmsg_to_cv2(message, "rgb8"), image[..., ::-1], atol=4)


def test_bad_images_are_refused(bridge):
    with pytest.raises(CvBridgeError):
        bridge.cv2_to_imgmsg(pixels((2, 2), np.uint8), "rgb8")
    with pytest.raises(CvBridgeError):
        bridge.imgmsg_to_cv2(Image(height=1, width=1, encoding="nonsense", step=1, data=b"0"))
    with pytest.raises(TypeError):
        bridge.imgmsg_to_cv2(Image(height=9, width=9, encoding="mono8", step=9, data=b"0"))
