"""RefPose's relative pose estimator, learned: from what the query shows and what the render shows to the pose between.

RefPose names such a head without its layers; these are ours, an alternative to the solver.
"""

from __future__ import annotations

import torch
from torch import nn

from flowpose_ros.geometry.pnp import from_transform, to_transform
from flowpose_ros.networks.encoder import convolutions, make_norm
from flowpose_ros.networks.flow import RenderView

WIDTH = 64
GRID = 4
"""The convolutions' answer is averaged to so many cells a side, so that crops of any size can be read."""
TRANSLATION_UNIT = 0.1
"""What an output of 1 moves: sideways as a share of the crop, in depth as a logarithm; about the papers' noise."""


class PoseHead(nn.Module):
    """Geometry of query and render -> the pose that leads from one to the other (DeepIM's parameters)."""

    def __init__(self, channels: int, *, bfloat16: bool = True) -> None:
        """channels: of one image's geometry and its mask."""
        super().__init__()
        self.bfloat16 = bfloat16
        layers = []
        for width in (2 * channels, WIDTH, WIDTH):
            layers += [nn.Conv2d(width, WIDTH, 3, 2, 1), make_norm("group", WIDTH), nn.ReLU(inplace=True)]
        self.look = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(GRID), nn.Flatten())
        self.tell = nn.Sequential(nn.Linear(WIDTH * GRID ** 2, 1024), nn.ReLU(inplace=True),
                                  nn.Linear(1024, 256), nn.ReLU(inplace=True), nn.Linear(256, 9))
        nn.init.zeros_(self.tell[-1].weight)
        nn.init.zeros_(self.tell[-1].bias)

    def forward(self, query: torch.Tensor, source: torch.Tensor, view: RenderView) -> torch.Tensor:
        """T_crop_obj [B,4,4] of the query; the render's own where that shows nothing.

        query, source [B,C,h,w]: geometry that the query and the render show in the same cells, and their masks, 0 where
        there is no object.
        """
        with convolutions(query, self.bfloat16):
            looked = self.look(torch.cat([query, source], 1))
        rendered = view.mask.flatten(1).any(1)[:, None]
        return moved_pose(view, self.tell(looked.float()) * rendered)


def moved_pose(view: RenderView, parameters: torch.Tensor) -> torch.Tensor:
    """T_crop_obj [B,4,4] of a view, moved by parameters [B,9]; zeros leave it.

    The first six are two columns of a rotation in the camera's axes about the object's centre, less those of none (Zhou
    et al. 2019); the others, in units of TRANSLATION_UNIT, how far the centre moves in the picture, in crops, and the
    logarithm of its depth's ratio (DeepIM 3.2). So they mean the same for objects and focal lengths of any size.
    """
    R, t = from_transform(view.T_crop_obj, view.center, view.radius)
    x, y, z = t.unbind(1)
    u, v, log_ratio = (TRANSLATION_UNIT * parameters[:, 6:]).unbind(1)
    size, ratio = view.mask.shape[-1], torch.exp(log_ratio)
    x, y = (ratio * (side + z * size * shift / focal)
            for side, shift, focal in ((x, u, view.K[:, 0, 0]), (y, v, view.K[:, 1, 1])))
    return to_transform(rotation_of(parameters[:, :6]) @ R, torch.stack([x, y, ratio * z], 1), view.center, view.radius)


def rotation_of(parameters: torch.Tensor) -> torch.Tensor:
    """Rotations [B,3,3] whose first two columns are the identity's plus parameters [B,6], made orthonormal in order."""
    identity = torch.eye(3, device=parameters.device)
    first = torch.nn.functional.normalize(parameters[:, :3] + identity[0], dim=1)
    second = parameters[:, 3:] + identity[1]
    second = torch.nn.functional.normalize(second - (first * second).sum(1, keepdim=True) * first, dim=1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], 2)
