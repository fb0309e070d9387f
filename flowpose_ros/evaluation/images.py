"""Read image files into arrays: colour, depth in metres, masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.output_paths import make_room_for

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def find_image(scene: Path, folders: tuple[str, ...], im_id: int) -> Path | None:
    """The file of image `im_id` in the first of a scene's folders that has it, or None."""
    for folder in folders:
        for suffix in SUFFIXES:
            path = scene / folder / f"{im_id:06d}{suffix}"
            if path.is_file():
                return path
    return None


def read_color(path: Path) -> np.ndarray:
    """The image [H,W,3] uint8 RGB of a colour or grey file; raises DatasetError."""
    # The file's own orientation tag is ignored: intrinsics belong to the stored pixels.
    image = _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_depth(path: Path, metres_per_unit: float | None) -> np.ndarray:
    """Depth [H,W] float32 metres, 0 where invalid, of a one-channel file; raises DatasetError.

    metres_per_unit: where it is None, whole numbers are millimetres and others metres.
    """
    depth = _load_array(path) if path.suffix.lower() == ".npy" else _decode(path, cv2.IMREAD_UNCHANGED)
    if depth.ndim != 2:
        raise DatasetError(f"{path}: expected one channel of depth, got shape {list(depth.shape)}")
    if depth.dtype == np.uint8:
        raise DatasetError(f"{path}: expected depth of 16 bits or of floating point numbers, got 8 bits")
    if metres_per_unit is None:
        metres_per_unit = 0.001 if np.issubdtype(depth.dtype, np.integer) else 1.0
    metres = depth.astype(np.float32) * np.float32(metres_per_unit)
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))


def read_mask(path: Path) -> np.ndarray:
    """The mask [H,W] bool of an image file, True where it is not 0; raises DatasetError."""
    return _decode(path, cv2.IMREAD_GRAYSCALE) > 0


def check_image_path(path: Path) -> None:
    """Make room for an image; raises DatasetError where none can be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise DatasetError(f"{path}: expected a path ending in {', '.join(SUFFIXES)}, got {path.suffix or 'none'}")
    make_room_for(path)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image [H,W,3] uint8 RGB; the suffix says the format; raises DatasetError."""
    check_image_path(path)
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
        raise DatasetError(f"{path}: expected a writable path, got a refusal to write")


def _load_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path}: expected an array in NumPy's format, got {error}") from error
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise DatasetError(f"{path}: expected numbers, got {array.dtype}")
    return array


def _decode(path: Path, flags: int) -> np.ndarray:
    if not path.is_file():
        raise DatasetError(f"{path}: expected an image file, got nothing there")
    try:
        image = cv2.imread(str(path), flags)
    except cv2.error:  # such as one of more pixels than OpenCV takes
        image = None
    if image is None:
        raise DatasetError(f"{path}: expected a readable image, got {path.stat().st_size} bytes "
                           "that cannot be decoded")
    return image
