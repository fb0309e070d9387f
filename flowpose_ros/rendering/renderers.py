"""Which renderer a device gets."""

from __future__ import annotations

import torch

from flowpose_ros.rendering.raster import RasterRenderer
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.renderer import Renderer


def renderer_for(device: torch.device) -> Renderer:
    """A renderer for one thread: ray casting on a CPU, where it is faster; rasterising on a GPU, where views stay."""
    return RaycastRenderer() if device.type == "cpu" else RasterRenderer(device)
