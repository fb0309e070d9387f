"""Weighted PnP the slow way: numpy Gauss-Newton with a Jacobian by finite differences."""

import numpy as np


def rotation(w):
    """Rodrigues' formula for one rotation vector."""
    angle = np.linalg.norm(w)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = w / angle
    W = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * W + (1 - np.cos(angle)) * W @ W


def residuals(R, t, points, target, weight, K):
    """Weighted pixel errors, point by point."""
    out = []
    for X, uv, w in zip(points, target, weight):
        h = K @ (R @ X + t)
        out += list(w * (h[:2] / h[2] - uv))
    return np.array(out)


def solve(R, t, points, target, weight, K, steps=20):
    """The minimum near (R, t)."""
    for _ in range(steps):
        r = residuals(R, t, points, target, weight, K)
        J = np.empty((len(r), 6))
        for i, e in enumerate(1e-6 * np.eye(6)):
            ahead = residuals(rotation(e[3:]) @ R, t + e[:3], points, target, weight, K)
            behind = residuals(rotation(-e[3:]) @ R, t - e[:3], points, target, weight, K)
            J[:, i] = (ahead - behind) / 2e-6
        step = -np.linalg.lstsq(J, r, rcond=None)[0]
        R, t = rotation(step[3:]) @ R, t + step[:3]
    return R, t
