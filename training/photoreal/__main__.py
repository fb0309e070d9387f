"""Render photoreal scenes of a folder's meshes: python -m training.photoreal --meshes FOLDER --output DATASET

Things fall on a table or into a bin and Cycles renders them; the result is a BOP dataset. Scene i of seed s is the same
whatever shard makes it; a scene that is there is not made again. Needs Blender's Python module (docs/photoreal.md).
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from flowpose_ros.errors import FlowposeError
from flowpose_ros.objects.load import METRES_PER_UNIT
from training.bop_files import write_models
from training.command import command
from training.photoreal.blender import load_bpy
from training.photoreal.compose import Scene, aim, around, compose
from training.photoreal.render import render
from training.photoreal.room import KINDS
from training.photoreal.settle import settle
from training.photoreal.things import Thing, find_meshes, load_things
from training.photoreal.write import write_scene
from training.pools import Backgrounds, symmetries_of

ATTEMPTS = 8


@dataclass(frozen=True)
class Settings:
    """What decides a dataset's scenes; all shards share them. size (H, W)."""

    seed: int
    room: str
    family: str
    unit: str
    size: tuple[int, int]
    samples: int
    views: int = 1


def make_dataset(meshes: Path, output: Path, settings: Settings, indices: range) -> tuple[int, dict[str, str]]:
    """Write the scenes of these numbers that are not there yet; returns their count, and why meshes were left out.

    Raises FlowposeError when Blender's module or usable meshes are missing, or the folder has scenes of other settings.
    """
    load_bpy()
    things, skipped = load_things(find_meshes(meshes, settings.family), settings.unit)
    if not things:
        raise FlowposeError(f"{meshes}: expected a usable mesh, got none; the first: {next(iter(skipped.values()))}")
    claim(output, settings, things)
    backgrounds = Backgrounds()
    missing = [index for index in indices if not scene_folder(output, index).is_dir()]
    with tqdm(total=len(missing) * settings.views, unit="image", desc="rendering", disable=None) as bar:
        for index in missing:
            scene = rested(things, backgrounds, settings, index)
            cameras = around(scene, aim(scene, settings.size, (settings.seed, index)), settings.views)
            pictures = render(scene, cameras, settings.samples, index, bar.update)
            write_scene(scene_folder(output, index), scene, cameras, pictures,
                        np.random.default_rng([settings.seed, index, 2]))
    return len(missing), skipped


def rested(things: list[Thing], backgrounds: Backgrounds, settings: Settings, index: int) -> Scene:
    """Scene `index` with its things at rest; drawn anew where fewer than two stay."""
    for attempt in range(ATTEMPTS):
        scene = settle(compose(things, backgrounds, settings.room, (settings.seed, index, attempt)))
        if len(scene.placed) >= 2:
            return scene
    raise FlowposeError(f"scene {index}: expected two things to stay where they fall, got fewer {ATTEMPTS} times")


def claim(output: Path, settings: Settings, things: list[Thing]) -> None:
    """Write models/ and photoreal.json; raises FlowposeError when that file says other settings or meshes."""
    path = output / "photoreal.json"
    told = json.dumps(asdict(settings) | {"objects": {thing.obj_id: thing.name for thing in things}}, indent=1) + "\n"
    if path.exists():
        if path.read_text() != told:
            raise FlowposeError(f"{path}: expected the settings and meshes of this run, got others; "
                                "choose another --output")
        return
    (output / "test").mkdir(parents=True, exist_ok=True)
    write_models(output / "models", {thing.obj_id: thing.mesh for thing in things},
                 {thing.obj_id: symmetries_of(thing.mesh)[0] for thing in things})
    # Shards may begin at once: each renames a whole file.
    part = output / f".photoreal.{os.getpid()}.json"
    part.write_text(told)
    part.rename(path)


def scene_folder(output: Path, index: int) -> Path:
    return output / "test" / f"{index:06d}"


def size_of(text: str) -> tuple[int, int]:
    """(H, W) of WIDTHxHEIGHT."""
    width, height = map(int, text.split("x"))
    if min(width, height) < 16:
        raise ValueError(text)
    return height, width


def views_of(text: str) -> int:
    """A number of images, at least one."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def shard_of(text: str) -> tuple[int, int]:
    """(index, count) of INDEX/COUNT."""
    index, count = map(int, text.split("/"))
    if not 0 <= index < count:
        raise ValueError(text)
    return index, count


@command
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meshes", type=Path, required=True, help="folder of NAME/mesh.ply (metres) and of mesh files")
    parser.add_argument("--output", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--scenes", type=int, default=20, help="scenes of all shards together")
    parser.add_argument("--views", type=views_of, default=1,
                        help="images of each scene; with more than one the camera goes round the pile, a clip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", type=shard_of, default=(0, 1), metavar="I/N", help="every Nth scene from scene I")
    parser.add_argument("--room", choices=(*KINDS, "mixed"), default="mixed")
    parser.add_argument("--family", choices=("all", "train", "held_out"), default="all",
                        help="which meshes: training leaves every thirteenth out, by the hash of its name")
    parser.add_argument("--unit", choices=tuple(METRES_PER_UNIT), default="m",
                        help="of mesh files that are not NAME/mesh.ply")
    parser.add_argument("--size", type=size_of, default=(480, 640), metavar="WxH")
    parser.add_argument("--samples", type=int, default=32, help="light paths per pixel, before the denoiser")
    args = parser.parse_args()
    settings = Settings(args.seed, args.room, args.family, args.unit, args.size, args.samples, args.views)
    first, step = args.shard
    made, skipped = make_dataset(args.meshes, args.output, settings, range(first, args.scenes, step))
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    print(f"{args.output}: {made} scenes made, {len(skipped)} meshes skipped")


if __name__ == "__main__":
    main()
