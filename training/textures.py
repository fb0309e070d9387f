"""Painted surfaces: colours and small procedural images for procedural objects.

A painter has the form paint(size, colors, rng) -> image [H,W,3] uint8 sRGB with size (H, W) and
colors [n,3] uint8, n >= 3.
"""

from __future__ import annotations

import colorsys
import string
from typing import Callable

import cv2
import numpy as np

Painter = Callable[[tuple[int, int], np.ndarray, np.random.Generator], np.ndarray]


def palette(rng: np.random.Generator, count: int = 5) -> np.ndarray:
    """Colours [count,3] uint8 that go together: muted, saturated, grey, earthy or product-like."""
    style = rng.choice(["muted", "saturated", "grey", "earth", "product"], p=[.25, .25, .12, .13, .25])
    base = rng.random()
    colors = []
    for i in range(count):
        hue = (base + rng.choice([0, 0.05, 0.45, 0.5, 0.33, rng.random()])) % 1
        value = rng.uniform(0.25, 0.95)
        if style == "muted":
            hsv = hue, rng.uniform(0.08, 0.4), value
        elif style == "saturated":
            hsv = hue, rng.uniform(0.6, 1.0), rng.uniform(0.45, 1.0)
        elif style == "grey":
            hsv = hue, rng.uniform(0, 0.08), rng.uniform(0.08, 0.95)
        elif style == "earth":
            hsv = rng.uniform(0.04, 0.14), rng.uniform(0.25, 0.75), rng.uniform(0.2, 0.8)
        else:
            hsv = [(hue, rng.uniform(0.6, 1), value), (hue, 0.05, 0.95), (hue, 0.2, 0.1)][i % 3]
        colors.append(colorsys.hsv_to_rgb(*hsv))
    return (np.array(colors)[rng.permutation(count)] * 255).astype(np.uint8)


def fbm(size: tuple[int, int], rng: np.random.Generator, octaves: int = 4, cells: float = 3) -> np.ndarray:
    """Fractal value noise [H,W] float32 in [0,1]; cells: lattice cells along the longer side."""
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        step = max(size) / (cells * 2 ** octave)
        lattice = rng.random((max(2, int(size[0] / step) + 2), max(2, int(size[1] / step) + 2)), np.float32)
        total += cv2.resize(lattice, size[::-1], interpolation=cv2.INTER_CUBIC) * 0.5 ** octave
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, 1e-6)


def blend(weight: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Image [H,W,3] uint8: weight [H,W] in [0,1] runs through colors [n,3]."""
    position = weight.clip(0, 1) * (len(colors) - 1)
    low = np.minimum(position.astype(int), len(colors) - 2)
    part = (position - low)[..., None]
    table = colors.astype(np.float32)
    return (table[low] * (1 - part) + table[low + 1] * part).astype(np.uint8)


def coordinates(size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates [H,W] turned by a random angle, in units of the longer side."""
    y, x = np.mgrid[:size[0], :size[1]].astype(np.float32) / max(size)
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


# --- painters of the training family -------------------------------------------------------------

def noise(size, colors, rng):
    """Clouds, stains, marble: value noise through two or three colours."""
    weight = fbm(size, rng, octaves=int(rng.integers(2, 6)), cells=rng.uniform(2, 8))
    return blend((weight - 0.5) * rng.uniform(1, 3) + 0.5, colors[:rng.integers(2, 4)])


def stripes(size, colors, rng):
    """Straight stripes of two or three colours."""
    along, _ = coordinates(size, rng)
    n = rng.integers(2, 4)
    edges = np.cumsum(rng.uniform(0.3, 1, n))
    phase = (along * rng.uniform(2, 12)) % 1 * edges[-1]
    return colors[:n][np.searchsorted(edges, phase).clip(0, n - 1)]


def checker(size, colors, rng):
    """A checkerboard."""
    x, y = coordinates(size, rng)
    scale = rng.uniform(2, 10)
    return colors[((np.floor(x * scale) + np.floor(y * scale)) % 2).astype(int)]


def voronoi(size, colors, rng):
    """Cells of random colours, sometimes with dark joints."""
    seeds = np.full(size, 255, np.uint8)
    count = int(rng.integers(8, 60))
    seeds[rng.integers(0, size[0], count), rng.integers(0, size[1], count)] = 0
    distance, cell = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5)
    shade = rng.integers(0, len(colors), cell.max() + 1)
    image = colors[shade[cell]]
    if rng.random() < 0.4:
        image = (image * (0.4 + 0.6 * np.exp(-distance / max(size) * 12))[..., None]).astype(np.uint8)
    return image


def gradient(size, colors, rng):
    """A soft run from one colour to another."""
    along, _ = coordinates(size, rng)
    along = (along - along.min()) / max(np.ptp(along), 1e-6)
    return blend(along, colors[:rng.integers(2, 4)])


def plain(size, colors, rng):
    """One colour."""
    return np.broadcast_to(colors[rng.integers(len(colors))], (*size, 3))


def package(size, colors, rng):
    """The side of a product package: panels, a logo, words, lines of small print, a barcode."""
    h, w = size
    image = np.empty((h, w, 3), np.uint8)
    image[:] = colors[0]
    if rng.random() < 0.3:
        image = blend(np.linspace(0, 1, h)[:, None].repeat(w, 1), colors[:2])
    for _ in range(rng.integers(1, 4)):
        panel(image, pick(colors, rng), rng)
    if rng.random() < 0.35:
        picture(image, colors, rng)
    if rng.random() < 0.8:
        logo(image, colors, rng)
    for _ in range(rng.integers(1, 4)):
        word(image, pick(colors, rng), rng)
    for _ in range(rng.integers(0, 3)):
        small_print(image, pick(colors, rng), rng)
    if rng.random() < 0.3:
        barcode(image, rng)
    return image


def pick(colors, rng) -> tuple[int, int, int]:
    return tuple(int(c) for c in colors[rng.integers(len(colors))])


def panel(image, color, rng):
    """A band across the side, or a rectangle."""
    h, w = image.shape[:2]
    x0, x1 = np.sort(rng.uniform(0, w, 2)).astype(int)
    y0, y1 = np.sort(rng.uniform(0, h, 2)).astype(int)
    shape = rng.random()
    if shape < 0.4:
        x0, x1 = 0, w
    elif shape < 0.55:
        y0, y1 = 0, h
    cv2.rectangle(image, (int(x0), int(y0)), (int(x1), int(y1)), color, -1)
    if rng.random() < 0.3:
        cv2.rectangle(image, (int(x0), int(y0)), (int(x1), int(y1)), tuple(255 - c for c in color), 2)


def picture(image, colors, rng):
    """A photograph-like patch."""
    h, w = image.shape[:2]
    ph, pw = int(h * rng.uniform(0.2, 0.6)), int(w * rng.uniform(0.2, 0.7))
    y, x = int(rng.uniform(0, h - ph)), int(rng.uniform(0, w - pw))
    patch = blend(fbm((ph, pw), rng, 5, rng.uniform(1, 4)), colors[rng.permutation(len(colors))[:3]])
    image[y:y + ph, x:x + pw] = patch


def logo(image, colors, rng):
    """A filled ellipse, star or shield with a word or ring in it."""
    h, w = image.shape[:2]
    centre = int(rng.uniform(0.2, 0.8) * w), int(rng.uniform(0.15, 0.85) * h)
    size = rng.uniform(0.08, 0.28) * min(h, w) + 2
    color = pick(colors, rng)
    if rng.random() < 0.5:
        axes = int(size * rng.uniform(0.8, 1.8)), int(size)
        cv2.ellipse(image, centre, axes, rng.uniform(-20, 20), 0, 360, color, -1, cv2.LINE_AA)
        cv2.ellipse(image, centre, axes, 0, 0, 360, pick(colors, rng), max(1, int(size / 10)), cv2.LINE_AA)
    else:
        n = int(rng.integers(3, 11))
        angle = np.arange(n) * 2 * np.pi / n + rng.uniform(0, 6)
        radius = size * np.where(np.arange(n) % 2, rng.uniform(0.4, 1), 1)
        points = np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None] + centre
        cv2.fillPoly(image, [points.astype(np.int32)], color, cv2.LINE_AA)
    if rng.random() < 0.6:
        text(image, letters(rng, 1, 4), (centre[0] - int(size * 0.8), centre[1] + int(size * 0.3)),
             size * 0.7, pick(colors, rng), rng)


def word(image, color, rng):
    """One large word, upright or standing on its side."""
    h, w = image.shape[:2]
    turned = rng.random() < 0.2
    canvas = np.ascontiguousarray(np.rot90(image)) if turned else image
    height = rng.uniform(0.08, 0.25) * min(h, w)
    at = int(rng.uniform(0, 0.4) * canvas.shape[1]), int(rng.uniform(0.15, 0.95) * canvas.shape[0])
    text(canvas, letters(rng, 3, 9), at, height, color, rng)
    if turned:
        image[:] = np.rot90(canvas, -1)


def text(image, content, at, height, color, rng):
    """Letters about `height` pixels tall, lower left corner at (x, y)."""
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX,
                           cv2.FONT_HERSHEY_COMPLEX]))
    cv2.putText(image, content, at, font, height / 21, color, max(1, int(height / rng.uniform(4, 9))),
                cv2.LINE_AA)


def letters(rng, low: int, high: int) -> str:
    alphabet = string.ascii_uppercase if rng.random() < 0.6 else string.ascii_lowercase + string.digits
    return "".join(rng.choice(list(alphabet), rng.integers(low, high)))


def small_print(image, color, rng):
    """Lines of text too small to read: dashes of random length."""
    h, w = image.shape[:2]
    pitch = max(3, int(rng.uniform(0.02, 0.05) * max(h, w)))
    left, width = int(rng.uniform(0.05, 0.5) * w), int(rng.uniform(0.25, 0.5) * w)
    top = int(rng.uniform(0.1, 0.8) * h)
    for line in range(rng.integers(3, 9)):
        x, y = left, top + line * pitch
        while x < left + width * rng.uniform(0.8, 1):
            dash = int(rng.uniform(0.8, 4) * pitch)
            cv2.line(image, (x, y), (x + dash, y), color, max(1, pitch // 3))
            x += dash + max(2, pitch // 2)


def barcode(image, rng):
    """A white field with black bars."""
    h, w = image.shape[:2]
    bh, bw = int(h * rng.uniform(0.1, 0.2)) + 4, int(w * rng.uniform(0.2, 0.35)) + 8
    y, x = int(rng.uniform(0, max(1, h - bh))), int(rng.uniform(0, max(1, w - bw)))
    bars = np.repeat(rng.random(bw // 2 + 1) < 0.5, 2)[:bw]
    field = np.where(bars, 15, 245).astype(np.uint8)[None, :, None]
    image[y:y + bh, x:x + bw] = field[:, :image[y:y + bh, x:x + bw].shape[1]]


# --- painters of the held-out family -------------------------------------------------------------

def dots(size, colors, rng):
    """Round dots on a lattice."""
    x, y = coordinates(size, rng)
    scale, radius = rng.uniform(3, 10), rng.uniform(0.2, 0.42)
    shift = np.floor(y * scale) % 2 / 2
    inside = np.hypot((x * scale + shift) % 1 - 0.5, (y * scale) % 1 - 0.5) < radius
    return colors[inside.astype(int)]


def zigzag(size, colors, rng):
    """Chevrons."""
    x, y = coordinates(size, rng)
    scale = rng.uniform(3, 8)
    wave = np.abs((x * scale) % 1 - 0.5) * rng.uniform(0.3, 1.2)
    return colors[(np.floor((y * scale + wave) * 2) % rng.integers(2, 4)).astype(int)]


def wood(size, colors, rng):
    """Growth rings, disturbed by noise."""
    x, y = coordinates(size, rng)
    rings = np.hypot(x - rng.uniform(-1, 2), (y - 0.5) * rng.uniform(0.1, 1)) + 0.08 * fbm(size, rng, 3, 3)
    return blend(0.5 + 0.5 * np.sin(rings * rng.uniform(40, 120)), colors[:2])


def camouflage(size, colors, rng):
    """Hard-edged blobs in three or four colours."""
    weight = fbm(size, rng, 3, rng.uniform(3, 7))
    n = int(rng.integers(3, min(5, len(colors)) + 1))
    return colors[np.searchsorted(np.quantile(weight, np.arange(1, n) / n), weight)]


def poster(size, colors, rng):
    """Large overlapping discs, rules and one word: graphic design unlike `package`."""
    h, w = size
    image = np.empty((h, w, 3), np.uint8)
    image[:] = pick(colors, rng)
    for _ in range(rng.integers(2, 6)):
        centre = int(rng.uniform(0, w)), int(rng.uniform(0, h))
        cv2.circle(image, centre, int(rng.uniform(0.1, 0.4) * max(h, w)), pick(colors, rng),
                   -1 if rng.random() < 0.6 else int(rng.uniform(2, 9)), cv2.LINE_AA)
    for _ in range(rng.integers(0, 5)):
        a, b = rng.uniform(0, 1, (2, 2)) * (w, h)
        cv2.line(image, tuple(map(int, a)), tuple(map(int, b)), pick(colors, rng), int(rng.integers(1, 7)),
                 cv2.LINE_AA)
    cv2.putText(image, letters(rng, 2, 7), (int(0.05 * w), int(rng.uniform(0.3, 0.9) * h)),
                cv2.FONT_HERSHEY_SCRIPT_COMPLEX, rng.uniform(1, 2.5) * min(h, w) / 100, pick(colors, rng),
                int(rng.integers(1, 4)), cv2.LINE_AA)
    return image


PAINTERS: dict[str, tuple[Painter, ...]] = {
    # A package is listed more than once: most things on a shelf are packages.
    "train": (noise, stripes, checker, voronoi, gradient, package, package, package, package),
    "held_out": (dots, zigzag, wood, camouflage, poster, poster),
}


def atlas(aspects: np.ndarray, painters: list[Painter], colors: list[np.ndarray],
          rng: np.random.Generator, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Paint all charts of an object into one square image.

    aspects [C] width over height; painters and colors, one per chart. Returns the image
    [size,size,3] uint8 and windows [C,4]: (u0, v0, u1, v1) of each chart, v upward.
    """
    columns = int(np.ceil(np.sqrt(len(aspects))))
    rows = int(np.ceil(len(aspects) / columns))
    image, windows = np.zeros((size, size, 3), np.uint8), []
    xs = np.linspace(0, size, columns + 1).astype(int)
    ys = np.linspace(0, size, rows + 1).astype(int)
    for i, aspect in enumerate(aspects.clip(0.25, 4)):
        x0, x1 = xs[i % columns:i % columns + 2]
        y0, y1 = ys[i // columns:i // columns + 2]
        longer = max(x1 - x0, y1 - y0)
        natural = (longer, max(8, int(longer * aspect))) if aspect < 1 else (max(8, int(longer / aspect)), longer)
        painted = painters[i](natural, colors[i], rng)
        image[y0:y1, x0:x1] = cv2.resize(painted, (int(x1 - x0), int(y1 - y0)), interpolation=cv2.INTER_AREA)
        # Half a pixel and a bit stays free at each border: neighbours must not bleed in.
        windows.append([(x0 + 0.6) / size, 1 - (y1 - 0.6) / size, (x1 - 0.6) / size, 1 - (y0 + 0.6) / size])
    return image, np.array(windows)
