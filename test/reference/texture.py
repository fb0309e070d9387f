"""A texture look-up, one point at a time, from its definition."""

import numpy as np


def sample(texture, u, v):
    """Colour [3] in [0,1] of a repeating texture [h,w,3] uint8 at (u, v), v upward: the four texels
    around the point weighted by how near their centres are."""
    h, w = texture.shape[:2]
    x, y = u * w, (1 - v) * h
    color = np.zeros(3)
    for row in range(int(np.floor(y)) - 2, int(np.floor(y)) + 3):
        for column in range(int(np.floor(x)) - 2, int(np.floor(x)) + 3):
            near = max(0, 1 - abs(column + 0.5 - x)) * max(0, 1 - abs(row + 0.5 - y))
            color += near * texture[row % h, column % w] / 255
    return color
