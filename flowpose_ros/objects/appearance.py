"""Colours and textures of one trimesh geometry, as arrays per triangle corner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from PIL import Image

PLAIN_GREY = 0.6
"""sRGB level of a surface whose file says nothing about its colour."""


@dataclass(frozen=True)
class Appearance:
    """Look of F faces: colors [F,3,3] float32 sRGB in [0,1]; uv [F,3,2] float32, v upward;
    image: the texture, undecoded, or None."""

    colors: np.ndarray
    uv: np.ndarray
    image: Image.Image | None


def appearance_of(part: trimesh.Trimesh, linear: bool) -> Appearance:
    """The look that the file gave a part; a part without any is plain grey.

    linear: whether the file states the colours of its vertices in linear light, as glTF does.
    """
    visual, faces = part.visual, part.faces
    if visual.kind == "face":
        return _untextured(np.repeat(visual.face_colors[:, None, :3], 3, axis=1) / 255)
    if visual.kind == "vertex":
        return _untextured(_corner_colors(visual.vertex_colors, faces, linear))
    if visual.kind != "texture":
        return _untextured(np.full((len(faces), 3, 3), PLAIN_GREY))
    image, factor = _material(visual.material)
    if _is_stand_in(visual.material):
        image, painted = None, part.vertex_attributes.get("color")
        factor = np.full(3, PLAIN_GREY) if painted is None else np.ones(3)
    else:
        painted = visual.vertex_attributes.get("color")
        beside = part.vertex_attributes.get("color")  # OBJ: of vertices, which speak for themselves beside a plain Kd
        if painted is None and image is None and beside is not None:
            painted, factor = beside, np.ones(3)
    colors = np.broadcast_to(factor, (len(faces), 3, 3))
    if painted is not None:  # glTF: vertex colour, factor and texture are multiplied
        colors = colors * _corner_colors(trimesh.visual.color.to_rgba(painted), faces, linear)
    if image is None or visual.uv is None:
        return _untextured(colors)
    return Appearance(colors.astype(np.float32), visual.uv[faces].astype(np.float32), image)


def _untextured(colors: np.ndarray) -> Appearance:
    return Appearance(colors.astype(np.float32), np.zeros((len(colors), 3, 2), np.float32), None)


def _corner_colors(rgba: np.ndarray, faces: np.ndarray, linear: bool) -> np.ndarray:
    """sRGB [F,3,3] in [0,1] of colours [V,4] uint8 per vertex."""
    colors = np.asarray(rgba)[faces][..., :3] / 255
    return _from_linear(colors) if linear else colors


def _is_stand_in(material: trimesh.visual.material.Material) -> bool:
    """Whether trimesh made the image up, for texture coordinates without one: it was read from no format."""
    image = getattr(material, "image", None)
    return image is not None and image.format is None


def _material(material: trimesh.visual.material.Material) -> tuple[Image.Image | None, np.ndarray]:
    """Texture and sRGB factor [3] of a material."""
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        factor = material.baseColorFactor
        return material.baseColorTexture, np.ones(3) if factor is None else _from_linear(factor[:3] / 255)
    if material.image is not None:
        # Many exporters leave Kd black or grey beside map_Kd; every viewer then shows the map alone.
        return material.image, np.ones(3)
    return None, np.asarray(material.diffuse[:3]) / 255


def _from_linear(color: np.ndarray) -> np.ndarray:
    """sRGB values of linear ones, both in [0,1] (IEC 61966-2-1)."""
    return np.where(color <= 0.0031308, 12.92 * color, 1.055 * np.maximum(color, 1e-9) ** (1 / 2.4) - 0.055)
