"""The things on the demo's table, made by hand out of training.shapes: three objects whose poses are
asked for, and the clutter around them. Nothing here comes out of `random_object`, so nothing here
is ever trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flowpose_ros.objects.mesh import Mesh
from training import shapes, textures
from training.objects import polar, textured
from training.shapes import Shape

Paint = Callable[[tuple[int, int]], np.ndarray]
WHITE, BLACK = (245, 243, 238), (22, 22, 24)


@dataclass(frozen=True)
class Prop:
    """One thing of the scene: its mesh stands where T_world_obj [4,4] puts it, world z up; gloss in
    [0,1]; obj_id is None for clutter."""

    mesh: Mesh
    T_world_obj: np.ndarray
    gloss: float
    obj_id: int | None = None


# --- building ------------------------------------------------------------------------------------

def build(parts: list[tuple[Shape, list[Paint]]], texture_px: int) -> Mesh:
    """One mesh from parts with a painter per chart, its origin in the middle of its bounding box."""
    shape = shapes.joined([part for part, _ in parts])
    painters = [lambda size, colors, rng, paint=paint: paint(size) for _, paints in parts for paint in paints]
    image, windows = textures.atlas(shape.aspect, painters, [None] * len(painters), None, texture_px)
    middle = (shape.vertices.min(0) + shape.vertices.max(0)) / 2
    return textured(shape.moved(np.eye(3), -middle), image, windows)


def fill(color: tuple[int, int, int]) -> Paint:
    """One colour with a trace of wear, as real surfaces have."""
    def paint(size):
        grain = textures.fbm(size, np.random.default_rng(sum(color)), 4, 6)[..., None]
        return (np.array(color) * (0.94 + 0.1 * grain)).clip(0, 255).astype(np.uint8)
    return paint


def drawn(draw_on: Callable[[ImageDraw.ImageDraw, int, int], None], color: tuple[int, int, int]) -> Paint:
    """A painter that draws on a filled ground; draw_on(draw, width, height)."""
    def paint(size):
        image = Image.fromarray(fill(color)(size))
        draw_on(ImageDraw.Draw(image), size[1], size[0])
        return np.asarray(image)
    return paint


def write(draw, at, text, height, color, anchor="mm") -> None:
    """Text in Pillow's own font, centred at (x, y) unless the anchor says otherwise."""
    draw.text(at, text, fill=color, font=ImageFont.load_default(max(6, int(height))), anchor=anchor)


def lines(draw, x, y, width, count, pitch, color) -> None:
    """Small print."""
    rng = np.random.default_rng(int(x + 7 * y + count))
    for i in range(count):
        end = x + width * (1 if i < count - 1 else 0.6)
        at = x
        while at < end:
            dash = min(pitch * rng.uniform(0.8, 3), end - at)
            draw.rectangle([at, y + i * pitch, at + dash, y + i * pitch + pitch * 0.35], fill=color)
            at += dash + pitch * 0.4


def rotation_y(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def standing(mesh: Mesh, x: float, y: float, turn_deg: float, R: np.ndarray = np.eye(3), z: float = 0.0) -> np.ndarray:
    """T_world_obj [4,4] of a mesh rotated by R, turned about z and set down on height z."""
    T = np.eye(4)
    T[:3, :3] = shapes.rotation_z(np.radians(turn_deg)) @ R
    T[:3, 3] = [x, y, z - (mesh.vertices @ T[:3, :3].T)[:, 2].min()]
    return T


# --- object 1: a box of biscuits -----------------------------------------------------------------

RED, YELLOW, CREAM, BROWN = (176, 28, 36), (246, 190, 40), (250, 236, 205), (150, 92, 40)


def biscuit_box() -> Mesh:
    """A carton 15 x 6 x 20 cm: front and back on +y and -y."""
    def front(draw, w, h):
        draw.polygon([(0, 0.62 * h), (w, 0.50 * h), (w, h), (0, h)], fill=YELLOW)
        draw.polygon([(0, 0.60 * h), (w, 0.48 * h), (w, 0.51 * h), (0, 0.63 * h)], fill=CREAM)
        draw.ellipse([0.08 * w, 0.06 * h, 0.92 * w, 0.40 * h], fill=CREAM)
        draw.ellipse([0.11 * w, 0.08 * h, 0.89 * w, 0.38 * h], fill=(20, 60, 120))
        write(draw, (0.5 * w, 0.20 * h), "NORDKORN", 0.135 * w, WHITE)
        write(draw, (0.5 * w, 0.30 * h), "oat biscuits", 0.085 * w, YELLOW)
        for x, y, r in ((0.34, 0.70, 0.17), (0.62, 0.64, 0.18), (0.66, 0.83, 0.16)):
            biscuit(draw, x * w, y * h, r * w)
        draw.ellipse([0.05 * w, 0.42 * h, 0.27 * w, 0.42 * h + 0.22 * w], fill=(30, 120, 60))
        write(draw, (0.16 * w, 0.42 * h + 0.11 * w), "5", 0.15 * w, WHITE)
        write(draw, (0.20 * w, 0.95 * h), "250 g", 0.08 * w, RED)

    def back(draw, w, h):
        draw.rectangle([0, 0, w, 0.2 * h], fill=(20, 60, 120))
        write(draw, (0.5 * w, 0.1 * h), "NORDKORN", 0.12 * w, WHITE)
        write(draw, (0.08 * w, 0.27 * h), "A good start", 0.085 * w, RED, "lm")
        lines(draw, 0.08 * w, 0.33 * h, 0.84 * w, 7, 0.028 * h, BROWN)
        biscuit(draw, 0.72 * w, 0.72 * h, 0.2 * w)
        lines(draw, 0.08 * w, 0.60 * h, 0.38 * w, 8, 0.03 * h, BROWN)
        draw.rectangle([0.06 * w, 0.88 * h, 0.45 * w, 0.97 * h], fill=WHITE)
        for i in range(24):
            if (i * 7) % 5 < 3:
                draw.rectangle([(0.08 + 0.015 * i) * w, 0.89 * h, (0.087 + 0.015 * i) * w, 0.96 * h], fill=BLACK)

    def table(draw, w, h):
        draw.rectangle([0.1 * w, 0.12 * h, 0.9 * w, 0.6 * h], fill=WHITE, outline=BLACK, width=2)
        for i in range(8):
            y = (0.17 + 0.053 * i) * h
            draw.line([0.1 * w, y, 0.9 * w, y], fill=BLACK, width=1)
            lines(draw, 0.16 * w, y + 0.015 * h, 0.4 * w, 1, 0.03 * h, BLACK)
        lines(draw, 0.12 * w, 0.68 * h, 0.76 * w, 8, 0.028 * h, CREAM)

    def brand(draw, w, h):
        write(draw, (0.5 * w, 0.3 * h), "NORD", 0.3 * w, YELLOW)
        write(draw, (0.5 * w, 0.42 * h), "KORN", 0.3 * w, WHITE)
        biscuit(draw, 0.5 * w, 0.68 * h, 0.3 * w)

    def top(draw, w, h):
        # The chart of +z runs along x, so that the word is read along the long edge.
        draw.rectangle([0, 0.3 * h, w, 0.7 * h], fill=YELLOW)
        write(draw, (0.5 * w, 0.5 * h), "NORDKORN", 0.13 * w, RED)

    body = shapes.rounded_box(np.array([0.15, 0.06, 0.20]), 0.0018, 500)
    turned = {face: drawn(face, RED) for face in (front, back, table, brand, top)}
    # The charts of +y and -y have z along u: what is drawn upright has to be turned to fit.
    paints = [turned[table], turned[brand], quarter(drawn(back, CREAM), -1), quarter(turned[front], 1),
              turned[top], fill(RED)]
    return build([(body, paints)], 1024)


def quarter(paint: Paint, turns: int) -> Paint:
    """A painter whose picture is turned by quarter turns, counter-clockwise."""
    return lambda size: np.ascontiguousarray(np.rot90(paint(size[::-1] if turns % 2 else size), turns))


def biscuit(draw, x, y, r) -> None:
    draw.ellipse([x - r, y - r, x + r, y + r], fill=BROWN)
    draw.ellipse([x - 0.93 * r, y - 0.93 * r, x + 0.9 * r, y + 0.9 * r], fill=(206, 150, 82))
    rng = np.random.default_rng(int(x))
    for a, b, s in zip(rng.uniform(0, 2 * np.pi, 16), np.sqrt(rng.random(16)) * 0.8, rng.uniform(0.03, 0.1, 16)):
        u, v = x + r * b * np.cos(a), y + r * b * np.sin(a)
        draw.ellipse([u - s * r, v - s * r, u + s * r, v + s * r], fill=(120, 70, 34) if s > 0.06 else CREAM)


# --- object 2: a mug -----------------------------------------------------------------------------

def mug() -> Mesh:
    """A mug 10.5 cm high with a handle on +x and a print beside it."""
    def side(size):
        h, w = size
        image = fill(WHITE)(size)
        outside = h - int(0.44 * h)  # the chart goes up the outside, over the rim and down the inside
        image[:outside] = fill((232, 228, 214))((outside, w))
        glaze = (outside + 0.31 * h + 0.012 * h * np.sin(np.arange(w) * 2 * np.pi / w * 5)).astype(int)
        image[np.arange(h)[:, None] > glaze] = (24, 92, 104)
        picture = Image.fromarray(image)
        draw = ImageDraw.Draw(picture)
        for centre, word, colour in ((0.30, "robo", (190, 62, 40)), (0.72, "CAFE", (24, 92, 104))):
            x, y = centre * w, outside + 0.15 * h
            draw.ellipse([x - 0.125 * w, y - 0.14 * h, x + 0.125 * w, y + 0.14 * h], outline=colour, width=max(2, w // 80))
            write(draw, (x, y), word, 0.08 * w, colour)
        draw.rectangle([0, outside - 0.004 * h, w, outside + 0.012 * h], fill=(190, 62, 40))
        return np.asarray(picture)

    r, height = 0.042, 0.105
    profile = np.array([[r - 0.004, 0], [r - 0.001, 0.002], [r, 0.006], [r, 0.03], [r, 0.055], [r, 0.08],
                        [r, height - 0.002], [r - 0.0015, height], [r - 0.003, height - 0.001],
                        [r - 0.004, 0.08], [r - 0.004, 0.04], [r - 0.004, 0.012], [r - 0.008, 0.007], [0, 0.006]])
    a = np.linspace(-np.pi / 2, np.pi / 2, 24)
    path = np.stack([r - 0.002 + 0.034 * np.cos(a), 0 * a, 0.055 + 0.032 * np.sin(a)], 1)
    handle = shapes.tube(path, np.full(24, 0.0062), 700)
    return build([(shapes.lathe(profile, 1800), [side, fill(WHITE)]), (handle, [fill((24, 92, 104))])], 768)


# --- object 3: a cordless drill ------------------------------------------------------------------

def drill() -> Mesh:
    """A cordless drill 20 cm long: bit along +x, standing on its battery."""
    orange, dark, steel = (228, 112, 22), (46, 48, 52), (150, 152, 156)

    def housing(draw, w, h):
        # The chart goes once around the x axis: u = 0.25 and 0.75 are the flanks.
        for flank in (0.25, 0.75):
            draw.rectangle([(flank - 0.11) * w, 0.18 * h, (flank + 0.11) * w, 0.60 * h], fill=BLACK)
            for k in range(6):
                y = (0.70 + 0.04 * k) * h
                draw.rectangle([(flank - 0.10) * w, y, (flank + 0.10) * w, y + 0.018 * h], fill=BLACK)
        draw.rectangle([0, 0.02 * h, w, 0.08 * h], fill=(250, 250, 250))

    def lettered(size):
        image = Image.fromarray(np.array(drawn(housing, orange)(size)))
        w, h = image.size
        for flank, turn in ((0.25, -90), (0.75, 90)):
            plate = Image.new("RGB", (int(0.40 * h), int(0.2 * w)), BLACK)
            draw = ImageDraw.Draw(plate)
            write(draw, (plate.width / 2, plate.height * 0.36), "TORQ-18", plate.width * 0.21, WHITE)
            write(draw, (plate.width / 2, plate.height * 0.74), "brushless", plate.width * 0.12, orange)
            plate = plate.rotate(turn, expand=True)
            image.paste(plate, (int(flank * w - plate.width / 2), int(0.19 * h)))
        return np.asarray(image)

    def battery(draw, w, h):
        draw.rectangle([0, 0.0, w, 0.16 * h], fill=orange)
        write(draw, (0.5 * w, 0.55 * h), "18V", 0.45 * h, WHITE)

    along_x = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    body = shapes.lathe(np.array([[0.020, -0.068], [0.026, -0.064], [0.029, -0.054], [0.029, -0.02], [0.029, 0.02],
                                  [0.028, 0.05], [0.025, 0.062]]), 900).moved(along_x, np.zeros(3))
    gearbox = shapes.lathe(np.array([[0.0235, 0.06], [0.0235, 0.078], [0.019, 0.088]]), 300).moved(along_x, np.zeros(3))
    chuck = shapes.lathe(np.array([[0.0165, 0.086], [0.0165, 0.106], [0.009, 0.122]]), 300).moved(along_x, np.zeros(3))
    bit = shapes.lathe(np.array([[0.003, 0.12], [0.003, 0.155], [0.0, 0.160]]), 160).moved(along_x, np.zeros(3))
    lean = rotation_y(np.radians(10))
    grip = shapes.rounded_box(np.array([0.040, 0.034, 0.115]), 0.012, 500).moved(lean, np.array([-0.032, 0, -0.075]))
    trigger = shapes.rounded_box(np.array([0.014, 0.016, 0.030]), 0.005, 200).moved(lean, np.array([-0.008, 0, -0.044]))
    foot = shapes.rounded_box(np.array([0.105, 0.066, 0.045]), 0.008, 500).moved(np.eye(3), np.array([-0.035, 0, -0.150]))
    sides = [drawn(battery, dark)] * 2
    return build([
        (body, [lettered, fill(dark), fill(dark)]),
        (gearbox, [fill(dark)] * 3), (chuck, [fill(BLACK)] * 3), (bit, [fill(steel)] * 2),
        (grip, [fill(dark), fill(orange), fill(dark), fill(dark), fill(dark), fill(dark)]),
        (trigger, [fill((196, 30, 30))] * 6),
        (foot, sides + [quarter(sides[0], -1), quarter(sides[0], 1), fill(dark), fill(dark)]),
    ], 1024)


# --- the table and what else is on it ------------------------------------------------------------

def clutter() -> list[Prop]:
    """Seven things that nobody asks for, some in front of the objects."""
    rng = np.random.default_rng(20)
    can = build([(shapes.lathe(np.array([[0.031, 0], [0.033, 0.003], [0.033, 0.1], [0.031, 0.103]]), 500),
                  [printed(21, (38, 60, 140), (240, 240, 235), (200, 40, 40), (30, 40, 90)), fill((170, 172, 175)), fill((170, 172, 175))])], 512)
    ball = build([(shapes.superquadric(np.array([0.075, 0.075, 0.07]), 1.0, 1.0, 1500), [speckled((232, 130, 20))])], 256)
    book = build([(shapes.rounded_box(np.array([0.21, 0.15, 0.028]), 0.002, 300), [printed(30 + i, (58, 72, 84), (220, 214, 200), (190, 120, 60), (30, 36, 44)) for i in range(6)])], 768)
    carton = build([(shapes.rounded_box(np.array([0.085, 0.035, 0.06]), 0.001, 300), [printed(141 + i, (122, 166, 92), (244, 240, 226), (46, 84, 60), (214, 150, 60)) for i in range(6)])], 512)
    tape = build([(shapes.ring_extrusion(polar(np.full(64, 0.05)), polar(np.full(64, 0.037)), 0.024),
                   [fill((60, 110, 180)), fill((190, 160, 110)), fill((70, 120, 190)), fill((70, 120, 190))])], 256)
    z = np.linspace(0, 1, 24)
    girth = 0.033 * np.where(z < 0.6, 1, 0.36 + 0.64 * np.exp(-((z - 0.6) / 0.12) ** 2))
    bottle = build([(shapes.lathe(np.stack([girth, 0.22 * z], 1), 1500), [bottle_side] + [fill((30, 90, 60))] * 2)], 512)
    pen = build([(shapes.lathe(np.array([[0.005, 0], [0.005, 0.11], [0.003, 0.12], [0.0, 0.128]]), 300),
                  [stripe((30, 30, 34), (210, 40, 40)), fill(BLACK)])], 128)
    lying = rotation_y(np.pi / 2)
    placed = [
        (can, standing(can, 0.112, -0.012, 150), 0.5), (ball, standing(ball, -0.245, -0.035, 0), 0.25),
        (book, standing(book, 0.275, 0.235, 12), 0.3), (carton, standing(carton, -0.105, -0.06, -28), 0.2),
        (tape, standing(tape, 0.19, -0.10, 0), 0.5), (bottle, standing(bottle, -0.25, 0.22, 200), 0.8),
        (pen, standing(pen, 0.02, -0.185, 24, lying), 0.6),
    ]
    row = []
    for i in range(9):
        size = np.array([rng.uniform(0.03, 0.055), 0.16, rng.uniform(0.19, 0.27)])
        spine = build([(shapes.rounded_box(size, 0.003, 200), [fill(CREAM), fill(CREAM), fill(CREAM), spine_side(i)] + [fill(CREAM)] * 2)], 512)
        x = (row[-1][1][0, 3] + row[-1][0].vertices[:, 0].max() if row else -0.12) + size[0] / 2 + 0.002
        row.append((spine, standing(spine, x, 0.56, 0), 0.3))
    return [Prop(mesh, T, gloss) for mesh, T, gloss in placed + row]


def printed(seed: int, *colors: tuple[int, int, int]) -> Paint:
    """A product print in these colours."""
    return lambda size: textures.package(size, np.array(colors, np.uint8), np.random.default_rng([9, seed]))


def bottle_side(size):
    """Green glass with a paper label; the chart goes up the side and into the neck."""
    def label(draw, w, h):
        draw.rectangle([0, 0.52 * h, w, 0.80 * h], fill=CREAM)
        draw.rectangle([0, 0.54 * h, w, 0.56 * h], fill=RED)
        for x in (0.25, 0.75):
            write(draw, (x * w, 0.65 * h), "OLIO", 0.11 * w, (30, 70, 40))
            lines(draw, (x - 0.12) * w, 0.72 * h, 0.24 * w, 3, 0.02 * h, BROWN)
        draw.rectangle([0, 0, w, 0.1 * h], fill=(190, 160, 60))
    return drawn(label, (30, 74, 44))(size)


def spine_side(index: int) -> Paint:
    """The spine of a book: a cloth colour, two bands and a title that is read sideways."""
    cloth = [(150, 38, 40), (28, 66, 104), (214, 190, 130), (40, 92, 66), (60, 58, 66), (196, 110, 40),
             (96, 56, 90), (224, 220, 206), (36, 112, 124)][index]
    ink = BLACK if sum(cloth) > 400 else CREAM
    title = ["KINEMATICS", "OPTICS", "ATLAS", "GEOMETRY", "SIGNALS", "FLOW", "POEMS", "ROBOTS", "TABLES"][index]

    def spine(draw, w, h):
        for y in (0.08, 0.88):
            draw.rectangle([0, y * h, w, (y + 0.025) * h], fill=ink)

    def paint(size):
        image = Image.fromarray(drawn(spine, cloth)(size))
        w, h = image.size
        plate = Image.new("RGB", (int(0.6 * h), int(0.8 * w)), cloth)
        write(ImageDraw.Draw(plate), (plate.width / 2, plate.height / 2), title, min(0.55 * w, 0.1 * h), ink)
        image.paste(plate.rotate(-90, expand=True), (int(0.1 * w), int(0.2 * h)))
        return np.asarray(image)
    return quarter(paint, 1)


def speckled(color: tuple[int, int, int]) -> Paint:
    return lambda size: textures.blend(textures.fbm(size, np.random.default_rng(1), 5, 12),
                                       np.array([np.array(color) * 0.85, color, np.array(color) * 1.05]).clip(0, 255))


def stripe(first: tuple[int, int, int], second: tuple[int, int, int]) -> Paint:
    def paint(size):
        image = fill(first)(size)
        image[: size[0] // 3] = second
        return image
    return paint


def room() -> list[Prop]:
    """The table, a mat on it, and the wall behind."""
    table = slab(np.array([1.8, 1.3, 0.04]), planks, 1536)
    mat = slab(np.array([0.62, 0.42, 0.003]), weave, 768)
    wall = slab(np.array([4.0, 0.05, 3.0]), plaster, 512)
    down = np.eye(4)
    return [Prop(table, moved(down, 0, 0.15, -0.02), 0.25), Prop(mat, moved(down, 0.0, 0.02, 0.0015), 0.02),
            Prop(wall, moved(down, 0, 0.85, 0.5), 0.0)]


def moved(T: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    T = T.copy()
    T[:3, 3] = x, y, z
    return T


def slab(extents: np.ndarray, paint: Paint, texture_px: int) -> Mesh:
    """A box under one picture: top and sides all show it whole."""
    shape = shapes.rounded_box(extents, 0.001, 100)
    image = paint((texture_px, texture_px))
    return textured(shape, image, np.tile([0.0, 0, 1, 1], (6, 1)))


def planks(size):
    """Oiled boards along x."""
    rng = np.random.default_rng(3)
    h, w = size
    grain = cv2.resize(textures.fbm((h, w // 8), rng, 6, 24), (w, h), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(textures.fbm((h, w // 24), rng, 3, 200), (w, h), interpolation=cv2.INTER_LINEAR)
    image = textures.blend(0.65 * grain + 0.35 * fine,
                           np.array([[92, 58, 34], [140, 94, 58], [172, 124, 82], [186, 140, 98]])).astype(np.float32)
    boards = 9
    for i in range(boards):
        rows = slice(i * h // boards, (i + 1) * h // boards)
        image[rows] = np.roll(image[rows], int(rng.integers(w)), axis=1) * rng.uniform(0.86, 1.06)
        image[rows.start:rows.start + 3] *= 0.45
    return image.clip(0, 255).astype(np.uint8)


def weave(size):
    """A woven mat with a border."""
    h, w = size
    y, x = np.mgrid[:h, :w]
    thread = 0.5 + 0.5 * np.sin(x * 1.1) * np.sin(y * 1.1)
    image = textures.blend(thread, np.array([[104, 118, 112], [132, 146, 138]])).astype(np.float32)
    edge = np.minimum(np.minimum(x / w, 1 - x / w), np.minimum(y / h, 1 - y / h))
    image[(edge > 0.04) & (edge < 0.055)] = (214, 206, 186)
    return (image * (0.9 + 0.15 * textures.fbm(size, np.random.default_rng(4), 3, 5))[..., None]).clip(0, 255).astype(np.uint8)


def plaster(size):
    return textures.blend(textures.fbm(size, np.random.default_rng(5), 6, 6), np.array([[196, 198, 196], [214, 214, 208]]))


def targets() -> list[Prop]:
    """The three objects with their places on the table."""
    box, cup, tool = biscuit_box(), mug(), drill()
    return [Prop(box, standing(box, -0.125, 0.075, 18, z=0.003), 0.35, 1),
            Prop(cup, standing(cup, 0.035, -0.055, -12, z=0.003), 0.9, 2),
            Prop(tool, standing(tool, 0.165, 0.075, -148, z=0.003), 0.45, 3)]
