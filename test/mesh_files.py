"""Writes one box, 80 x 60 x 40 mm, each side in its own colour, in every format that can be read."""

import io

import numpy as np
import trimesh
from PIL import Image

EXTENTS = np.array([80, 60, 40.0])
ORIGIN = np.array([10, 20, 30.0])  # the box's middle is not the file's origin
SIDES = {(1, 0, 0): (220, 40, 40), (-1, 0, 0): (40, 220, 40), (0, 1, 0): (40, 40, 220),
         (0, -1, 0): (220, 220, 40), (0, 0, 1): (40, 220, 220), (0, 0, -1): (220, 40, 220)}
COLORS = np.array(list(SIDES.values()), np.uint8)


def quads():
    """Corners [24,3] mm of the six sides in the order of SIDES, and triangles [12,3]."""
    corners = []
    for side in SIDES:
        axis = int(np.argmax(np.abs(side)))
        u, v = np.eye(3)[(axis + 1) % 3] * side[axis], np.eye(3)[(axis + 2) % 3]
        corners += [side + a * u + b * v for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    faces = [[4 * i + a, 4 * i + b, 4 * i + c] for i in range(6) for a, b, c in ((0, 1, 2), (0, 2, 3))]
    return np.array(corners) * EXTENTS / 2 + ORIGIN, np.array(faces)


def uv_of_sides():
    """Texture coordinates [24,2], v upward: side i lies on the i-th row of the texture from above."""
    rows = np.repeat(np.arange(6), 4)
    return np.stack([np.full(24, 0.5), 1 - (rows + 0.5) / 6], 1)


def texture_png():
    """Bytes of an image with six rows, one per side."""
    data = io.BytesIO()
    Image.fromarray(np.tile(COLORS[:, None], (1, 6, 1)).repeat(8, 0)).save(data, "png")
    return data.getvalue()


def write_ply(path, binary, textured=False, image="box.png", vertices=None, faces=None):
    """PLY with vertex colours, or as BOP textures it: TextureFile and texture_u, texture_v per vertex."""
    own_vertices, own_faces = quads()
    vertices = own_vertices if vertices is None else vertices
    faces = own_faces if faces is None else faces
    look = uv_of_sides() if textured else np.repeat(COLORS, 4, axis=0)
    kind, names = ("float", ("texture_u", "texture_v")) if textured else ("uchar", ("red", "green", "blue"))
    header = ["ply", f"format {'binary_little_endian' if binary else 'ascii'} 1.0",
              *([f"comment TextureFile {image}"] if textured else []), f"element vertex {len(vertices)}",
              *(f"property float {axis}" for axis in "xyz"), *(f"property {kind} {name}" for name in names),
              f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header\n"]
    if binary:
        vertex = [("xyz", "<f4", 3), ("look", "<f4" if textured else "u1", len(names))]
        face = [("count", "u1"), ("corners", "<i4", 3)]
        body = _records(vertex, vertices, look[:len(vertices)]) + _records(face, np.full(len(faces), 3), faces)
    else:
        lines = [" ".join(map(str, [*xyz, *extra])) for xyz, extra in zip(vertices.tolist(), look.tolist())]
        body = "\n".join(lines + [f"3 {a} {b} {c}" for a, b, c in faces] + [""]).encode()
    path.write_bytes("\n".join(header).encode() + body)
    if textured:
        (path.parent / "box.png").write_bytes(texture_png())
    return path


def write_obj(path, textured, image="box.png"):
    """OBJ with one material per side, or with one texture for all; sides share vertices, not texture coordinates."""
    quad_vertices, faces = quads()
    vertices, shared = np.unique(quad_vertices, axis=0, return_inverse=True)
    lines = ["mtllib box.mtl", *(f"v {x} {y} {z}" for x, y, z in vertices), *(f"vt {u} {v}" for u, v in uv_of_sides())]
    for i, face in enumerate(faces):
        corners = " ".join(f"{shared.reshape(-1)[corner] + 1}/{corner + 1}" for corner in face)
        lines += [f"usemtl {'all' if textured else f'side{i // 2}'}", f"f {corners}"]
    path.write_text("\n".join(lines) + "\n")
    materials = [("all", f"Kd 0.2 0.2 0.2\nmap_Kd {image}")] if textured else [
        (f"side{i}", "Kd " + " ".join(str(v / 255) for v in color)) for i, color in enumerate(COLORS)]
    (path.parent / "box.mtl").write_text("".join(f"newmtl {name}\n{look}\n" for name, look in materials))
    if textured:
        (path.parent / "box.png").write_bytes(texture_png())
    return path


def two_parts():
    """A trimesh scene: three sides textured, three with vertex colours and moved into place by their node."""
    vertices, faces = quads()
    image = Image.open(io.BytesIO(texture_png()))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=image)
    textured = trimesh.Trimesh(vertices[:12], faces[:6], process=False, visual=trimesh.visual.TextureVisuals(
        uv=uv_of_sides()[:12], material=material))
    shift = np.array([0, 0, 500.0])
    # glTF states vertex colours in linear light.
    colored = trimesh.Trimesh(vertices[12:] - shift, faces[6:] - 12, process=False,
                              vertex_colors=np.repeat(linear(COLORS[3:]), 4, axis=0))
    scene = trimesh.Scene()
    scene.add_geometry(textured, "textured")
    scene.add_geometry(colored, "colored", transform=trimesh.transformations.translation_matrix(shift))
    return scene


def linear(srgb):
    """Linear light, uint8, of sRGB uint8."""
    s = srgb / 255
    return np.round(255 * np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)).astype(np.uint8)


def write_glb(path):
    """Both parts in one file."""
    path.write_bytes(two_parts().export(file_type="glb"))
    return path


def write_gltf(path):
    """Both parts as JSON with buffers and images beside it."""
    for name, data in two_parts().export(file_type="gltf").items():
        (path.parent / (path.name if name.endswith(".gltf") else name)).write_bytes(data)
    return path


def write_stl(path, binary=True):
    """STL knows no colour."""
    data = trimesh.Trimesh(*quads(), process=False).export(file_type="stl" if binary else "stl_ascii")
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def _records(fields, *columns):
    rows = np.empty(len(columns[0]), np.dtype(fields))
    for (name, *_), values in zip(fields, columns):
        rows[name] = values
    return rows.tobytes()
