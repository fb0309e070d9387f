"""Make the demo clip: three own objects on a cluttered table, seen by a moving RGB-D camera, in BOP
layout with ground truth.

    python -m training.demo_clip --output demo --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from training.bop_files import camera_entry, info_entry, pose_entry, write_depth, write_json, write_models
from training.command import command
from training.demo_objects import Prop, clutter, room, targets
from training.demo_render import SceneRenderer, View, add, cast, world_rays

SIZE = 480, 640
K = np.array([[650.0, 0, 322.4], [0, 650.0, 236.8], [0, 0, 1]])
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
    return (pose_entry(prop.obj_id, T_cam_world @ prop.T_world_obj),
            info_entry(silhouette(prop, T_cam_world), view.prop == index, depth))


def silhouette(prop: Prop, T_cam_world: np.ndarray) -> np.ndarray:
    """Pixels [H,W] that would see the object if nothing stood before it."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    add(scene, prop, prop.T_world_obj)
    return np.isfinite(cast(scene, *world_rays(T_cam_world, K, SIZE))["t"]).reshape(SIZE)


# --- files ---------------------------------------------------------------------------------------

def write_clip(output: Path, frames: int, seed: int) -> None:
    """Render the clip and write it in BOP layout under output/test/000000 and output/models."""
    props = targets() + clutter() + room()
    wanted = [i for i, prop in enumerate(props) if prop.obj_id is not None]
    write_models(output / "models", {props[i].obj_id: props[i].mesh for i in wanted})
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
        write_depth(scene / "depth" / f"{im_id:06d}.png", depth)
        cameras[im_id] = camera_entry(K)
        entries = [annotate(props[i], i, T_cam_world, view, depth) for i in wanted]
        poses[im_id], infos[im_id] = [list(column) for column in zip(*entries)]
    write_json(scene / "scene_camera.json", cameras)
    write_json(scene / "scene_gt.json", poses)
    write_json(scene / "scene_gt_info.json", infos)


@command
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
