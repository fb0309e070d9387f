"""A rendered scene as a BOP scene folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from flowpose_ros.evaluation.view import Window, depth_in_window
from flowpose_ros.rendering.raycast import RaycastRenderer
from training.bop_files import camera_entry, info_entry, pose_entry, write_depth, write_json
from training.demo_clip import sense_color
from training.demo_render import develop
from training.photoreal.compose import Camera, Scene
from training.photoreal.light import LUMINANCE
from training.photoreal.render import Picture

MIDDLE_GREY = 0.3
"""What `develop` is given for the image's mean luminance, on a log scale."""
STOPS_OFF = 0.35
"""Deviation of a scene's exposure, in stops."""


def write_scene(folder: Path, scene: Scene, cameras: Sequence[Camera], pictures: Sequence[Picture],
                rng: np.random.Generator) -> None:
    """Write a scene's images with their ground truth; the folder appears when it is whole.

    What an object's whole silhouette is, is asked of the ray caster at the pose that is written.
    """
    part = folder.with_name(f".{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    for name in ("rgb", "depth", "mask", "mask_visib"):
        (part / name).mkdir(parents=True)
    stops, renderer, tables = rng.normal(0, STOPS_OFF), RaycastRenderer(), ({}, {}, {})
    for number, (camera, picture) in enumerate(zip(cameras, pictures)):
        image = expose(picture.linear, scene.light.white, stops, rng)
        Image.fromarray(image).save(part / "rgb" / f"{number:06d}.jpg", quality=95)
        write_depth(part / "depth" / f"{number:06d}.png", picture.depth)
        window, poses, infos = Window(0, 0, *camera.size[::-1]), [], []
        for index, item in enumerate(scene.placed):
            T_cam_obj = camera.T_cam_world @ item.T_world_obj
            whole = depth_in_window(renderer, item.thing.mesh, T_cam_obj, camera.K, window) > 0
            visible = whole & (picture.placed == index)
            for name, mask in (("mask", whole), ("mask_visib", visible)):
                cv2.imwrite(str(part / name / f"{number:06d}_{index:06d}.png"), mask.astype(np.uint8) * 255)
            poses.append(pose_entry(item.thing.obj_id, T_cam_obj))
            infos.append(info_entry(whole, visible, picture.depth))
        for table, entry in zip(tables, (camera_entry(camera.K), poses, infos)):
            table[number] = entry
    for name, table in zip(("scene_camera", "scene_gt", "scene_gt_info"), tables):
        write_json(part / f"{name}.json", table)
    part.rename(folder)


def expose(linear: np.ndarray, white: np.ndarray, stops: float, rng: np.random.Generator) -> np.ndarray:
    """The uint8 image of a camera with automatic exposure, off by so many stops, and white balance."""
    balanced = linear / white.astype(np.float32)
    level = np.exp(np.log((balanced @ LUMINANCE.astype(np.float32)).clip(1e-4)).mean())
    return sense_color(develop(balanced * (MIDDLE_GREY * 2 ** stops / level)).astype(np.float32), rng)
