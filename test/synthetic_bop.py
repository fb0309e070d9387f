"""A tiny BOP dataset whose every number is known: a box and a can before a wall."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
import trimesh

from flowpose_ros.evaluation.results import ResultRow, write_results
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.geometry.transforms import exp_so3
from flowpose_ros.objects.load import load_mesh
from flowpose_ros.rendering.raycast import RaycastRenderer

BOX, CAN = 3, 7
WALL = 1.5
CAN_AXIS = {"axis": [0, 0, 1], "offset": [0, 0, 0]}


def pose(rotation_vector, translation):
    """T_cam_obj [4,4] of a rotation vector in radians and metres."""
    T = np.eye(4)
    T[:3, :3] = exp_so3(torch.tensor(rotation_vector, dtype=torch.float64)).numpy()
    T[:3, 3] = translation
    return T


# The second box stands apart from the first, the can hides a part of nothing.
POSES = {0: [(BOX, pose((0, 0, 0), (-0.12, 0.0, 0.7))), (CAN, pose((1.2, 0.3, 0.0), (0.1, 0.03, 0.6)))],
         4: [(BOX, pose((0.4, -0.5, 0.2), (0.1, 0.0, 0.8))), (BOX, pose((-0.3, 0.6, 1.0), (-0.12, 0.02, 0.7)))]}


def write_models(folder: Path) -> None:
    """Meshes in millimetres with models_info.json."""
    folder.mkdir(parents=True)
    box = trimesh.creation.box((80, 60, 40))
    can = trimesh.creation.cylinder(30, 90, sections=64)
    for obj_id, mesh, color in ((BOX, box, (200, 60, 40, 255)), (CAN, can, (60, 90, 200, 255))):
        mesh.visual.vertex_colors = np.tile(color, (len(mesh.vertices), 1))
        mesh.export(folder / f"obj_{obj_id:06d}.ply")
    info = {str(BOX): {"diameter": float(np.linalg.norm((80, 60, 40)))},
            str(CAN): {"diameter": float(np.hypot(60, 90)), "symmetries_continuous": [CAN_AXIS]}}
    (folder / "models_info.json").write_text(json.dumps(info))


def write_dataset(root: Path, width: int = 320, height: int = 240, focal: float = 300.0, info: bool = True,
                  masks: bool = False) -> Path:
    """The dataset with one scene; depth in tenths of a millimetre; returns root."""
    write_models(root / "models")
    meshes = {obj_id: load_mesh(root / "models" / f"obj_{obj_id:06d}.ply", "mm") for obj_id in (BOX, CAN)}
    scene = root / "test" / "000002"
    for name in ("rgb", "depth", "mask_visib"):
        (scene / name).mkdir(parents=True)
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    cameras, truths, infos = {}, {}, {}
    for im_id, poses in POSES.items():
        color, depth, seen = _render(meshes, poses, K, (height, width))
        cv2.imwrite(str(scene / "rgb" / f"{im_id:06d}.png"), color[..., ::-1])
        cv2.imwrite(str(scene / "depth" / f"{im_id:06d}.png"), np.round(depth * 1e4).astype(np.uint16))
        cameras[im_id] = {"cam_K": K.ravel().tolist(), "depth_scale": 0.1}
        truths[im_id] = [{"obj_id": obj_id, "cam_R_m2c": T[:3, :3].ravel().tolist(),
                          "cam_t_m2c": (1e3 * T[:3, 3]).tolist()} for obj_id, T in poses]
        infos[im_id] = [{"bbox_visib": _bbox(mask), "visib_fract": 1.0} for mask in seen]
        if masks:
            for index, mask in enumerate(seen):
                cv2.imwrite(str(scene / "mask_visib" / f"{im_id:06d}_{index:06d}.png"), 255 * mask.astype(np.uint8))
    for name, content in (("camera", cameras), ("gt", truths)) + ((("gt_info", infos),) if info else ()):
        (scene / f"scene_{name}.json").write_text(json.dumps(content))
    return root


def write_truth_as_results(root: Path, path: Path) -> list[ResultRow]:
    """The ground truth as a result file."""
    dataset = BopDataset(root)
    rows = [ResultRow(image_id, truth.obj_id, 0.9, truth.T_cam_obj, 0.25)
            for image_id in dataset.images for truth in dataset.ground_truth(image_id)]
    write_results(path, rows)
    return rows


def _render(meshes, poses, K, size):
    renderer, nearest = RaycastRenderer(), np.full(size, WALL)
    color = np.full((*size, 3), 128, np.uint8)
    renderings = []
    for obj_id, T in poses:
        r = renderer.render(meshes[obj_id], torch.from_numpy(T)[None], torch.from_numpy(K)[None], size)
        depth = np.where(r.mask[0], r.depth[0], np.inf)
        renderings.append(depth)
        front = depth < nearest
        nearest = np.where(front, depth, nearest)
        color[front] = (255 * r.rgb[0].permute(1, 2, 0).numpy()).astype(np.uint8)[front]
    return color, nearest, [np.isfinite(depth) & (depth <= nearest) for depth in renderings]


def _bbox(mask):
    ys, xs = np.nonzero(mask)
    return [int(xs.min()), int(ys.min()), int(xs.max() - xs.min()), int(ys.max() - ys.min())]
