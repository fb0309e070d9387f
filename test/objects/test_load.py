"""Every mesh format read back in metres and in its colours; every unusable file refused by name."""

import json

import mesh_files
import numpy as np
import open3d as o3d
import pytest
import trimesh
from mesh_files import EXTENTS, ORIGIN, SIDES
from PIL import Image

from flowpose_ros.errors import MeshError
from flowpose_ros.objects.appearance import PLAIN_GREY
from flowpose_ros.objects.load import MeshLimits, load_mesh
from flowpose_ros.objects.unread import texture_name
from flowpose_ros.rendering.raycast import RaycastRenderer
from flowpose_ros.rendering.shading import surface_at

COLORED = {
    "ply_ascii.ply": lambda path: mesh_files.write_ply(path, binary=False),
    "ply_binary.ply": lambda path: mesh_files.write_ply(path, binary=True),
    "ply_ascii_textured.ply": lambda path: mesh_files.write_ply(path, binary=False, textured=True),
    "ply_binary_textured.ply": lambda path: mesh_files.write_ply(path, binary=True, textured=True),
    "materials.obj": lambda path: mesh_files.write_obj(path, textured=False),
    "textured.obj": lambda path: mesh_files.write_obj(path, textured=True),
    "UPPER.PLY": lambda path: mesh_files.write_ply(path, binary=True),
    "parts.glb": mesh_files.write_glb,
    "parts.gltf": mesh_files.write_gltf,
}


def colors_seen(mesh):
    """sRGB [6,3] in 0 to 255 where rays from outside, one per side, meet the mesh."""
    sides = np.array(list(SIDES), np.float32)
    rays = np.concatenate([ORIGIN / 1000 + sides, -sides], 1).astype(np.float32)
    hit = RaycastRenderer().scene(mesh).cast_rays(o3d.core.Tensor(rays))
    assert np.allclose(hit["t_hit"].numpy(), 1 - np.abs(sides) @ EXTENTS / 2000, atol=1e-5)
    u, v = hit["primitive_uvs"].numpy().T
    return 255 * surface_at(mesh, hit["primitive_ids"].numpy().astype(np.int64), np.stack([1 - u - v, u, v], 1)).albedo


@pytest.mark.parametrize("name", COLORED)
def test_a_ray_sees_each_side_in_its_colour_and_place(name, tmp_path):
    mesh = load_mesh(COLORED[name](tmp_path / name), "mm")
    # One step of 8 bits is lost where vertex colours are stored in linear light.
    assert np.abs(colors_seen(mesh) - mesh_files.COLORS).max() < 3
    assert np.allclose(mesh.center, ORIGIN / 1000, atol=1e-6), "the file's own origin was moved"


@pytest.mark.parametrize("binary", [True, False])
def test_stl_is_plain_grey(binary, tmp_path):
    mesh = load_mesh(mesh_files.write_stl(tmp_path / "box.stl", binary), "mm")
    assert np.allclose(colors_seen(mesh), 255 * PLAIN_GREY)


@pytest.mark.parametrize("unit, metres", [("m", 1), ("cm", 0.01), ("mm", 0.001), ("inch", 0.0254)])
def test_units(unit, metres, tmp_path):
    vertices, _ = mesh_files.quads()
    path = mesh_files.write_ply(tmp_path / "box.ply", True, vertices=vertices * 0.001 / metres)
    mesh = load_mesh(path, unit)
    assert np.allclose(np.ptp(mesh.vertices, axis=0), EXTENTS / 1000, rtol=1e-5)
    assert mesh.diameter == pytest.approx(np.linalg.norm(EXTENTS) / 1000, rel=1e-5)


@pytest.mark.parametrize("unpainted", [False, True])
def test_texture_coordinates_without_a_texture(unpainted, tmp_path):
    path = mesh_files.write_ply(tmp_path / "box.ply", False)
    header, body = path.read_text().split("end_header\n")
    if unpainted:
        header = header.replace("red", "other_a").replace("green", "other_b").replace("blue", "other_c")
    header = header.replace("element face", "property float texture_u\nproperty float texture_v\nelement face")
    lines = body.splitlines()
    lines[:24] = [f"{line} 0.5 0.{i % 4}" for i, line in enumerate(lines[:24])]
    path.write_text(f"{header}end_header\n" + "\n".join(lines) + "\n")
    expected = np.full((6, 3), 255 * PLAIN_GREY) if unpainted else mesh_files.COLORS
    assert np.allclose(colors_seen(load_mesh(path, "mm")), expected, atol=1)


def test_vertex_colours_of_an_obj_hold_beside_a_plain_material(tmp_path):
    vertices, faces = mesh_files.quads()
    path = tmp_path / "box.obj"
    lines = ["mtllib box.mtl", "usemtl plain"]
    lines += [" ".join(map(str, ("v", *xyz, *color))) for xyz, color in zip(vertices, np.repeat(mesh_files.COLORS, 4, 0) / 255)]
    path.write_text("\n".join(lines + [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in faces]))
    (tmp_path / "box.mtl").write_text("newmtl plain\nKd 0.5 0.5 0.5\n")
    assert np.abs(colors_seen(load_mesh(path, "mm")) - mesh_files.COLORS).max() < 3


def test_colours_under_their_older_names(tmp_path):
    path = mesh_files.write_ply(tmp_path / "box.ply", True)
    data = path.read_bytes()
    for name in (b"red", b"green", b"blue"):
        data = data.replace(b"uchar " + name, b"uchar diffuse_" + name)
    path.write_bytes(data)
    assert np.allclose(colors_seen(load_mesh(path, "mm")), mesh_files.COLORS)


def test_a_texture_of_sixteen_bits_of_grey(tmp_path):
    path = mesh_files.write_obj(tmp_path / "box.obj", textured=True)
    Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(tmp_path / "box.png")
    assert np.abs(load_mesh(path, "mm").textures[0].astype(int) - 128).max() == 0


def test_options_of_a_material_that_do_not_move_its_map(tmp_path):
    path = mesh_files.write_obj(tmp_path / "box.obj", textured=True, image="-s 1 1 1 -o 0.0 0 -clamp on box.png")
    assert np.abs(colors_seen(load_mesh(path, "mm")) - mesh_files.COLORS).max() < 3
    assert texture_name(path, "my -s 2 picture.png") == "my -s 2 picture.png"
    moved = mesh_files.write_obj(tmp_path / "moved.obj", textured=True, image="-s 2 2 1 box.png")
    assert "got -s 2 2 1; bake it" in refusal(moved)


def edited_gltf(path, edit):
    """A glTF of both parts, its JSON changed by a function."""
    mesh_files.write_gltf(path)
    tree = json.loads(path.read_text())
    edit(tree)
    path.write_text(json.dumps(tree))
    return path


def base_color_texture(tree):
    return next(material["pbrMetallicRoughness"]["baseColorTexture"] for material in tree["materials"]
                if "baseColorTexture" in material["pbrMetallicRoughness"])


def test_names_in_a_gltf_are_percent_encoded(tmp_path):
    (buffer,) = {entry["uri"] for entry in json.loads(mesh_files.write_gltf(tmp_path / "box.gltf").read_text())["buffers"][:1]}
    (tmp_path / buffer).rename(tmp_path / "my d\u00e4ta.bin")
    path = tmp_path / "box.gltf"
    path.write_text(path.read_text().replace(buffer, "my%20d%C3%A4ta.bin"))
    assert len(load_mesh(path, "mm").faces) == 12


@pytest.mark.parametrize("edit, told", [
    (lambda tree: tree.update(extensionsRequired=["KHR_draco_mesh_compression"]), "got KHR_draco_mesh_compression, which"),
    (lambda tree: base_color_texture(tree).update(texCoord=1), "a second set of texture coordinates"),
    (lambda tree: base_color_texture(tree).update(extensions={"KHR_texture_transform": {"scale": [2, 2]}}),
     "KHR_texture_transform"),
    (lambda tree: [accessor.update(normalized=True) for accessor in tree["accessors"]], "normalized integers")])
def test_what_a_gltf_asks_for_and_nothing_reads_is_named(edit, told, tmp_path):
    assert told in refusal(edited_gltf(tmp_path / "parts.gltf", edit))


def test_the_same_in_a_glb(tmp_path):
    path = mesh_files.write_glb(tmp_path / "parts.glb")
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    tree = json.loads(data[20:20 + length]) | {"extensionsRequired": ["KHR_mesh_quantization"]}
    chunk = json.dumps(tree).encode()
    chunk += b" " * (-len(chunk) % 4)
    path.write_bytes(data[:8] + (len(data) + len(chunk) - length).to_bytes(4, "little") + len(chunk).to_bytes(4, "little")
                     + data[16:20] + chunk + data[20 + length:])
    assert "got KHR_mesh_quantization, which" in refusal(path)


def test_what_changes_neither_shape_nor_colours_of_a_gltf_is_read(tmp_path):
    def edit(tree):
        tree["extensionsRequired"] = ["KHR_materials_ior"]
        base_color_texture(tree)["extensions"] = {"KHR_texture_transform": {"offset": [0, 0], "scale": [1, 1]}}

    mesh = load_mesh(edited_gltf(tmp_path / "parts.gltf", edit), "mm")
    assert np.abs(colors_seen(mesh) - mesh_files.COLORS).max() < 3


def test_both_parts_share_the_arrays(tmp_path):
    mesh = load_mesh(mesh_files.write_glb(tmp_path / "parts.glb"), "mm")
    assert len(mesh.faces) == 12 and len(mesh.textures) == 1
    assert sorted(mesh.face_texture.tolist()) == [-1] * 6 + [0] * 6


def test_parts_that_share_a_texture_have_it_once(tmp_path):
    scene = mesh_files.two_parts()
    textured = next(part for part in scene.geometry.values() if part.visual.kind == "texture")
    again = trimesh.Trimesh(textured.vertices + [0, 0, 900], textured.faces, process=False, visual=textured.visual)
    scene.add_geometry(again)
    (tmp_path / "parts.glb").write_bytes(scene.export(file_type="glb"))
    mesh = load_mesh(tmp_path / "parts.glb", "mm")
    assert len(mesh.textures) == 1 and (mesh.face_texture == 0).sum() == 12


def test_a_materials_colour_in_a_gltf_is_linear_light(tmp_path):
    vertices, faces = mesh_files.quads()
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[*mesh_files.linear(np.array([200, 100, 50])), 255])
    visual = trimesh.visual.TextureVisuals(uv=mesh_files.uv_of_sides(), material=material)
    trimesh.Trimesh(vertices, faces, process=False, visual=visual).export(tmp_path / "box.glb")
    assert np.abs(255 * load_mesh(tmp_path / "box.glb", "mm").colors - [200, 100, 50]).max() < 3


def test_triangles_without_area_and_unused_vertices_are_left_out(tmp_path):
    _, faces = mesh_files.quads()
    mesh = load_mesh(mesh_files.write_ply(tmp_path / "box.ply", True, faces=np.vstack([faces[:10], [[0, 0, 1]]])), "mm")
    assert len(mesh.faces) == 10 and len(mesh.vertices) == 20


def test_a_single_triangle_has_a_diameter(tmp_path):
    path = tmp_path / "sign.obj"
    path.write_text("v 0 0 0\nv 30 0 0\nv 0 40 0\nf 1 2 3\n")
    assert load_mesh(path, "mm").diameter == pytest.approx(0.05)


# --- refusals ---------------------------------------------------------------------------------------------

def refusal(path, unit="mm", limits=MeshLimits(), root=None):
    """The one line with which a file is refused; it names the file."""
    with pytest.raises(MeshError) as caught:
        load_mesh(path, unit, limits, root)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_a_unit_is_never_guessed(tmp_path):
    path = mesh_files.write_ply(tmp_path / "box.ply", True)
    assert "expected one of m, cm, mm, inch, got 'feet'" in refusal(path, "feet")
    assert "got None" in refusal(path, None)


@pytest.mark.parametrize("unit, scale", [("m", 1), ("mm", 0.001)])
def test_a_size_that_betrays_the_unit(unit, scale, tmp_path):
    vertices, _ = mesh_files.quads()
    path = mesh_files.write_ply(tmp_path / "box.ply", True, vertices=vertices * scale)
    assert "expected a diameter from 0.005 to 5 m" in refusal(path, unit)
    assert load_mesh(path, unit, MeshLimits(min_diameter=0, max_diameter=1000)).diameter > 0


def test_missing_folder_and_empty(tmp_path):
    (tmp_path / "folder.ply").mkdir()
    (tmp_path / "empty.ply").touch()
    assert "got nothing there" in refusal(tmp_path / "none.ply")
    assert "got a folder" in refusal(tmp_path / "folder.ply")
    assert "got 0" in refusal(tmp_path / "empty.ply")


def test_other_formats(tmp_path):
    (tmp_path / "box.step").write_text("ISO-10303-21;")
    assert "expected a file ending in .ply, .obj, .glb, .gltf, .stl, got .step" in refusal(tmp_path / "box.step")


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb", ".gltf", ".stl"])
def test_noise_instead_of_a_mesh(suffix, tmp_path):
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(np.random.default_rng(0).bytes(400))
    refusal(path)


@pytest.mark.parametrize("name", ["ply_binary.ply", "ply_ascii.ply", "parts.glb"])
def test_a_file_cut_short(name, tmp_path):
    path = COLORED[name](tmp_path / name)
    path.write_bytes(path.read_bytes()[:-300])
    refusal(path)


def test_a_point_cloud_has_no_triangles(tmp_path):
    path = mesh_files.write_ply(tmp_path / "cloud.ply", False, faces=np.zeros((0, 3), int))
    assert "expected triangles, got none" in refusal(path)


def test_vertices_that_are_not_finite(tmp_path):
    vertices, _ = mesh_files.quads()
    vertices[5, 1] = np.nan
    assert "1 that are not, the first at index 5" in refusal(
        mesh_files.write_ply(tmp_path / "nan.ply", True, vertices=vertices))


def test_indices_beyond_the_vertices(tmp_path):
    _, faces = mesh_files.quads()
    faces[3, 1] = 24
    refusal(mesh_files.write_ply(tmp_path / "index.ply", True, faces=faces))


def test_nothing_but_triangles_without_area(tmp_path):
    path = mesh_files.write_ply(tmp_path / "flat.ply", True, faces=np.array([[0, 0, 1], [2, 3, 3]]))
    assert "expected triangles with an area, got 2 without" in refusal(path)


def test_several_textures_in_a_ply(tmp_path):
    path = mesh_files.write_ply(tmp_path / "box.ply", True, textured=True)
    path.write_bytes(path.read_bytes().replace(b"comment", b"comment TextureFile other.png\ncomment", 1))
    assert "got 2 textures in one PLY" in refusal(path)


def test_colours_of_faces_with_more_corners(tmp_path):
    path = tmp_path / "box.ply"
    vertices, _ = mesh_files.quads()
    header = ["ply", "format ascii 1.0", "element vertex 24", *(f"property float {axis}" for axis in "xyz"), "element face 6",
              "property list uchar int vertex_indices", *(f"property uchar {c}" for c in ("red", "green", "blue")), "end_header"]
    body = [" ".join(map(str, xyz)) for xyz in vertices] + [f"4 {4 * i} {4 * i + 1} {4 * i + 2} {4 * i + 3} 9 9 9" for i in range(6)]
    path.write_text("\n".join(header + body) + "\n")
    assert "triangulate it" in refusal(path)


def test_limits(tmp_path):
    path = mesh_files.write_ply(tmp_path / "box.ply", True, textured=True)
    assert "expected 1 to 100 bytes" in refusal(path, limits=MeshLimits(max_bytes=100))
    assert "at most 11 triangles, got 12" in refusal(path, limits=MeshLimits(max_faces=11))
    assert "at most 32 pixels a side, got 6 x 48" in refusal(path, limits=MeshLimits(max_texture_side=32))


@pytest.mark.parametrize("write", [lambda path: mesh_files.write_ply(path.with_suffix(".ply"), True, textured=True),
                                   lambda path: mesh_files.write_obj(path.with_suffix(".obj"), textured=True)])
def test_a_missing_texture_is_named_or_done_without(write, tmp_path, caplog):
    path = write(tmp_path / "box")
    (tmp_path / "box.png").unlink()
    assert "box.png" in refusal(path) and not caplog.records
    assert load_mesh(path, "mm", MeshLimits(allow_missing_texture=True)).textures == ()


def test_a_missing_material_file_is_named(tmp_path):
    path = mesh_files.write_obj(tmp_path / "box.obj", textured=False)
    (tmp_path / "box.mtl").unlink()
    assert "box.mtl" in refusal(path)


def test_a_texture_that_is_no_image(tmp_path):
    path = mesh_files.write_obj(tmp_path / "box.obj", textured=True)
    (tmp_path / "box.png").write_bytes(b"no image at all")
    refusal(path)


@pytest.mark.parametrize("textured_as", ["../secret.png", "/etc/hostname", "link.png"])
def test_textures_stay_inside_the_folder(textured_as, tmp_path):
    folder = tmp_path / "objects"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(mesh_files.texture_png())
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    for path in (mesh_files.write_ply(folder / "box.ply", True, textured=True, image=textured_as),
                 mesh_files.write_obj(folder / "box.obj", textured=True, image=textured_as)):
        assert f"expected a file inside {folder}" in refusal(path)


def test_textures_may_come_from_the_objects_folder(tmp_path):
    (tmp_path / "box").mkdir()
    (tmp_path / "shared.png").write_bytes(mesh_files.texture_png())
    path = mesh_files.write_ply(tmp_path / "box" / "box.ply", True, textured=True, image="../shared.png")
    refusal(path)
    assert len(load_mesh(path, "mm", root=tmp_path).textures) == 1


def test_equal_files_have_equal_hashes(tmp_path):
    first, second = (mesh_files.write_ply(tmp_path / f"{name}.ply", True) for name in "ab")
    assert load_mesh(first, "mm").content_hash == load_mesh(second, "mm").content_hash
    assert load_mesh(first, "mm").content_hash != load_mesh(second, "cm").content_hash


def test_a_scan_of_many_faces_keeps_its_vertices(tmp_path):
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=50)
    sphere.export(tmp_path / "sphere.ply")
    mesh = load_mesh(tmp_path / "sphere.ply", "mm")
    assert len(mesh.faces) == len(sphere.faces) and len(mesh.vertices) == len(sphere.vertices)
    assert mesh.diameter == pytest.approx(0.1, rel=5e-3)
