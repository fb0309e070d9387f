"""Lamps, the sky and what a camera takes for white."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LUMENS_PER_WATT = 179.0
"""Of white light, where watts are those of Blender's lamps and radiances."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True, eq=False)
class Lamp:
    """A square lamp at position [3] that shines at the pile: side metres, power watts, color [3] linear."""

    position: np.ndarray
    side: float
    power: float
    color: np.ndarray


@dataclass(frozen=True, eq=False)
class Light:
    """All light of a scene: lamps; sky [3] linear, its mean radiance; white [3] linear, what the camera takes for
    white."""

    lamps: tuple[Lamp, ...]
    sky: np.ndarray
    white: np.ndarray


def draw_light(rng: np.random.Generator) -> Light:
    """A room's light: a key lamp of 300 to 1200 lux at the pile, up to two weaker ones, a sky of 80 to 400 lux."""
    lux, kelvin = rng.uniform(300, 1200), rng.uniform(2800, 6500)
    lamps = [_lamp(lux, kelvin, rng)]
    lamps += [_lamp(lux * rng.uniform(0.1, 0.5), kelvin * rng.uniform(0.85, 1.3), rng) for _ in range(rng.integers(3))]
    radiance = rng.uniform(80, 400) / LUMENS_PER_WATT / np.pi
    # A camera's white balance finds the key lamp's white, not quite.
    return Light(tuple(lamps), radiance * temperature_color(rng.uniform(4000, 9000)),
                 temperature_color(kelvin * rng.uniform(0.95, 1.25)))


def _lamp(lux: float, kelvin: float, rng: np.random.Generator) -> Lamp:
    azimuth, elevation, distance = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 85)), rng.uniform(1.4, 2.4)
    toward = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    # A flat lamp of Lambert's law lights what faces it at a distance d with power / (pi d^2).
    power = lux / LUMENS_PER_WATT * np.pi * distance**2
    return Lamp(distance * toward, rng.uniform(0.15, 1.0), power, temperature_color(kelvin))


def temperature_color(kelvin: float) -> np.ndarray:
    """Linear sRGB [3] of a black body between 1667 and 25000 K, luminance 1 (Kim et al. 2002's cubic locus)."""
    t = 1000.0 / kelvin
    x = (np.polyval([-0.2661239, -0.2343589, 0.8776956, 0.179910], t) if kelvin < 4000
         else np.polyval([-3.0258469, 2.1070379, 0.2226347, 0.240390], t))
    y = np.polyval([-1.1063814, -1.34811020, 2.18555832, -0.20219683] if kelvin < 2222 else
                   [-0.9549476, -1.37418593, 2.09137015, -0.16748867] if kelvin < 4000 else
                   [3.0817580, -5.87338670, 3.75112997, -0.37001483], x)
    XYZ = np.array([x / y, 1.0, (1 - x - y) / y])
    rgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]) @ XYZ
    rgb = rgb.clip(0)
    return rgb / (LUMINANCE @ rgb)
