"""What a real camera does to a picture and to depth."""

from __future__ import annotations

import cv2
import numpy as np

DEPTH_ABSENT_SHARE = 0.3


def sense_image(picture: np.ndarray, target: np.ndarray, own_size: int, size: int,
                rng: np.random.Generator) -> np.ndarray:
    """The crop [S,S,3] in [0,1] that a real camera would give of a clean picture [Q,Q,3].

    target [Q,Q] bool: where the object is, for the exposure. own_size: how many pixels the crop
    spans in the camera's own image; fewer than S make the crop soft.
    """
    picture = _expose(picture, target, rng)
    if own_size != picture.shape[0]:
        shrinks = own_size < picture.shape[0]
        picture = cv2.resize(picture, (own_size, own_size),
                             interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    picture = _blur(picture, rng)
    picture = _tone(picture, rng)
    if rng.random() < 0.06:
        picture = _cover_patch(picture, rng)
    if rng.random() < 0.8:
        sigma = 0.04 * rng.random() ** 2
        picture = picture + rng.standard_normal(picture.shape, np.float32) * np.float32(sigma)
    picture = np.clip(picture, 0, 1)
    if rng.random() < 0.3:
        picture = _jpeg(picture, int(rng.integers(30, 96)))
    if own_size != size:
        picture = cv2.resize(picture, (size, size),
                             interpolation=cv2.INTER_AREA if own_size > size else cv2.INTER_LINEAR)
    return picture


def _expose(picture: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scale towards a plausible brightness, as automatic exposure would: of the picture and,
    with some weight, of the object in it."""
    level = float(picture.mean())
    if target.any():
        level += rng.uniform(0, 0.7) * (float(picture[target].mean()) - level)
    return picture * np.float32(np.clip(rng.uniform(0.25, 0.6) / max(level, 1e-3), 0.5, 2.0))


def _blur(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sigma = rng.uniform(0, 1.5) if rng.random() < 0.6 else 0.0
    if sigma > 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    if rng.random() < 0.1:
        length, angle = rng.uniform(2, 6), rng.uniform(0, np.pi)
        steps = np.linspace(-length / 2, length / 2, 13)
        kernel = np.zeros((9, 9), np.float32)
        np.add.at(kernel, (np.round(4 + steps * np.sin(angle)).astype(int),
                           np.round(4 + steps * np.cos(angle)).astype(int)), 1 / 13)
        picture = cv2.filter2D(picture, -1, kernel)
    return picture


def _tone(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma, contrast, brightness, white balance and saturation."""
    if rng.random() < 0.5:
        picture = np.clip(picture, 1e-4, 1) ** np.float32(np.exp(rng.normal(0, 0.2)))
    contrast, brightness = np.exp(rng.normal(0, 0.15)), rng.normal(0, 0.04)
    gain = np.exp(rng.normal(0, 0.06, 3)) * contrast
    picture = (picture - 0.45) * gain.astype(np.float32) + np.float32(0.45 + brightness)
    if rng.random() < 0.3:
        grey = picture.mean(-1, keepdims=True)
        picture = grey + (picture - grey) * np.float32(rng.uniform(0.3, 1.4))
    return picture


def _cover_patch(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A glare spot or a flat patch somewhere on the picture."""
    size = picture.shape[0]
    middle = tuple(int(v) for v in rng.integers(0, size, 2))
    axes = tuple(int(v) for v in rng.uniform(0.05, 0.2, 2) * size + 1)
    mask = np.zeros(picture.shape[:2], np.float32)
    cv2.ellipse(mask, middle, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    glare = rng.random() < 0.5
    if glare:
        mask = cv2.GaussianBlur(mask, (0, 0), size * 0.03)
    colour = np.float32(1.0 if glare else rng.random())
    return picture + (colour - picture) * mask[..., None]


def _jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", np.round(picture * 255).astype(np.uint8),
                           [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.float32) / 255


def sense_depth(depth: np.ndarray, own_size: int, rng: np.random.Generator) -> np.ndarray:
    """Sensor depth [S,S] of clean depth [S,S], metres, 0 where invalid; all 0 when there is no sensor.

    Noise of 0.1-0.5 % of the distance, half of it correlated over some pixels; missing at edges,
    at grazing surfaces and in a few holes; quantised; up to one pixel off the picture.
    """
    if rng.random() < DEPTH_ABSENT_SHARE:
        return np.zeros_like(depth)
    size = depth.shape[0]
    valid = (depth > 0) & ~_lost(depth, rng)
    noise = rng.standard_normal(depth.shape, np.float32)
    cells = int(rng.integers(8, 40))
    noise = noise + cv2.resize(rng.standard_normal((cells, cells), np.float32), (size, size))
    sensed = depth * (1 + np.float32(rng.uniform(0.001, 0.005)) * 0.7 * noise)
    # Millimetres, or the steps of disparity, which grow with the square of the distance.
    step = 0.001 if rng.random() < 0.7 else 0.0015 * _typical(depth) ** 2 + 1e-4
    sensed = np.where(valid, np.round(sensed / step) * step, 0).astype(np.float32)
    if own_size < size:
        nearest = (np.arange(size) * own_size // size * size + size // 2) // own_size
        nearest = np.clip(nearest, 0, size - 1)
        sensed = sensed[nearest[:, None], nearest]
    if rng.random() < 0.5:
        sensed = np.roll(sensed, tuple(rng.integers(-1, 2, 2)), (0, 1))
    return sensed


def _typical(depth: np.ndarray) -> float:
    known = depth[depth > 0]
    return float(np.median(known)) if len(known) else 0.5


def _lost(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixels [S,S] that a sensor gives no depth for."""
    size = depth.shape[0]
    # One relative slope serves for both: a jump at an edge and a surface seen at a grazing angle.
    slope = np.maximum(np.abs(cv2.Sobel(depth, -1, 1, 0, scale=1 / 8)),
                       np.abs(cv2.Sobel(depth, -1, 0, 1, scale=1 / 8)))
    lost = (slope > rng.uniform(0.01, 0.04) * _typical(depth)).astype(np.uint8)
    if rng.random() < 0.5:
        lost &= (rng.random(depth.shape, np.float32) < rng.uniform(0.3, 1)).astype(np.uint8)
    for _ in range(rng.poisson(1.5)):
        middle = tuple(int(v) for v in rng.integers(0, size, 2))
        axes = tuple(int(v) for v in rng.uniform(0.01, 0.12, 2) * size + 1)
        cv2.ellipse(lost, middle, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return (lost > 0) | (rng.random(depth.shape, np.float32) < rng.uniform(0, 0.03))
