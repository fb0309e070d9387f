"""Slow, obvious twin of training.targets: one render pixel at a time."""

import numpy as np

from training.targets import depth_tolerance


def flow_and_visibility(xyz, normal, mask, depth_true, T_init, T_gt, K, diameter):
    """Flow [2,S,S] and visible [S,S] of training.targets.flow_target, by loops."""
    size = mask.shape[0]
    flow, visible = np.zeros((2, size, size)), np.zeros((size, size), bool)
    for v in range(size):
        for u in range(size):
            if not mask[v, u]:
                continue
            x, y, z = T_gt[:3, :3] @ xyz[:, v, u] + T_gt[:3, 3]
            u_gt = K[0, 0] * x / z + K[0, 2]
            v_gt = K[1, 1] * y / z + K[1, 2]
            flow[:, v, u] = u_gt - u, v_gt - v
            in_picture = -0.5 < u_gt < size - 0.5 and -0.5 < v_gt < size - 0.5
            normal_obj = T_init[:3, :3].T @ normal[:, v, u]
            faces_camera = (T_gt[:3, :3] @ normal_obj) @ [x, y, z] < 0
            seen = any(abs(depth_true[j, i] - z) < depth_tolerance(diameter)
                       for i in (int(np.floor(u_gt)), int(np.floor(u_gt)) + 1)
                       for j in (int(np.floor(v_gt)), int(np.floor(v_gt)) + 1)
                       if 0 <= i < size and 0 <= j < size)
            visible[v, u] = in_picture and faces_camera and seen
    return flow, visible
