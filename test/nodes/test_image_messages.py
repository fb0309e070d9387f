"""Images from messages: every encoding to the same picture, and every malformed one refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sensor_msgs", reason="ROS messages are not installed: `make setup` installs them")

import cv2
from cv_bridge import CvBridge
from sensor_msgs.msg import CompressedImage, Image

from flowpose_ros.errors import FrameError
from flowpose_ros.nodes.messages.frames import depth_message, header_at, image_message
from flowpose_ros.nodes.messages.images import color_image, compressed_color_image, depth_image, label_image

BRIDGE = CvBridge()
RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
ALPHA = np.full((4, 6, 1), 77, np.uint8)


def message(pixel_encoding, pixels, padding=0, **changes):
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    fields = {"height": pixels.shape[0], "width": pixels.shape[1], "encoding": pixel_encoding,
              "step": rows.shape[1], "data": rows.tobytes(), **changes}
    return Image(**fields)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding, pixels", [
    ("rgb8", RGB), ("bgr8", RGB[..., ::-1]), ("rgba8", np.concatenate([RGB, ALPHA], 2)),
    ("bgra8", np.concatenate([RGB[..., ::-1], ALPHA], 2))])
def test_every_colour_encoding_gives_the_same_picture(encoding, pixels, padding):
    image = color_image(message(encoding, pixels, padding), BRIDGE)
    assert image.dtype == np.uint8
    assert (image == RGB).all()


SMOOTH = cv2.resize(np.random.default_rng(1).integers(60, 200, (3, 4, 3)).astype(np.uint8), (48, 32))
"""A picture of soft colours: what sensors leave out of it can be told from what is beside."""


@pytest.mark.parametrize("first, second", [("rg", "gb"), ("bg", "gr"), ("gb", "rg"), ("gr", "bg")])
def test_a_sensors_mosaic_gives_the_picture(first, second):
    mosaic = np.empty(SMOOTH.shape[:2], np.uint8)
    for row, colours in enumerate((first, second)):
        for column, colour in enumerate(colours):
            mosaic[row::2, column::2] = SMOOTH[row::2, column::2, "rgb".index(colour)]
    image = color_image(message(f"bayer_{first}{second}8", mosaic, padding=3), BRIDGE)
    assert np.abs(image[2:-2, 2:-2].astype(int) - SMOOTH[2:-2, 2:-2]).max() < 12


@pytest.mark.parametrize("encoding, brightness", [("yuv422_yuy2", 0), ("yuyv", 0), ("yuv422", 1), ("uyvy", 1)])
def test_two_pixels_that_share_their_colour_give_the_picture(encoding, brightness):
    y, v, u = np.moveaxis(cv2.cvtColor(SMOOTH, cv2.COLOR_RGB2YCrCb).astype(float), 2, 0)
    packed = np.empty((*SMOOTH.shape[:2], 2), np.uint8)
    packed[..., brightness] = np.round(16 + y * 219 / 255)
    for column, colour in enumerate((u, v)):  # studio range, as cameras send it
        scale = {0: 0.886 * 0.564, 1: 0.701 * 0.713}[column] * 2
        packed[:, column::2, 1 - brightness] = np.round(128 + (colour[:, ::2] - 128) / scale * 224 / 255)
    image = color_image(message(encoding, packed), BRIDGE)
    assert np.abs(image.astype(int) - SMOOTH).max() < 20


def test_raw_pictures_of_odd_sizes_are_refused():
    with pytest.raises(FrameError, match="expected an even size with the encoding yuyv, got 5 x 4"):
        color_image(message("yuyv", np.zeros((4, 5, 2), np.uint8)), BRIDGE)


def test_grey_becomes_three_equal_channels():
    image = color_image(message("mono8", RGB[..., 0]), BRIDGE)
    assert (image == RGB[..., :1]).all() and image.shape == (4, 6, 3)


def test_depth_of_both_encodings_is_in_metres():
    millimetres = np.array([[0, 1, 1500], [65535, 20, 7]], np.uint16)
    from_mm = depth_image(message("16UC1", millimetres), BRIDGE)
    metres = (millimetres * 1e-3).astype(np.float32)
    assert from_mm.dtype == np.float32
    np.testing.assert_allclose(from_mm, metres, rtol=1e-6)
    np.testing.assert_array_equal(depth_image(message("32FC1", metres), BRIDGE), metres)


def test_unusable_depth_readings_become_zero():
    metres = np.array([[np.nan, np.inf, -np.inf, -1.0, 0.0, 2.0]], np.float32)
    assert depth_image(message("32FC1", metres), BRIDGE).tolist() == [[0, 0, 0, 0, 0, 2]]


@pytest.mark.parametrize("encoding, kind", [("mono8", np.uint8), ("8UC1", np.uint8), ("mono16", np.uint16),
                                            ("16UC1", np.uint16), ("32SC1", np.int32)])
def test_labels_of_every_encoding(encoding, kind):
    labels = np.array([[0, 1, 2], [255, 0, 7]], kind)
    np.testing.assert_array_equal(label_image(message(encoding, labels, padding=4), BRIDGE), labels)


@pytest.mark.parametrize("spoil, told", [({"encoding": "rgb8"}, "masks: expected the encoding mono8"),
                                         ({"is_bigendian": 1}, "little-endian"), ({"data": b"123"}, "got 3")])
def test_labels_that_are_none_are_refused(spoil, told):
    with pytest.raises(FrameError, match=told):
        label_image(message("16UC1", np.zeros((2, 3), np.uint16), **spoil), BRIDGE)


def test_what_is_sent_is_what_is_read():
    header = header_at(5_000_000_007, "camera")
    depth = np.linspace(0, 2, 24, dtype=np.float32).reshape(4, 6)
    assert (header.stamp.sec, header.stamp.nanosec) == (5, 7)
    assert (color_image(image_message(header, RGB), BRIDGE) == RGB).all()
    assert (depth_image(depth_message(header, depth), BRIDGE) == depth).all()


@pytest.mark.parametrize("changes, told", [
    ({"encoding": "rgb16"}, "encoding.*got 'rgb16'"),
    ({"encoding": "16UC1"}, "got '16UC1'"),
    ({"encoding": ""}, "got ''"),
    ({"data": b"short"}, "expected 72 bytes of data.*got 5"),
    ({"step": 17}, "step of at least 18.*got 17"),
    ({"height": 0}, "got 6 x 0"),
    ({"width": 2**31}, f"got {2**31} x 4"),
    ({"height": 16384, "width": 16384, "step": 16384 * 3}, "at most 64000000"),
])
def test_a_malformed_image_says_what_is_wrong(changes, told):
    with pytest.raises(FrameError, match=told):
        color_image(message("rgb8", RGB, **changes), BRIDGE)


def test_big_endian_depth_is_refused():
    with pytest.raises(FrameError, match="little-endian"):
        depth_image(message("16UC1", np.ones((2, 2), np.uint16), is_bigendian=1), BRIDGE)


uint32 = st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1))


@given(height=uint32, width=uint32, step=uint32, is_bigendian=st.integers(0, 255),
       data=st.one_of(st.binary(max_size=200), st.integers(0, 400).map(bytes)),
       encoding=st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "16UC1", "32FC1", "nv21", "8UC3", "x"]))
def test_any_image_is_read_or_refused(height, width, step, is_bigendian, data, encoding):
    fuzzed = Image(height=height, width=width, step=step, data=data, encoding=encoding, is_bigendian=is_bigendian)
    for read in (color_image, depth_image):
        try:
            assert read(fuzzed, BRIDGE).shape[:2] == (height, width)
        except FrameError:
            pass


JPEG = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
PNG = cv2.imencode(".png", RGB[..., ::-1])[1].tobytes()


def test_compressed_images():
    assert (compressed_color_image(CompressedImage(format="png", data=PNG)) == RGB).all()
    assert compressed_color_image(CompressedImage(format="rgb8; jpeg compressed bgr8", data=JPEG)).shape == (8, 8, 3)


def test_a_small_file_that_claims_a_huge_picture_is_refused_unread():
    huge = bytearray(JPEG)
    at = huge.index(b"\xff\xc0") + 5
    huge[at:at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(FrameError, match="at most 64000000 pixels"):
        compressed_color_image(CompressedImage(data=bytes(huge)))


@given(st.one_of(st.binary(max_size=100),
                 st.tuples(st.sampled_from([JPEG, PNG]), st.integers(0, 700), st.binary(max_size=8)).map(
                     lambda cut: cut[0][:cut[1]] + cut[2] + cut[0][cut[1] + len(cut[2]) + 1:])))
def test_any_compressed_image_is_read_or_refused(data):
    try:
        assert compressed_color_image(CompressedImage(data=data)).ndim == 3
    except FrameError:
        pass
