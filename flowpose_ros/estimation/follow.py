"""Following poses from one image to the next: all objects of a frame at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from flowpose_ros.estimation.batches import in_parts, join, mapped, take
from flowpose_ros.estimation.depth import DepthOptions
from flowpose_ros.estimation.look import Target
from flowpose_ros.estimation.moved import FollowOptions, Moved, crops_of, finer_wanted, moved
from flowpose_ros.estimation.networks import CROP_SIZE, Networks
from flowpose_ros.estimation.recorded import Recorded
from flowpose_ros.estimation.select import rigid, symmetric
from flowpose_ros.estimation.settle import FINE_PADDING, FINE_SIZE
from flowpose_ros.estimation.views import Shapes, Views
from flowpose_ros.geometry.camera import samples_per_side
from flowpose_ros.geometry.crops import PADDING
from flowpose_ros.rendering.renderer import render_each


@dataclass(frozen=True)
class Followed:
    """A pose in the next frame.

    T_cam_obj [4,4] float64 metres; quality in [0,1]: the share of the object that the frame confirms;
    covariance [6,6] of (translation, rotation vector), camera axes.
    """

    T_cam_obj: np.ndarray
    quality: float
    covariance: np.ndarray


class Follower:
    """Carries poses from frame to frame. Several threads may share one."""

    def __init__(self, networks: Networks) -> None:
        self._stretch = networks.pose_score.stretch.tolist()
        # No method of its own: what refers to itself is freed late.
        self._cropped, self._moved = Recorded(crops_of), Recorded(partial(moved, networks))

    @torch.no_grad()
    def follow(self, targets: Sequence[Target], T_cam_obj: Sequence[np.ndarray], options: FollowOptions,
               depth_options: DepthOptions) -> list[Followed]:
        """Where the objects of one frame are, from poses T_cam_obj [4,4] near them; one result for each target."""
        found = self._found(targets, T_cam_obj, options, depth_options)
        # So a track outlives a sudden motion, which has no velocity yet.
        doubted = [i for i, each in enumerate(found) if each.quality < options.again_below]
        again = self._found([targets[i] for i in doubted], [found[i].T_cam_obj for i in doubted], options, depth_options)
        for i, each in zip(doubted, again):
            found[i] = max(found[i], each, key=lambda one: one.quality)
        return found

    def _found(self, targets: Sequence[Target], T_cam_obj: Sequence[np.ndarray], options: FollowOptions,
               depth_options: DepthOptions) -> list[Followed]:
        """What one look at the frame gives."""
        if not targets:
            return []
        # A start near the end needs less than a first pose does.
        depth_options = replace(depth_options, icp_iterations=options.icp_iterations, icp_points=options.icp_points)
        shapes, start = Shapes.of([target.shape for target in targets]), torch.from_numpy(np.stack(T_cam_obj))
        frame, renderer = targets[0].frame, targets[0].renderer

        def views(part: torch.Tensor, T_cam_obj: torch.Tensor, size: int, padding: float) -> Views:
            meshes = [targets[i].shape.model.mesh for i in part.tolist()]
            camera, T_crop_obj = self._cropped((take(shapes.points, part), T_cam_obj), size, padding)
            return Views(camera, T_crop_obj, render_each(renderer, meshes, T_crop_obj, camera.K, (size, size)))

        def carried(part: torch.Tensor) -> Moved:
            def look(seen: Views, those: Shapes, before: Moved | None) -> Moved:
                return self._moved((frame, seen, those, before), options, depth_options,
                                   samples_per_side(seen.camera, frame.K))

            those = take(shapes, part)
            wide = views(part, start[part].to(those.points), CROP_SIZE, PADDING)
            there = look(wide, those, None)
            finer = finer_wanted(wide, those, frame.depth is not None, options)
            if not len(finer):
                return there
            near = take(there, finer)
            fine = look(views(part[finer], near.for_finer, FINE_SIZE, FINE_PADDING), take(those, finer), near)
            latest = torch.arange(len(part))
            latest[finer] = len(part) + torch.arange(len(finer))
            return take(join([there, fine]), latest)

        there = mapped(lambda x: x.double().cpu(), in_parts(carried, torch.arange(len(targets)), len(targets)))
        stretch = self._stretch[int(frame.depth is not None)]
        free = [target.shape.model.symmetries.free_covariance(T) for target, T in zip(targets, start.double()[:, None])]
        covariance = stretch * there.residual + torch.cat(free)
        return [Followed(rigid(T), quality, symmetric(C))
                for T, quality, C in zip(there.T_cam_obj.numpy(), there.quality.tolist(), covariance.numpy())]
