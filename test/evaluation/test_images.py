"""Image files: what cannot be read or written is said in one line."""

import struct
import zlib

import numpy as np
import pytest

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.images import read_color, write_image

IMAGE = np.full((4, 6, 3), 90, np.uint8)


def test_what_is_written_is_read_back(tmp_path):
    write_image(tmp_path / "new" / "a.png", IMAGE)
    np.testing.assert_array_equal(read_color(tmp_path / "new" / "a.png"), IMAGE)


@pytest.mark.parametrize("name, message", [
    ("a.xyz", "expected a path ending in .png, .*got .xyz"), ("a", "got none"), ("folder.png", "got a folder"),
    ("file/a.png", "file: expected a folder to write to")])
def test_paths_that_cannot_be_written_are_named(tmp_path, name, message):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=message) as refusal:
        write_image(tmp_path / name, IMAGE)
    assert "\n" not in str(refusal.value)


def test_an_image_that_is_too_large_is_named(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    (tmp_path / "big.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b""))
    with pytest.raises(DatasetError, match="big.png: expected a readable image, got .* bytes"):
        read_color(tmp_path / "big.png")
