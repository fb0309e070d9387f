"""Writes a dataset in BOP layout whose truth is known: two coloured shapes before a wall."""

import json

import cv2
import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from flowpose_ros.objects.load import load_mesh
from flowpose_ros.rendering.raycast import RaycastRenderer

SIZE = (240, 320)
K = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]])
WALL_M = 1.2
QUICK = {"coarse": "flow_vote", "vote.flowed": 6, "hypotheses": 2, "turned": 0, "updated": 1}
"""Parameters of an estimator with few hypotheses, for tests of what is around it; the scene's objects are easy."""


def bracket(seed):
    """A shape of three boxes without symmetry, each side of a colour of its own; millimetres."""
    rng = np.random.default_rng(seed)
    parts = [trimesh.creation.box(extents) for extents in ((90, 30, 25), (30, 80, 25), (25, 25, 70))]
    parts[1].apply_translation((30, 40, 0))
    parts[2].apply_translation((-35, 0, 35))
    mesh = trimesh.util.concatenate(parts)
    sides, side = np.unique(np.c_[np.arange(36) // 12, mesh.face_normals.round()], axis=0, return_inverse=True)
    colors = rng.integers(40, 220, (len(sides), 3))[side.ravel()]
    for _ in range(2):
        mesh, colors = mesh.subdivide(), np.repeat(colors, 4, axis=0)
    mesh.unmerge_vertices()
    colors = (colors + rng.integers(-25, 26, colors.shape)).astype(np.uint8)
    mesh.visual.vertex_colors = np.repeat(colors, 3, axis=0)
    return mesh


def write_scene(root, images):
    """Write models/ and test/000000/ with so many images, 240 x 320, colour, depth and masks."""
    models, scene = root / "models", root / "test" / "000000"
    for folder in (models, scene / "rgb", scene / "depth", scene / "mask_visib"):
        folder.mkdir(parents=True)
    info = {}
    for obj_id in (1, 2):
        mesh = bracket(obj_id)
        mesh.export(models / f"obj_{obj_id:06d}.ply")
        low, size = mesh.bounds[0], np.ptp(mesh.bounds, axis=0)
        info[obj_id] = {"diameter": float(load_mesh(models / f"obj_{obj_id:06d}.ply", "mm").diameter * 1e3),
                        **dict(zip(("min_x", "min_y", "min_z"), low.tolist())),
                        **dict(zip(("size_x", "size_y", "size_z"), size.tolist()))}
    (models / "models_info.json").write_text(json.dumps(info))
    _write_images(scene, [load_mesh(models / f"obj_{i:06d}.ply", "mm") for i in (1, 2)], images)


def poses(index):
    """T_cam_obj of both objects in the index-th image, metres."""
    T = np.tile(np.eye(4), (2, 1, 1))
    T[0, :3, :3] = Rotation.from_rotvec([0.6, 0.4 + 0.03 * index, 0.2]).as_matrix()
    T[1, :3, :3] = Rotation.from_rotvec([-0.5, 0.3, 1.2 + 0.03 * index]).as_matrix()
    T[0, :3, 3], T[1, :3, 3] = (-0.09 + 0.004 * index, -0.02, 0.42), (0.09, 0.0, 0.45)
    return T


def _write_images(scene, meshes, images):
    wall = np.random.default_rng(0).integers(90, 140, (6, 8, 3)).astype(np.uint8)
    wall = cv2.resize(wall, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    renderer = RaycastRenderer()
    cameras, truths, infos = {}, {}, {}
    for index in range(images):
        image, depth = wall.copy(), np.full(SIZE, WALL_M)
        masks = [_paint(renderer, mesh, T, image, depth) for mesh, T in zip(meshes, poses(index))]
        for number, mask in enumerate(masks):
            cv2.imwrite(str(scene / "mask_visib" / f"{index:06d}_{number:06d}.png"), mask.astype(np.uint8) * 255)
        cv2.imwrite(str(scene / "rgb" / f"{index:06d}.png"), image[..., ::-1])
        cv2.imwrite(str(scene / "depth" / f"{index:06d}.png"), np.round(depth * 1e4).astype(np.uint16))
        cameras[index] = {"cam_K": K.ravel().tolist(), "depth_scale": 0.1}
        truths[index] = [{"cam_R_m2c": T[:3, :3].ravel().tolist(), "cam_t_m2c": (T[:3, 3] * 1e3).tolist(),
                          "obj_id": obj_id} for obj_id, T in zip((1, 2), poses(index))]
        infos[index] = [{"bbox_visib": _box(mask), "visib_fract": 1.0} for mask in masks]
    for name, content in (("scene_camera", cameras), ("scene_gt", truths), ("scene_gt_info", infos)):
        (scene / f"{name}.json").write_text(json.dumps(content))


def _paint(renderer, mesh, T, image, depth):
    """Paint an object into image and depth; its mask. The objects do not cover each other."""
    seen = renderer.render(mesh, torch.tensor(T[None], dtype=torch.float32),
                           torch.tensor(K[None], dtype=torch.float32), SIZE)
    mask = seen.mask[0].numpy()
    image[mask] = (seen.rgb[0].permute(1, 2, 0).numpy()[mask] * 255).astype(np.uint8)
    depth[mask] = seen.depth[0].numpy()[mask]
    return mask


def _box(mask):
    rows, columns = np.nonzero(mask)
    return [int(columns.min()), int(rows.min()), int(np.ptp(columns)), int(np.ptp(rows))]
