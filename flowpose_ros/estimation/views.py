"""Renders of hypotheses and the query crops that belong to them: what every later stage looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from flowpose_ros.geometry.camera import CropCamera, depth_to_crop, sample_crop
from flowpose_ros.geometry.crops import PADDING, crop_for_poses
from flowpose_ros.networks.flow import RenderView
from flowpose_ros.objects.catalogue import ObjectModel
from flowpose_ros.records import Frame
from flowpose_ros.rendering.renderer import Renderer, Rendering

FARTHEST = 1000.0
"""Metres; what a depth image says beyond is noise, whose squares may be no numbers any more."""


@dataclass(frozen=True)
class FrameTensors:
    """A frame on the device: image [3,H,W] in [0,1], depth [H,W] metres or None, K [3,3]."""

    image: torch.Tensor
    depth: torch.Tensor | None
    K: torch.Tensor

    @staticmethod
    def of(frame: Frame, use_depth: bool, device: torch.device) -> FrameTensors:
        """The tensors of a frame; depth only if asked for and valid somewhere, 0 where it is not up to FARTHEST."""
        image = torch.from_numpy(np.ascontiguousarray(frame.image)).to(device).permute(2, 0, 1).float() / 255
        depth = None
        if use_depth and frame.depth is not None:
            depth = torch.from_numpy(np.ascontiguousarray(frame.depth, dtype=np.float32)).to(device)
            depth = torch.where((depth > 0) & (depth < FARTHEST), depth, 0.0)
            depth = depth if depth.any() else None
        return FrameTensors(image, depth, torch.from_numpy(np.asarray(frame.K)).float().to(device))

    def crop(self, camera: CropCamera, per_side: int | None = None) -> torch.Tensor:
        """Colour crops [B,3,S,S]; per_side: samples of a pixel (see `sample_crop`). The image's border goes on outside of it:
        black there looks like the edge of an object that the image cuts off."""
        return sample_crop(self.image, camera, self.K, per_side=per_side, outside="border")

    def depth_crop(self, camera: CropCamera) -> torch.Tensor | None:
        """Depth crops [B,S,S] along the crops' own axes, or None."""
        return None if self.depth is None else depth_to_crop(self.depth, camera, self.K)


@dataclass(frozen=True)
class Shape:
    """What the stages need of an object, on the device: points [N,3], center [3], metres."""

    model: ObjectModel
    points: torch.Tensor
    center: torch.Tensor
    radius: float
    diameter: float

    @staticmethod
    def of(model: ObjectModel, device: torch.device) -> Shape:
        """The tensors of an object."""
        mesh = model.mesh
        return Shape(model, torch.from_numpy(mesh.surface_points(500)).to(device),
                     torch.from_numpy(mesh.center).float().to(device), mesh.radius, mesh.diameter)


@dataclass(frozen=True)
class Shapes:
    """B objects, each with a pose of its own: as `Shape`, points [B,N,3], center [B,3], radius, diameter [B]."""

    points: torch.Tensor
    center: torch.Tensor
    radius: torch.Tensor
    diameter: torch.Tensor

    @staticmethod
    def of(shapes: Sequence[Shape]) -> Shapes:
        """Several objects together."""
        points, center = (torch.stack([getattr(shape, name) for shape in shapes]) for name in ("points", "center"))
        radius, diameter = center.new_tensor([(shape.radius, shape.diameter) for shape in shapes]).unbind(1)
        return Shapes(points, center, radius, diameter)


@dataclass(frozen=True)
class Views:
    """B hypotheses rendered in their own crops: camera, T_crop_obj [B,4,4], rendering."""

    camera: CropCamera
    T_crop_obj: torch.Tensor
    rendering: Rendering

    @staticmethod
    def render(shape: Shape, T_cam_obj: torch.Tensor, renderer: Renderer, size: int, padding: float = PADDING) -> Views:
        """Crop around and render poses T_cam_obj [B,4,4]."""
        camera = crop_for_poses(shape.points, T_cam_obj, size, padding)
        T_crop_obj = camera.to_crop(T_cam_obj)
        rendering = renderer.render(shape.model.mesh, T_crop_obj, camera.K, (size, size))
        return Views(camera, T_crop_obj, rendering)

    def network_view(self, shape: Shape | Shapes) -> RenderView:
        """The same views as the flow network takes them."""
        B, r = len(self.T_crop_obj), self.rendering
        return RenderView(r.rgb, r.normal, r.xyz, r.mask, self.camera.K, self.T_crop_obj,
                          shape.center.expand(B, 3), shape.center.new_ones(B) * shape.radius)


def sane(T_crop: torch.Tensor, views: Views, shape: Shape | Shapes) -> torch.Tensor:
    """Poses [B,4,4] where they are finite and the object is wholly in front of the camera, with a twentieth of its radius to
    spare; the rendered ones elsewhere."""
    z = (T_crop[:, 2, :3] * shape.center).sum(1) + T_crop[:, 2, 3]
    good = torch.isfinite(T_crop).all(-1).all(-1) & (z > 1.05 * shape.radius)
    return torch.where(good[:, None, None], T_crop, views.T_crop_obj)
