"""The camera pose from three points and their viewing rays: up to four answers, batched.

Derived from the pencil of conics (the family of Lambda Twist, Persson & Nordberg, ECCV 2018): the
law of cosines for each pair of rays gives three quadrics in the three distances; two homogeneous
combinations are conics, whose common points lie on the lines of a degenerate conic of their pencil.
"""

from __future__ import annotations

import torch

from flowpose_ros.geometry.transforms import make_transform

_PAIRS = ((0, 1), (0, 2), (1, 2))


def solve_p3p(points: torch.Tensor, rays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses T_cam_obj [B,4,4,4] that put points [B,3,3] on viewing rays [B,3,3], and ok [B,4] bool.

    points are in the object frame, rays in the camera frame (any length, forward). Computed in
    float64. Not ok: complex or negative distances, points on one line.
    """
    X, y = points.double(), torch.nn.functional.normalize(rays.double(), dim=-1)
    scale = (X - X.mean(1, keepdim=True)).norm(dim=-1).amax(1).clamp_min(1e-12)
    distances = _distances(X / scale[:, None, None], y) * scale[:, None, None]
    ok = torch.isfinite(distances).all(-1) & (distances > 0).all(-1)
    seen = distances[..., None] * y[:, None]
    R = _triad(seen) @ _triad(X).transpose(-1, -2)[:, None]
    t = seen.mean(-2) - (R @ X.mean(1)[:, None, :, None])[..., 0]
    T = make_transform(R, t)
    ok &= torch.isfinite(T).all((-1, -2))
    identity = torch.eye(4, dtype=T.dtype, device=T.device)
    return torch.where(ok[..., None, None], T, identity).to(points), ok


def _distances(X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Distances [B,4,3] along unit rays y [B,3,3] of points X [B,3,3]; nan where there is none."""
    M = X.new_zeros(X.shape[0], 3, 3, 3)  # one quadratic form per pair: d^T M d = squared distance
    squared = torch.stack([(X[:, i] - X[:, j]).square().sum(-1) for i, j in _PAIRS], -1)
    for form, (i, j) in enumerate(_PAIRS):
        M[:, form, i, i] = M[:, form, j, j] = 1
        M[:, form, i, j] = M[:, form, j, i] = -(y[:, i] * y[:, j]).sum(-1)
    a = squared[..., None, None]
    D1 = M[:, 0] * a[:, 2] - M[:, 2] * a[:, 0]
    D2 = M[:, 1] * a[:, 2] - M[:, 2] * a[:, 1]
    lines = _degenerate_lines(D1 + _pencil_root(D1, D2)[:, None, None] * D2)
    directions = torch.cat([_meet(lines[:, 0], D1), _meet(lines[:, 1], D1)], 1)
    # The sum of the three quadrics fixes the scale; it is positive for real triangles.
    length = torch.einsum("bki,bij,bkj->bk", directions, M.sum(1), directions)
    size = (squared.sum(-1)[:, None] / length).sqrt()
    return directions * (size * directions.sum(-1).sign())[..., None]


def _pencil_root(D1: torch.Tensor, D2: torch.Tensor) -> torch.Tensor:
    """A real g [B] with det(D1 + g D2) = 0."""
    c3, c0 = torch.linalg.det(D2), torch.linalg.det(D1)
    c2, c1 = (_adjugate(D2) * D1).sum((1, 2)), (_adjugate(D1) * D2).sum((1, 2))
    b, c, d = c2 / c3, c1 / c3, c0 / c3
    p, q = c - b * b / 3, b * (2 * b * b - 9 * c) / 27 + d
    discriminant = q * q / 4 + p ** 3 / 27
    one = discriminant > 0
    # The cube root that does not cancel; the other follows from the product of both.
    far = -q / 2 - q.sign() * discriminant.clamp_min(0).sqrt()
    far = far.sign() * far.abs().pow(1 / 3)
    single = far - p / (3 * torch.where(far == 0, torch.ones_like(far), far))
    m = 2 * (-p / 3).clamp_min(0).sqrt()
    cosine = (3 * q / (p * m).where(p * m != 0, torch.ones_like(p))).clamp(-1, 1)
    triple = m * torch.cos(torch.acos(cosine) / 3)
    g = torch.where(one, single, triple) - b / 3
    for _ in range(2):  # polish what cancellation in the closed form lost
        slope = (3 * g + 2 * b) * g + c
        g = g - torch.where(slope != 0, (((g + b) * g + c) * g + d) / slope, torch.zeros_like(g))
    return g


def _adjugate(S: torch.Tensor) -> torch.Tensor:
    """Adjugates [B,3,3] of symmetric matrices [B,3,3]."""
    r0, r1, r2 = S.unbind(1)
    return torch.stack([torch.linalg.cross(r1, r2), torch.linalg.cross(r2, r0),
                        torch.linalg.cross(r0, r1)], 1)


def _degenerate_lines(D: torch.Tensor) -> torch.Tensor:
    """The two lines [B,2,3] of degenerate conics D [B,3,3]; nan where they are complex."""
    finite = torch.isfinite(D).all((1, 2), keepdim=True)
    value, vector = torch.linalg.eigh(torch.where(finite, D, torch.zeros_like(D)))
    low = vector[..., 0] * (-value[:, :1]).sqrt()
    high = vector[..., 2] * value[:, 2:].sqrt()
    return torch.where(finite, torch.stack([high + low, high - low], 1), torch.nan)


def _meet(line: torch.Tensor, D: torch.Tensor) -> torch.Tensor:
    """The two points [B,2,3] common to lines [B,3] and conics D [B,3,3]; nan where complex."""
    # Any two different points p, q of the line: its cross products with two axes.
    axis = torch.nn.functional.one_hot(line.nan_to_num().abs().argmin(-1), 3).to(line)
    p = torch.nn.functional.normalize(torch.linalg.cross(line, axis), dim=-1)
    q = torch.nn.functional.normalize(torch.linalg.cross(line, p), dim=-1)
    Dp, Dq = (D @ p[..., None])[..., 0], (D @ q[..., None])[..., 0]
    a, b, c = (p * Dp).sum(-1), (p * Dq).sum(-1), (q * Dq).sum(-1)
    # a s^2 + 2 b s + c = 0 for p s + q; as s : 1 and as 1 : 1/s, whichever does not cancel.
    big = -(b + torch.where(b < 0, -1.0, 1.0) * (b * b - a * c).sqrt())
    return torch.stack([big[:, None] * p + a[:, None] * q, c[:, None] * p + big[:, None] * q], 1)


def _triad(corners: torch.Tensor) -> torch.Tensor:
    """Orthonormal frames [...,3,3] (columns) carried by triangles [...,3,3] (rows are corners)."""
    e1 = torch.nn.functional.normalize(corners[..., 1, :] - corners[..., 0, :], dim=-1)
    other = corners[..., 2, :] - corners[..., 0, :]
    e3 = torch.linalg.cross(e1, other)
    e3 = e3 / e3.norm(dim=-1, keepdim=True)
    return torch.stack([e1, torch.linalg.cross(e3, e1), e3], -1)
