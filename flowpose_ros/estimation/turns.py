"""Other poses in which an object's shape looks the same: print and colour alone tell them from the truth.

Templates are too coarse to see a label on the far side, so that all hypotheses may agree on the wrong one; the turns of
the best pose are therefore looked at as well.
"""

from __future__ import annotations

import numpy as np
import torch

from flowpose_ros.geometry.rotations import angles_between
from flowpose_ros.objects.catalogue import ObjectModel
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.symmetry_hints import symmetry_hints

STEP = np.pi / 8
"""Turns about an axis of revolution are twice this far apart: matching finds the rest of the way."""
SAME = np.radians(10)
"""A turn this near to a symmetry that the object's looks have shows nothing new."""
TOLERANCES = {0.85: 0.03}
"""Share of surface points -> how far they may miss the surface, in diameters: wide, as a turn too many costs only time."""
MOST = 24


def shape_turns(model: ObjectModel, renderer: RaycastRenderer) -> torch.Tensor:
    """Motions [n,4,4] of the object that keep its shape but not its looks, in the object's frame, metres; at most
    MOST."""
    motions = symmetry_hints(model.mesh, renderer, TOLERANCES).transforms(STEP)
    kept = [motions[0]]
    # Products as well: half a turn about one axis and a quarter about another make a third.
    for S in (motions[:, None] @ motions).reshape(-1, 4, 4):
        # How far the nearest pose that looks the same is from one that is already there.
        same = [angles_between(model.symmetries.nearest(S, K)[None, :3, :3], K[None, :3, :3])[0, 0] for K in kept]
        if min(same) > SAME:
            kept.append(S)
        if len(kept) > MOST:
            break
    return torch.from_numpy(np.array(kept[1:])).float().reshape(-1, 4, 4)
