"""Rigid fits the slow way: numpy, one pair and one triangle at a time."""

import itertools

import numpy as np


def kabsch(source, target, weight):
    """R, t that minimise sum w |R s + t - q|^2, by Horn's quaternion (another way than the SVD)."""
    mean_s = sum(w * s for w, s in zip(weight, source)) / sum(weight)
    mean_q = sum(w * q for w, q in zip(weight, target)) / sum(weight)
    S = sum(w * np.outer(s - mean_s, q - mean_q) for w, s, q in zip(weight, source, target))
    skew = [S[1, 2] - S[2, 1], S[2, 0] - S[0, 2], S[0, 1] - S[1, 0]]
    N = np.zeros((4, 4))
    N[0, 0], N[0, 1:], N[1:, 0] = np.trace(S), skew, skew
    N[1:, 1:] = S + S.T - np.trace(S) * np.eye(3)
    w, x, y, z = np.linalg.eigh(N)[1][:, -1]
    W = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    R = np.eye(3) + 2 * w * W + 2 * W @ W
    return R, mean_q - R @ mean_s


def distances(R, t, source, target):
    """|R s + t - q| of each pair."""
    return np.array([np.linalg.norm(R @ s + t - q) for s, q in zip(source, target)])


def best_triangle(source, target, threshold):
    """R, t and inliers of the triangle with most inliers, of all triangles there are."""
    best = (None, None, np.zeros(len(source), bool))
    for corners in itertools.combinations(range(len(source)), 3):
        R, t = kabsch(source[list(corners)], target[list(corners)], np.ones(3))
        inlier = distances(R, t, source, target) < threshold
        if inlier.sum() > best[2].sum():
            best = (R, t, inlier)
    return best
