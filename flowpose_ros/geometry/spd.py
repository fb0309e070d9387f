"""Small symmetric positive definite systems in closed form: no solver library, so nothing that a GPU waits for."""

from __future__ import annotations

import torch


def inverse_spd6(H: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverse [B,6,6] of symmetric matrices [B,6,6], and whether [B] each is positive definite.

    By 3x3 blocks (Schur complement) in double precision; the inverse of one that is not positive definite means
    nothing, but is finite where the matrix is.
    """
    wide = H.double()
    A, B, C = wide[:, :3, :3], wide[:, :3, 3:], wide[:, 3:, 3:]
    A_inverse, A_positive = _inverse_3(A)
    Y = A_inverse @ B
    S_inverse, S_positive = _inverse_3(C - B.transpose(1, 2) @ Y)
    corner = -Y @ S_inverse
    top = torch.cat([A_inverse - corner @ Y.transpose(1, 2), corner], 2)
    inverse = torch.cat([top, torch.cat([corner.transpose(1, 2), S_inverse], 2)], 1)
    return inverse.to(H.dtype), A_positive & S_positive


def _inverse_3(M: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inverse [B,3,3] by cross products, and whether the three invariants, so all eigenvalues, are positive."""
    a, b, c = M.unbind(-1)
    adjugate = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 1)
    determinant = (a * adjugate[:, 0]).sum(1)
    traces = (x.diagonal(dim1=1, dim2=2).sum(1) for x in (M, adjugate))
    positive = torch.stack([*traces, determinant]).amin(0) > 0
    return adjugate / torch.where(positive, determinant, 1.0)[:, None, None], positive
