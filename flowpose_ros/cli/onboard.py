"""`flowpose onboard`: is a mesh what its owner thinks it is? Sizes, looks, symmetries, pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from flowpose_ros.errors import CatalogueError
from flowpose_ros.evaluation.images import write_image
from flowpose_ros.evaluation.table import format_table
from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.objects.catalogue import Catalogue, ObjectModel
from flowpose_ros.objects.listing import BOP_INFO, BOP_UNIT, NOT_READ, OWN_INFO, list_objects, overlooked
from flowpose_ros.objects.load import METRES_PER_UNIT, MeshLimits, load_mesh, read_parts
from flowpose_ros.rendering.contact_sheet import contact_sheet
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.symmetry_hints import symmetry_hints

HEADER = ("object", "id", "parts", "faces", "vertices", "unit", "extents m", "diameter m", "textures", "symmetries")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add this subcommand to the program."""
    parser = subparsers.add_parser(
        "onboard", help="check a mesh: units, diameter, symmetries, a contact sheet of templates",
        epilog="example: flowpose onboard mug.ply --unit mm", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", metavar="MESH|FOLDER", type=Path,
                        help="a .ply, .obj, .glb, .gltf or .stl file, or a folder of objects")
    parser.add_argument("--unit", "--units", choices=tuple(METRES_PER_UNIT),
                        help="unit of the mesh, or of those in FOLDER for which it says none")
    parser.add_argument("--output", metavar="DIR", type=Path, default=Path("onboarding"),
                        help="where a picture per object is written (default: %(default)s)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Load, print the table and what to write into objects.yaml, write the pictures."""
    path = args.mesh.resolve() if args.mesh.is_symlink() else args.mesh  # objects.yaml belongs beside the file
    folder = path if path.is_dir() else path.parent
    models = list(Catalogue.load(folder, args.unit)) if path.is_dir() else [_single(path, args.unit)]
    print(format_table(HEADER, [_row(model, folder) for model in models]))
    if path.is_dir() and (left := overlooked(folder)):
        print(f"not read: {', '.join(left)}: {NOT_READ}")
    renderer = RaycastRenderer()
    for model in models:
        picture = args.output / f"{model.label}.png"
        write_image(picture, contact_sheet(model.mesh, renderer))
        print(f"picture: {picture}")
    for model in models:
        away = float(np.linalg.norm(model.mesh.center))
        if away > model.mesh.diameter:
            print(f"{model.label}: its file's origin, whose pose is published, lies {away:.3g} m from its middle")
    entries = {model.label: _entry(model, folder) for model in models}
    print(f"\nfor {folder / OWN_INFO}:\n")
    print(_yaml({"objects": entries}), end="")
    _print_hints(models, renderer)
    return 0


def _print_hints(models: list[ObjectModel], renderer: RaycastRenderer) -> None:
    """Symmetries of the shape of objects for which none is stated, as comments: their owner decides."""
    hints = {model.label: symmetry_hints(model.mesh, renderer).models_info(METRES_PER_UNIT[model.unit])
             for model in models if model.symmetries.is_trivial}
    hints = {label: entry for label, entry in hints.items() if entry}
    if hints:
        print("\n# Symmetric in shape; add what print and colour have as well:\n#")
        print("".join(f"# {line}\n" for line in _yaml(hints).splitlines()), end="")


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100)


def _single(path: Path, unit: str | None) -> ObjectModel:
    """The object of one file, with what its folder says of it."""
    folder = path.parent
    if (folder / OWN_INFO).is_file() or (folder / BOP_INFO).is_file():
        labels = [item.label for item in list_objects(folder) if item.path.resolve() == path.resolve()]
        if labels:
            return Catalogue.load(folder, unit, labels[:1])[labels[0]]
    if unit is None and (folder / BOP_INFO).is_file():
        unit = BOP_UNIT
    if unit is None:
        raise CatalogueError(f"{path}: expected its unit, got none; pass --unit {'|'.join(METRES_PER_UNIT)}")
    return ObjectModel(path.stem, None, load_mesh(path, unit), SymmetryGroup.none(), path.resolve(), unit)


def _row(model: ObjectModel, folder: Path) -> tuple:
    mesh, group = model.mesh, model.symmetries
    symmetries = "none" if group.is_trivial else f"{len(group.discrete)} discrete, {len(group.axes)} axes"
    extents = " x ".join(f"{side:.4f}" for side in np.ptp(mesh.vertices, axis=0))
    return (model.label, model.obj_id, len(read_parts(model.path, MeshLimits(), folder)), len(mesh.faces),
            len(mesh.vertices), model.unit, extents, f"{mesh.diameter:.4f}", len(mesh.textures), symmetries)


def _entry(model: ObjectModel, folder: Path) -> dict[str, Any]:
    """The object as objects.yaml states it; lengths in the mesh file's unit."""
    scale = METRES_PER_UNIT[model.unit]
    entry: dict[str, Any] = {"file": str(model.path.relative_to(folder.resolve())), "unit": model.unit}
    if model.obj_id is not None:
        entry["id"] = model.obj_id
    entry["diameter"] = float(f"{model.mesh.diameter / scale:.6g}")
    return entry | model.symmetries.models_info(scale)
