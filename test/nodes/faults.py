"""Messages as broken cameras, calibrations and detectors send them: each fault changes a good message in place."""

import array

import numpy as np

HUGE = 2**31
CROWD = 200


def _data(message, data):
    message.data = array.array("B", bytes(data))


def _scramble(message, rng):
    """Any few bytes of the serialised fields: sizes, step, encoding."""
    message.height, message.width, message.step = (int(x) for x in rng.choice([0, 1, 7, 48, 64, HUGE, 2**32 - 1], 3))
    message.encoding = str(rng.choice(["rgb8", "mono8", "16UC1", "32FC1", "rgb16", "bayer_rggb8", "", "rgb8\x00", "é" * 50]))
    _data(message, rng.bytes(int(rng.integers(0, 200))))


IMAGE = {
    "short": lambda m, rng: _data(m, bytes(m.data)[:len(m.data) // 2]),
    "empty": lambda m, rng: _data(m, b""),
    "long": lambda m, rng: _data(m, bytes(m.data) + b"x" * 77),
    "step": lambda m, rng: setattr(m, "step", int(rng.integers(0, m.step))),
    "encoding": lambda m, rng: setattr(m, "encoding", str(rng.choice(["nv21", "", "yuv422", "64FC1"]))),
    "no size": lambda m, rng: setattr(m, str(rng.choice(["height", "width"])), 0),
    "2^31 wide": lambda m, rng: setattr(m, "width", HUGE),
    "scrambled": _scramble,
}
"""A colour image that cannot be read."""

INFO = {
    "NaN": lambda m, rng: m.k.__setitem__(0, float("nan")),
    "no focal length": lambda m, rng: m.k.__setitem__(int(rng.choice([0, 4])), float(rng.choice([0.0, -300.0]))),
    "infinite": lambda m, rng: m.k.__setitem__(2, float("inf")),
    "size": lambda m, rng: setattr(m, "width", m.width * 2),
    "model": lambda m, rng: (setattr(m, "distortion_model", "thin_prism"), setattr(m, "d", [0.1] * 5)),
    "coefficients": lambda m, rng: setattr(m, "d", [0.1, float("nan"), 0, 0, 0]),
    "roi": lambda m, rng: (setattr(m.roi, "x_offset", m.width), setattr(m.roi, "width", 10)),
}
"""A calibration that no image can be used with."""

DEPTH = {
    "zeros": lambda m, rng: _data(m, bytes(len(m.data))),
    "NaN": lambda m, rng: _data(m, np.full(len(m.data) // 4, np.nan, "<f4").tobytes()),
    "negative": lambda m, rng: _data(m, np.full(len(m.data) // 4, -1.0, "<f4").tobytes()),
    "infinite": lambda m, rng: _data(m, np.full(len(m.data) // 4, np.inf, "<f4").tobytes()),
    "noise": lambda m, rng: _data(m, rng.bytes(len(m.data))),
    "big-endian": lambda m, rng: setattr(m, "is_bigendian", 1),
    **IMAGE,
}
"""A depth image that holds nothing."""


def _each(change):
    def spoil(message, rng):
        for detection in message.detections:
            change(detection, rng)
    return spoil


def _crowd(message, rng):
    if message.detections:
        message.detections = [message.detections[0]] * CROWD


DETECTIONS = {
    "NaN": _each(lambda d, rng: setattr(d.bbox, "size_x", float("nan"))),
    "infinite": _each(lambda d, rng: setattr(d.bbox.center.position, "x", float("inf"))),
    "outside": _each(lambda d, rng: setattr(d.bbox.center.position, "x", -1e6)),
    "negative": _each(lambda d, rng: setattr(d.bbox, "size_y", -50.0)),
    "unknown": _each(lambda d, rng: setattr(d.results[0].hypothesis, "class_id", "teapot \n\x07")),
    "no class": _each(lambda d, rng: setattr(d, "results", [])),
    "score": _each(lambda d, rng: setattr(d.results[0].hypothesis, "score", float("nan"))),
    "crowd": _crowd,
    "nothing": lambda m, rng: setattr(m, "detections", []),
}
"""Detections of which none is usable, or far too many."""

MASKS = {**IMAGE, "empty masks": lambda m, rng: _data(m, bytes(len(m.data)))}
"""A label image that tells nothing."""


FAULTS = {"camera_info": INFO, "depth": DEPTH, "masks": MASKS, "image": IMAGE, "detections": DETECTIONS}
"""The faults of each topic's messages, by name."""


def spoil(message, faults, rng):
    """Apply one fault of a table to a message; its name."""
    name = str(rng.choice(list(faults)))
    faults[name](message, rng)
    return name
