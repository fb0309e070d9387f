"""Where posed objects are in an image."""

from __future__ import annotations

import numpy as np
import torch

from flowpose_ros.geometry.camera import box_around, project
from flowpose_ros.geometry.transforms import transform_points
from flowpose_ros.objects.catalogue import Catalogue

POINTS = 500
"""Points of an object's surface that its box is drawn around."""


class Boxes:
    """Boxes of catalogue objects. Their points are drawn once and kept on the host: to copy them from a GPU is to wait
    for what other threads have it do."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._points: dict[str, torch.Tensor] = {}

    def of(self, label: str, T_cam_obj: np.ndarray, K: np.ndarray) -> np.ndarray:
        """Box [4] (left, top, right, bottom) in pixels of an object posed at T_cam_obj [4,4] under K [3,3]."""
        if label not in self._points:
            self._points[label] = torch.from_numpy(self._catalogue[label].mesh.surface_points(POINTS)).double()
        seen = transform_points(torch.from_numpy(T_cam_obj)[None], self._points[label])
        return box_around(project(seen, torch.from_numpy(np.asarray(K, dtype=np.float64))))[0].numpy()
