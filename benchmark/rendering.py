"""Milliseconds per view of the renderers, and how many times slower than ray casting OpenGL and rasterising in torch
are, measured in one run.

    python benchmark/rendering.py
    python benchmark/rendering.py path/to/mesh.ply --unit mm --pixels 160
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flowpose_ros.errors import FlowposeError  # noqa: E402
from flowpose_ros.geometry.rotations import super_fibonacci  # noqa: E402
from flowpose_ros.objects.load import load_mesh  # noqa: E402
from flowpose_ros.objects.mesh import Mesh  # noqa: E402
from flowpose_ros.rendering.opengl import OpenglRenderer  # noqa: E402
from flowpose_ros.rendering.raster import RasterRenderer  # noqa: E402
from flowpose_ros.rendering.raycast import RaycastRenderer  # noqa: E402
from flowpose_ros.rendering.templates import view_cameras  # noqa: E402

FACES = (1_000, 16_000, 50_000)
BATCHES = (1, 5, 16)


def textured_sphere(faces: int) -> Mesh:
    """A dented sphere of about that many faces, under a 512 pixel texture."""
    steps = round((faces / 2) ** 0.5)
    u, v = np.meshgrid(np.linspace(0, 1, steps + 1), np.linspace(0, 1, steps + 1))
    around, down = 2 * np.pi * u, np.pi * v
    radius = 0.05 * (1 + 0.1 * np.sin(7 * around) * np.sin(5 * down))
    direction = np.stack([np.sin(down) * np.cos(around), np.sin(down) * np.sin(around), np.cos(down)], -1)
    i = np.arange((steps + 1) ** 2, dtype=np.int32).reshape(steps + 1, steps + 1)
    a, b, c, d = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, 1:].ravel(), i[1:, :-1].ravel()
    corners = np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)])
    texture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    return Mesh((radius[..., None] * direction).reshape(-1, 3).astype(np.float32), corners,
                np.ones((len(corners), 3, 3), np.float32),
                np.stack([u, v], -1).reshape(-1, 2).astype(np.float32)[corners],
                np.zeros(len(corners), np.int16), (texture,))


def side_by_side(tasks: list[Callable[[], object]], rounds: int) -> list[float]:
    """Least seconds of each task; they take turns, so that a busy machine slows all alike."""
    least = [float("inf")] * len(tasks)
    for task in tasks:
        task()
    for turn in range(rounds):
        for i in np.roll(np.arange(len(tasks)), turn):
            start = time.perf_counter()
            tasks[i]()
            least[i] = min(least[i], time.perf_counter() - start)
    return least


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, help="a mesh file; spheres of several sizes if left out")
    parser.add_argument("--unit", default="m", help="of the mesh file (default: m)")
    parser.add_argument("--pixels", type=int, default=128, help="side of a view (default: 128)")
    parser.add_argument("--rounds", type=int, default=15, help="the best of so many timings is shown (default: 15)")
    args = parser.parse_args()
    try:
        meshes = [load_mesh(args.mesh, args.unit)] if args.mesh else [textured_sphere(n) for n in FACES]
        renderers = [RaycastRenderer(), OpenglRenderer(), RasterRenderer()]
    except FlowposeError as error:
        print(f"rendering: {error}", file=sys.stderr)
        return 2
    print(f"ms per view of {args.pixels} x {args.pixels} pixels, best of {args.rounds}, "
          f"{len(os.sched_getaffinity(0))} CPU cores")
    print(f"{'faces':>8} {'batch':>6} {'raycast':>9} {'pyrender':>9} {'ratio':>7} {'torch':>9} {'ratio':>7}")
    for mesh in meshes:
        for batch in BATCHES:
            T_crop_obj, K = view_cameras(mesh, super_fibonacci(batch), args.pixels)
            tasks = [lambda r=r: r.render(mesh, T_crop_obj, K, (args.pixels, args.pixels)) for r in renderers]
            cast, drawn, torched = (1000 * s / batch for s in side_by_side(tasks, args.rounds))
            print(f"{len(mesh.faces):8d} {batch:6d} {cast:9.2f} {drawn:9.2f} {drawn / cast:6.2f}x "
                  f"{torched:9.2f} {torched / cast:6.2f}x", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
