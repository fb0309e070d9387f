"""An object that is sought in a frame, and what a look at poses of it shows: what every stage works on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowpose_ros.estimation.batches import in_parts, take
from flowpose_ros.estimation.networks import CROP_SIZE, Networks
from flowpose_ros.estimation.views import FrameTensors, Shape, Views
from flowpose_ros.geometry.crops import PADDING
from flowpose_ros.networks.encoder import Features
from flowpose_ros.rendering.renderer import Renderer


@dataclass(frozen=True)
class Look:
    """B poses rendered, and what the frame shows in the same crops.

    T_cam_obj [B,4,4]; picture [B,3,S,S]; depth [B,S,S] metres along the crops' axes, or None;
    query, source: features of the picture and of the rendering.
    """

    T_cam_obj: torch.Tensor
    views: Views
    picture: torch.Tensor
    depth: torch.Tensor | None
    query: Features
    source: Features

    def take(self, index: torch.Tensor) -> Look:
        """The look at some of its poses, index [M]."""
        return take(self, index)


@dataclass(frozen=True)
class Target:
    """An object that is sought in a frame, with what is needed to look at poses of it.

    box: the detection's [4], pixels; None where the object is not sought in one.
    """

    frame: FrameTensors
    shape: Shape
    networks: Networks
    renderer: Renderer
    box: torch.Tensor | None = None

    def render(self, T_cam_obj: torch.Tensor, size: int = CROP_SIZE, padding: float = PADDING) -> Views:
        """Poses T_cam_obj [B,4,4] rendered in crops of that size, with that much room (see `crop_for_poses`)."""
        return Views.render(self.shape, T_cam_obj, self.renderer, size, padding)

    @torch.no_grad()
    def look(self, T_cam_obj: torch.Tensor) -> Look:
        """Render poses T_cam_obj [B,4,4], crop the frame likewise, and encode both."""
        return in_parts(lambda part: self._look(part, self.render(part)), T_cam_obj, len(T_cam_obj))

    def _look(self, T_cam_obj: torch.Tensor, views: Views) -> Look:
        picture = self.frame.crop(views.camera)
        query, source = (self.networks.flow.encode(rgb) for rgb in (picture, views.rendering.rgb))
        return Look(T_cam_obj, views, picture, self.frame.depth_crop(views.camera), query, source)
