"""Things fall and come to rest, by Blender's rigid body physics."""

from __future__ import annotations

import numpy as np
import torch

from flowpose_ros.geometry.transforms import nearest_rotation
from training.photoreal.blender import empty_scene, load_bpy
from training.photoreal.compose import Scene, at_rest

FRAMES = 240
"""Ten seconds."""
DENSITY = 400.0
"""kg per cubic metre of a thing's convex hull."""


def settle(scene: Scene) -> Scene:
    """The scene after everything has fallen; what left the table or bin is taken away.

    Things touch each other and the room with their convex hulls.
    """
    bpy, stage = load_bpy(), empty_scene()
    bpy.ops.rigidbody.world_add()
    world = stage.rigidbody_world
    world.collection = bpy.data.collections.new("bodies")
    world.substeps_per_frame, world.solver_iterations, world.point_cache.frame_end = 20, 20, FRAMES
    for slab in scene.room.slabs:
        middle = (slab.low + slab.high) / 2
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        _body(stage, signs * (slab.high - slab.low) / 2, middle, None)
    bodies = []
    for item in scene.placed:
        center, T = item.thing.mesh.center, item.T_world_obj
        body = _body(stage, item.thing.hull_points - center, T[:3, :3] @ center + T[:3, 3], T[:3, :3])
        body.rigid_body.mass = max(DENSITY * item.thing.hull.volume, 0.02)
        bodies.append(body)
    for frame in range(1, FRAMES + 1):
        stage.frame_set(frame)
    return at_rest(scene, [_pose(body, item.thing.mesh.center) for body, item in zip(bodies, scene.placed)])


def _body(stage, points: np.ndarray, middle: np.ndarray, R: np.ndarray | None):
    """A rigid body: the convex hull of points [N,3] about the middle [3]; it stands still unless R [3,3] turns it."""
    import bpy
    from mathutils import Matrix

    hull = bpy.data.meshes.new("hull")
    hull.from_pydata(points.tolist(), [], [])
    body = bpy.data.objects.new("body", hull)
    body.rotation_mode = "QUATERNION"
    body.location = middle
    if R is not None:
        body.rotation_quaternion = Matrix(R.tolist()).to_quaternion()
    stage.rigidbody_world.collection.objects.link(body)
    stage.collection.objects.link(body)
    rigid = body.rigid_body
    rigid.type = "PASSIVE" if R is None else "ACTIVE"
    rigid.collision_shape, rigid.use_margin, rigid.collision_margin = "CONVEX_HULL", True, 0.0005
    rigid.friction, rigid.restitution = 0.6, 0.05
    rigid.linear_damping, rigid.angular_damping = 0.1, 0.3
    return body


def _pose(body, center: np.ndarray) -> np.ndarray:
    """T_world_obj [4,4] of a body whose mesh was moved by -center."""
    T = np.array(body.matrix_world, dtype=np.float64)
    T[:3, :3] = nearest_rotation(torch.from_numpy(T[:3, :3])).numpy()
    T[:3, 3] -= T[:3, :3] @ center
    return T
