"""The look-up of a correlation volume, one sample at a time."""

import math


def sample_window(volume, centre, radius):
    """volume [N,H,W], centre [N,2] (x, y) lists of floats -> [N][(2r+1)^2] in row order."""
    found = []
    for image, (cx, cy) in zip(volume, centre):
        window = [bilinear(image, cx + dx, cy + dy)
                  for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1)]
        found.append(window)
    return found


def bilinear(image, x, y):
    """image [H][W] at (x, y); 0 outside."""
    total = 0.0
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < len(image) and 0 <= j < len(image[0]):
                total += float(image[i][j]) * (1 - abs(y - i)) * (1 - abs(x - j))
    return total
