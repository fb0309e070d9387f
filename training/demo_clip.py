"""Make the demo clip: three own objects on a cluttered table, seen by a moving RGB-D camera, in BOP
layout with ground truth.

    python -m training.demo_clip --output demo --seed 0
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from flowpose_ros.objects.mesh import Mesh
from training.demo_objects import Prop, clutter, room, targets
from training.demo_render import SceneRenderer, View, add, cast, world_rays

SIZE = 480, 640
K = np.array([[650.0, 0, 322.4], [0, 650.0, 236.8], [0, 0, 1]])
DEPTH_UNIT_MM = 0.1
BASELINE_M = 0.05
"""Distance between the eyes of the depth camera: with the focal length it sets noise and shadows."""


def camera_path(frames: int) -> np.ndarray:
    """T_cam_world [frames,4,4]: an arc of 40 degrees at 0.85 to 0.65 m, with a hand's unrest."""
    s = np.linspace(0, 1, frames)
    azimuth = np.radians(-22 + 40 * s)
    elevation = np.radians(34 - 8 * s + 2 * np.sin(5 * s))
    distance = 0.86 - 0.20 * (0.5 - 0.5 * np.cos(np.pi * s))
    aim = np.stack([0.02 + 0.012 * np.sin(7 * s), 0.03 + 0.01 * np.cos(5 * s), 0.07 + 0.008 * np.sin(9 * s)], 1)
    outward = np.stack([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)], 1)
    return np.array([look_at(a + d * o, a) for a, d, o in zip(aim, distance, outward)])


def look_at(eye: np.ndarray, aim: np.ndarray) -> np.ndarray:
    """T_cam_world [4,4] of an OpenCV camera at eye that looks at aim, world z up."""
    forward = (aim - eye) / np.linalg.norm(aim - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    T[:3, 3] = -T[:3, :3] @ eye
    return T


# --- sensors -------------------------------------------------------------------------------------

def sense_color(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A camera's uint8 image: a little soft, a little noisy, darker in the corners."""
    height, width = image.shape[:2]
    v, u = np.mgrid[:height, :width]
    radius = ((u - width / 2) ** 2 + (v - height / 2) ** 2) / (width / 2) ** 2
    soft = cv2.GaussianBlur(image, (0, 0), 0.6) * (1 - 0.09 * radius[..., None])
    noise = rng.normal(size=image.shape) * (0.006 + 0.012 * np.sqrt(soft.clip(0, 1)))
    return ((soft + cv2.GaussianBlur(noise, (0, 0), 0.5) * 1.3).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def sense_depth(view: View, rng: np.random.Generator) -> np.ndarray:
    """A stereo depth camera's image [H,W] metres, 0 where it sees nothing.

    Noise and steps are those of its disparity; holes are what its other eye cannot see, surfaces
    at a grazing angle, and a few places without a match.
    """
    scale = K[0, 0] * BASELINE_M
    disparity = np.where(view.depth > 0, scale / np.maximum(view.depth, 1e-6), 0)
    blurred = lambda sigma: cv2.GaussianBlur(rng.normal(size=SIZE), (0, 0), sigma) * 2 * np.sqrt(np.pi) * sigma  # noqa: E731
    measured = np.round((disparity + 0.09 * blurred(1.8) + 0.05 * blurred(8)) * 10) / 10
    # The match window smears edges by a pixel or two.
    measured = cv2.medianBlur(measured.astype(np.float32), 5)
    u = np.arange(SIZE[1])
    other = u - disparity
    nearest_right = np.minimum.accumulate(other[:, ::-1], axis=1)[:, ::-1]
    hidden = other > nearest_right + 0.5
    grazing = view.facing < 0.13 + 0.03 * rng.normal(size=SIZE)
    unmatched = cv2.GaussianBlur(rng.random(SIZE).astype(np.float32), (0, 0), 2.5) > 0.628
    edge = np.abs(cv2.Laplacian(disparity.astype(np.float32), cv2.CV_32F)) > 0.8
    torn = cv2.dilate(edge.astype(np.uint8), np.ones((3, 3))) > 0
    lost = hidden | grazing | unmatched | (torn & (rng.random(SIZE) < 0.5)) | (measured <= 1) | (view.depth <= 0)
    return np.where(lost, 0, scale / np.maximum(measured, 1e-6)).astype(np.float32)


# --- ground truth --------------------------------------------------------------------------------

def annotate(prop: Prop, index: int, T_cam_world: np.ndarray, view: View, depth: np.ndarray) -> tuple[dict, dict]:
    """Entries of scene_gt.json and scene_gt_info.json for one object."""
    T_cam_obj = T_cam_world @ prop.T_world_obj
    pose = {"cam_R_m2c": np.round(T_cam_obj[:3, :3], 9).ravel().tolist(),
            "cam_t_m2c": np.round(T_cam_obj[:3, 3] * 1000, 5).tolist(), "obj_id": prop.obj_id}
    whole, visible = silhouette(prop, T_cam_world), view.prop == index
    info = {"bbox_obj": box(whole), "bbox_visib": box(visible), "px_count_all": int(whole.sum()),
            "px_count_valid": int((whole & (depth > 0)).sum()), "px_count_visib": int(visible.sum()),
            "visib_fract": round(visible.sum() / max(whole.sum(), 1), 4)}
    return pose, info


def silhouette(prop: Prop, T_cam_world: np.ndarray) -> np.ndarray:
    """Pixels [H,W] that would see the object if nothing stood before it."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    add(scene, prop, prop.T_world_obj)
    return np.isfinite(cast(scene, *world_rays(T_cam_world, K, SIZE))["t"]).reshape(SIZE)


def box(mask: np.ndarray) -> list[int]:
    """BOP's (x, y, width, height): differences of the outermost pixel indices; -1 when empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return [-1, -1, -1, -1]
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]), int(rows[-1] - rows[0])]


# --- files ---------------------------------------------------------------------------------------

def write_clip(output: Path, frames: int, seed: int) -> None:
    """Render the clip and write it in BOP layout under output/test/000000 and output/models."""
    props = targets() + clutter() + room()
    wanted = [i for i, prop in enumerate(props) if prop.obj_id is not None]
    write_models(output / "models", [props[i] for i in wanted])
    scene = output / "test" / "000000"
    for name in ("rgb", "depth"):
        (scene / name).mkdir(parents=True, exist_ok=True)
    renderer = SceneRenderer(props)
    cameras, poses, infos = {}, {}, {}
    for im_id, T_cam_world in enumerate(tqdm(camera_path(frames), unit="frame")):
        rng = np.random.default_rng([seed, im_id])
        view = renderer.render(T_cam_world, K, SIZE, rng)
        depth = sense_depth(view, rng)
        Image.fromarray(sense_color(view.image, rng)).save(scene / "rgb" / f"{im_id:06d}.jpg", quality=90)
        steps = np.round(depth * 1000 / DEPTH_UNIT_MM).astype(np.uint16)
        cv2.imwrite(str(scene / "depth" / f"{im_id:06d}.png"), steps, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        cameras[im_id] = {"cam_K": K.ravel().tolist(), "depth_scale": DEPTH_UNIT_MM}
        entries = [annotate(props[i], i, T_cam_world, view, depth) for i in wanted]
        poses[im_id], infos[im_id] = [list(column) for column in zip(*entries)]
    write_json(scene / "scene_camera.json", cameras)
    write_json(scene / "scene_gt.json", poses)
    write_json(scene / "scene_gt_info.json", infos)


def write_json(path: Path, entries: dict) -> None:
    """One line per key: small, and readable in a diff."""
    rows = ",\n".join(f' "{key}": {json.dumps(value)}' for key, value in entries.items())
    path.write_text("{\n" + rows + "\n}\n")


def write_models(folder: Path, props: list[Prop]) -> None:
    """models_info.json, and a textured PLY in millimetres for each object."""
    folder.mkdir(parents=True, exist_ok=True)
    infos = {}
    for prop in props:
        name, mesh = f"obj_{prop.obj_id:06d}", prop.mesh
        Image.fromarray(mesh.textures[0]).save(folder / f"{name}.jpg", quality=90)
        (folder / f"{name}.ply").write_bytes(ply(mesh, f"{name}.jpg"))
        low, size = mesh.vertices.min(0) * 1000, np.ptp(mesh.vertices, axis=0) * 1000
        sides = dict(zip(("min_x", "min_y", "min_z", "size_x", "size_y", "size_z"), [*low, *size]))
        infos[prop.obj_id] = {"diameter": round(mesh.diameter * 1000, 4)} | {
            key: round(float(value), 4) for key, value in sides.items()}
    write_json(folder / "models_info.json", infos)


def ply(mesh: Mesh, texture: str) -> bytes:
    """A binary PLY in millimetres with a texture coordinate per vertex; vertices are doubled at seams."""
    corners = np.concatenate([mesh.vertices[mesh.faces] * 1000, mesh.uv], 2).reshape(-1, 5).astype("<f4")
    vertices, faces = np.unique(corners, axis=0, return_inverse=True)
    header = ["ply", "format binary_little_endian 1.0", f"comment TextureFile {texture}",
              f"element vertex {len(vertices)}",
              *(f"property float {name}" for name in ("x", "y", "z", "texture_u", "texture_v")),
              f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header\n"]
    packed = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("index", "<i4", 3)])
    packed["count"], packed["index"] = 3, faces.reshape(-1, 3)
    return "\n".join(header).encode() + vertices.tobytes() + packed.tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the demo clip.")
    parser.add_argument("--output", type=Path, default=Path("demo"))
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="seed of the sensors' noise")
    args = parser.parse_args()
    write_clip(args.output, args.frames, args.seed)
    print(f"{args.output}: {sum(f.stat().st_size for f in args.output.rglob('*') if f.is_file()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
