"""The files of a BOP dataset, written: depth, entries of a scene's tables, models."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.objects.mesh import Mesh

DEPTH_UNIT_MM = 0.1


def write_depth(path: Path, depth: np.ndarray) -> None:
    """A PNG of depth [H,W] metres along z in steps of DEPTH_UNIT_MM; 0 where nothing is seen or it is too far."""
    steps = np.round(depth * 1000 / DEPTH_UNIT_MM)
    steps[steps > np.iinfo(np.uint16).max] = 0
    cv2.imwrite(str(path), steps.astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def camera_entry(K: np.ndarray) -> dict:
    """Entry of scene_camera.json for an image of intrinsics K [3,3] and a depth image of `write_depth`."""
    return {"cam_K": K.ravel().tolist(), "depth_scale": DEPTH_UNIT_MM}


def pose_entry(obj_id: int, T_cam_obj: np.ndarray) -> dict:
    """Entry of scene_gt.json for one object at T_cam_obj [4,4] metres."""
    return {"cam_R_m2c": np.round(T_cam_obj[:3, :3], 9).ravel().tolist(),
            "cam_t_m2c": np.round(T_cam_obj[:3, 3] * 1000, 5).tolist(), "obj_id": obj_id}


def info_entry(whole: np.ndarray, visible: np.ndarray, depth: np.ndarray) -> dict:
    """Entry of scene_gt_info.json: masks [H,W] of the silhouette and of what is seen of it; depth [H,W]."""
    return {"bbox_obj": box(whole), "bbox_visib": box(visible), "px_count_all": int(whole.sum()),
            "px_count_valid": int((whole & (depth > 0)).sum()), "px_count_visib": int(visible.sum()),
            "visib_fract": round(visible.sum() / max(whole.sum(), 1), 4)}


def box(mask: np.ndarray) -> list[int]:
    """BOP's (x, y, width, height): differences of the outermost pixel indices; -1 when empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return [-1, -1, -1, -1]
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]), int(rows[-1] - rows[0])]


def write_json(path: Path, entries: dict) -> None:
    """One line per key: small, and readable in a diff."""
    rows = ",\n".join(f' "{key}": {json.dumps(value)}' for key, value in entries.items())
    path.write_text("{\n" + rows + "\n}\n")


def write_models(folder: Path, meshes: dict[int, Mesh], symmetries: dict[int, SymmetryGroup] | None = None
                 ) -> None:
    """models_info.json, and a PLY in millimetres for each object id: textured, or with coloured vertices.

    A mesh has one texture on all its faces, or none. symmetries: of each object, if any has some.
    """
    folder.mkdir(parents=True, exist_ok=True)
    infos = {}
    for obj_id, mesh in meshes.items():
        name = f"obj_{obj_id:06d}"
        if mesh.textures:
            Image.fromarray(mesh.textures[0]).save(folder / f"{name}.jpg", quality=90)
        (folder / f"{name}.ply").write_bytes(ply(mesh, f"{name}.jpg"))
        low, size = mesh.vertices.min(0) * 1000, np.ptp(mesh.vertices, axis=0) * 1000
        sides = dict(zip(("min_x", "min_y", "min_z", "size_x", "size_y", "size_z"), [*low, *size]))
        infos[obj_id] = {"diameter": round(mesh.diameter * 1000, 4)} | {
            key: round(float(value), 4) for key, value in sides.items()}
        if symmetries is not None:
            infos[obj_id] |= symmetries[obj_id].models_info(0.001)
    write_json(folder / "models_info.json", infos)


def ply(mesh: Mesh, texture: str) -> bytes:
    """A binary PLY in millimetres, with a texture coordinate per vertex, or a colour where the mesh has no texture.

    texture: name of the image's file; vertices are doubled at seams.
    """
    looks = mesh.uv if mesh.textures else np.round(mesh.colors * 255)
    corners = np.concatenate([mesh.vertices[mesh.faces] * 1000, looks], 2)
    rows, faces = np.unique(corners.reshape(-1, corners.shape[2]).astype("<f4"), axis=0, return_inverse=True)
    kind, names = ("float", ("texture_u", "texture_v")) if mesh.textures else ("uchar", ("red", "green", "blue"))
    vertices = np.empty(len(rows), [("position", "<f4", 3), ("look", "<f4" if mesh.textures else "u1", len(names))])
    vertices["position"], vertices["look"] = rows[:, :3], rows[:, 3:]
    header = ["ply", "format binary_little_endian 1.0", *([f"comment TextureFile {texture}"] if mesh.textures else []),
              f"element vertex {len(vertices)}", *(f"property float {name}" for name in "xyz"),
              *(f"property {kind} {name}" for name in names),
              f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header\n"]
    packed = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("index", "<i4", 3)])
    packed["count"], packed["index"] = 3, faces.reshape(-1, 3)
    return "\n".join(header).encode() + vertices.tobytes() + packed.tobytes()
