"""What a folder of objects says it holds: BOP's models/ as it is, or meshes with an objects.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flowpose_ros.errors import CatalogueError
from flowpose_ros.objects.load import MESH_SUFFIXES

BOP_INFO = "models_info.json"
OWN_INFO = "objects.yaml"
BOP_UNIT = "mm"
OTHER_CAD = {".3ds", ".3mf", ".blend", ".dae", ".fbx", ".iges", ".igs", ".off", ".step", ".stp", ".usd", ".usdz", ".wrl"}
"""Endings of shapes that are not read."""
NOT_READ = f"objects are files ending in {', '.join(MESH_SUFFIXES)} or subfolders that hold one; {OWN_INFO} can name others"
OBJECT_KEYS = {"file", "unit", "id", "diameter", "symmetries_discrete", "symmetries_continuous"}


@dataclass(frozen=True)
class ListedObject:
    """One object as its folder states it; whether `path` exists and where it leads is not yet checked.

    unit: of the mesh and of every length in `info`, None where nothing says it;
    info: diameter and symmetries in the form of BOP's models_info.json; source: who says so.
    """

    label: str
    obj_id: int | None
    path: Path
    unit: str | None
    info: Mapping[str, Any]
    source: Path


def list_objects(folder: Path) -> list[ListedObject]:
    """The objects of a folder, in the order of their labels.

    Raises CatalogueError when there is none, or when the folder's own list is unusable.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise CatalogueError(f"{folder}: expected a folder of objects, got {found}")
    if (folder / OWN_INFO).is_file():
        listed = _read_own(folder)
    elif (folder / BOP_INFO).is_file():
        listed = _read_bop(folder)
    else:
        listed = _find_meshes(folder, None, folder)
    if not listed:
        raise CatalogueError(f"{folder}: expected meshes ({', '.join(MESH_SUFFIXES)}), one file or subfolder "
                             "per object, got none")
    return sorted(listed, key=lambda item: item.label)


def overlooked(folder: Path) -> list[str]:
    """What in a folder without a list looks like an object and is none: CAD files of other kinds, and subfolders whose
    meshes lie deeper; relative paths."""
    if any((folder / name).is_file() for name in (OWN_INFO, BOP_INFO)):
        return []
    deeper = [path for path in folder.iterdir() if path.is_dir() and not _meshes_in(path)
              and any(map(_is_mesh, path.rglob("*")))]
    other = [path for path in folder.glob("*") if path.suffix.lower() in OTHER_CAD]
    return sorted(f"{path.name}{'/' if path.is_dir() else ''}" for path in deeper + other)


def _read_bop(folder: Path) -> list[ListedObject]:
    source = folder / BOP_INFO
    info = _parse(source, json.loads, "JSON")
    return [ListedObject(path.stem, obj_id, path, BOP_UNIT, _mapping(info.get(str(obj_id), {}), source, str(obj_id)),
                         source)
            for path in sorted(folder.glob("obj_*.ply")) if (obj_id := _bop_id(path.stem)) is not None]


def _read_own(folder: Path) -> list[ListedObject]:
    source = folder / OWN_INFO
    content = _parse(source, yaml.safe_load, "YAML")
    _check_keys(content, {"unit", "objects"}, source, "the file")
    if "objects" not in content:
        return _find_meshes(folder, content.get("unit"), source)
    objects = _mapping(content["objects"], source, "objects")
    return [_own_object(folder, source, str(label), _mapping(entry, source, str(label)), content.get("unit"))
            for label, entry in objects.items()]


def _own_object(folder: Path, source: Path, label: str, entry: Mapping, unit: str | None) -> ListedObject:
    _check_keys(entry, OBJECT_KEYS, source, label)
    if not label or "/" in label:  # labels name TF frames and files
        raise CatalogueError(f"{source}: expected labels without a slash, got {label!r}")
    obj_id, file = entry.get("id"), entry.get("file")
    if obj_id is not None and (not isinstance(obj_id, int) or isinstance(obj_id, bool)):
        raise CatalogueError(f"{source}: {label}: id: expected an integer, got {obj_id!r}")
    if not isinstance(file, str):
        raise CatalogueError(f"{source}: {label}: file: expected the path of a mesh, got {file!r}")
    return ListedObject(label, obj_id, folder / file, entry.get("unit", unit), entry, source)


def _find_meshes(folder: Path, unit: str | None, source: Path) -> list[ListedObject]:
    """One object per mesh file, named by it, and per subfolder that holds one."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        meshes = _meshes_in(path) if path.is_dir() else [path] * _is_mesh(path)
        label = path.name if path.is_dir() else path.stem
        candidates = [*([found[label]] if label in found else []), *meshes]
        if len(candidates) > 1:
            names = ", ".join(str(candidate.relative_to(folder)) for candidate in candidates)
            raise CatalogueError(f"{folder}: {label}: expected one mesh, got {names}; say in {OWN_INFO} which to use")
        if meshes:
            found[label] = meshes[0]
    return [ListedObject(label, _bop_id(label), path, unit, {}, source) for label, path in found.items()]


def _meshes_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if _is_mesh(path)]


def _is_mesh(path: Path) -> bool:
    return path.suffix.lower() in MESH_SUFFIXES and path.is_file()


def _bop_id(label: str) -> int | None:
    match = re.fullmatch(r"obj_([0-9]{1,9})", label)
    return int(match[1]) if match else None


def _parse(path: Path, parse: Callable[[str], Any], kind: str) -> Mapping:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CatalogueError(f"{path}: expected {kind}, got {' '.join(str(error).split())}") from None
    return _mapping(content, path, "the file")


def _mapping(value: Any, source: Path, what: str) -> Mapping:
    if not isinstance(value, Mapping):
        raise CatalogueError(f"{source}: {what}: expected a mapping, got {value!r:.100}")
    return value


def _check_keys(entry: Mapping, known: set[str], source: Path, what: str) -> None:
    unknown = [str(key) for key in entry if key not in known]
    if unknown:
        raise CatalogueError(f"{source}: {what}: expected only {', '.join(sorted(known))}, got {', '.join(unknown)}")
