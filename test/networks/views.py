"""A render whose every point is known, for tests of the networks that take one."""

import torch

from flowpose_ros.networks.flow import RenderView

S = 128
RADIUS = 0.06


def bumpy_view(batch=2):
    """Renders of a bumpy sheet half a metre away that fills most of the crop."""
    K = torch.tensor([[440.0, 0, 63.5], [0, 440.0, 63.5], [0, 0, 1]]).expand(batch, 3, 3)
    v, u = torch.meshgrid(torch.arange(float(S)), torch.arange(float(S)), indexing="ij")
    z = 0.5 + 0.02 * torch.sin(u / 9) * torch.cos(v / 7)
    xyz = torch.stack([(u - 63.5) / 440 * z, (v - 63.5) / 440 * z, z - 0.5])
    mask = torch.zeros(S, S, dtype=torch.bool)
    mask[20:108, 20:108] = True
    T = torch.eye(4).repeat(batch, 1, 1)
    T[:, 2, 3] = 0.5
    rgb = torch.rand(batch, 3, S, S, generator=torch.Generator().manual_seed(0)) * mask
    normal = torch.zeros(batch, 3, S, S)
    normal[:, 2] = -1.0 * mask
    return RenderView(rgb, normal, (xyz * mask).expand(batch, 3, S, S), mask.expand(batch, S, S), K, T,
                      torch.zeros(batch, 3), torch.full((batch,), RADIUS))
