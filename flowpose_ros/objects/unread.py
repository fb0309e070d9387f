"""What mesh files may hold that the reader would pass over in silence: refused by name, lest colours or shape be wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

from flowpose_ros.errors import MeshError

PLY_HEADER_BYTES = 10_000
HARMLESS = re.compile(r"KHR_materials_\w+|KHR_lights_punctual|KHR_xmp\w*|EXT_texture_webp")
"""glTF extensions that change neither shape nor base colours, or that are read."""
MTL_OPTION = re.compile(r"\s*-(\w+)((?:\s+(?:on|off|[rgbmlz]|[-+.\d]+(?:e[-+]?\d+)?)(?=\s))+)\s+", re.IGNORECASE)
MTL_NEUTRAL = {"s": 1.0, "o": 0.0, "t": 0.0}
"""Options of an MTL's map that move it, and the value that does not."""


def check_features(path: Path, data: bytes) -> None:
    """Raise MeshError where a mesh file's bytes ask for what would be read as something else."""
    suffix = path.suffix.lower()
    unread = _of_ply(data) if suffix == ".ply" else _of_gltf(data) if suffix in (".glb", ".gltf") else []
    if unread:
        raise MeshError(f"{path}: expected a plain mesh, got {', '.join(dict.fromkeys(unread))}, which is not read; export it "
                        "without")


def texture_name(path: Path, entry: str) -> str:
    """The file name in an MTL's map entry, without its options; raises MeshError for one that moves the map."""
    while option := MTL_OPTION.match(entry):
        name, values = option[1].lower(), option[2].split()
        if name in MTL_NEUTRAL and any(float(value) != MTL_NEUTRAL[name] for value in values):
            raise MeshError(f"{path}: expected a map without options that move it, got -{name} {' '.join(values)}; bake it "
                            "into the texture coordinates")
        entry = entry[option.end():]
    return entry.strip()


def _of_ply(data: bytes) -> list[str]:
    count = data[:PLY_HEADER_BYTES].count(b"comment TextureFile")
    return [f"{count} textures in one PLY"] if count > 1 else []


def _of_gltf(data: bytes) -> list[str]:
    try:
        tree = json.loads(data[20:20 + int.from_bytes(data[12:16], "little")] if data[:4] == b"glTF" else data)
        unread = [name for name in tree.get("extensionsRequired", ()) if not HARMLESS.fullmatch(name)]
        for material in tree.get("materials", ()):
            texture = material.get("pbrMetallicRoughness", {}).get("baseColorTexture", {})
            unread += ["a second set of texture coordinates"] * (texture.get("texCoord", 0) != 0)
            unread += ["KHR_texture_transform"] * _moves(texture.get("extensions", {}).get("KHR_texture_transform", {}))
        for attributes in (p["attributes"] for mesh in tree.get("meshes", ()) for p in mesh["primitives"]):
            whole = [tree["accessors"][attributes[name]] for name in ("POSITION", "TEXCOORD_0") if name in attributes]
            unread += ["coordinates as normalized integers"] * any(accessor.get("normalized") for accessor in whole)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return []  # the reader says what is broken
    return unread


def _moves(transform: dict) -> bool:
    return (any(transform.get("offset", ())) or transform.get("rotation", 0) != 0 or transform.get("texCoord", 0) != 0
            or any(value != 1 for value in transform.get("scale", ())))
