"""Cycles renders a scene: colour, depth along z, and which thing each pixel sees."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowpose_ros.objects.mesh import Mesh
from training.photoreal.blender import empty_scene, load_bpy, silent
from training.photoreal.compose import Camera, Placed, Scene
from training.photoreal.light import Light
from training.photoreal.room import Slab

SENSOR_MM = 36.0


@dataclass(frozen=True, eq=False)
class Picture:
    """linear [H,W,3] float32: colour in linear light; depth [H,W] float32 metres along z at pixel centres, 0 where
    nothing is seen; placed [H,W] int64: index of the thing that is seen, -1 elsewhere."""

    linear: np.ndarray
    depth: np.ndarray
    placed: np.ndarray


def render(scene: Scene, cameras: Sequence[Camera], samples: int, seed: int,
           progress: Callable[[], object] = lambda: None) -> list[Picture]:
    """Render a scene for each camera, all of one lens: in colour with this many samples a pixel and a denoiser, then its
    depth and what is seen. progress: called after each colour image, which takes nearly all of the time."""
    stage = empty_scene()
    materials = {}
    for slab in scene.room.slabs:
        if id(slab.picture) not in materials:  # a table's legs are made of its top's wood
            materials[id(slab.picture)] = _material(slab.picture, slab.roughness, "MIRROR")
        _add_slab(stage, slab, materials[id(slab.picture)])
    for index, item in enumerate(scene.placed, start=1):
        _add_thing(stage, item, index)
    _add_light(stage, scene.light, scene.room.surroundings)
    _add_camera(stage, cameras[0])
    _use_cycles(stage, samples, seed)
    linear = []
    for camera in cameras:
        linear.append(_shoot(stage, camera))
        progress()
    _see_numbers(stage)
    numbers = [_shoot(stage, camera) for camera in cameras]
    return [Picture(colour, number[..., 0], np.round(number[..., 1]).astype(np.int64) - 1)
            for colour, number in zip(linear, numbers)]


# --- what is there -------------------------------------------------------------------------------

def _add_thing(stage, item: Placed, index: int) -> None:
    """A thing's own triangles; pass index 1 and up."""
    from mathutils import Matrix

    mesh = item.thing.mesh
    picture = mesh.textures[0] if mesh.textures else None
    thing = _mesh_object(stage, mesh.vertices, mesh.faces, mesh.uv, _material(picture, item.roughness))
    if picture is None:
        _paint_corners(thing.data, mesh)
    thing.data.normals_split_custom_set(mesh.corner_normals.reshape(-1, 3).tolist())
    thing.matrix_world = Matrix(item.T_world_obj.tolist())
    thing.pass_index = index


def _add_slab(stage, slab: Slab, material) -> None:
    """A box whose picture lies on it as seen from above."""
    corners = np.array([[x, y, z] for z in (slab.low[2], slab.high[2]) for y in (slab.low[1], slab.high[1])
                        for x in (slab.low[0], slab.high[0])])
    faces = np.array([[0, 2, 3], [0, 3, 1], [4, 5, 7], [4, 7, 6], [0, 1, 5], [0, 5, 4], [2, 6, 7], [2, 7, 3],
                      [0, 4, 6], [0, 6, 2], [1, 3, 7], [1, 7, 5]])
    _mesh_object(stage, corners, faces, corners[faces][..., :2] / slab.tile + 0.5, material)


def _mesh_object(stage, vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, material):
    import bpy

    data = bpy.data.meshes.new("mesh")
    data.from_pydata(vertices.tolist(), [], faces.tolist())
    data.uv_layers.new(name="uv").data.foreach_set("uv", np.ascontiguousarray(uv, dtype=np.float32).ravel())
    data.materials.append(material)
    made = bpy.data.objects.new("object", data)
    stage.collection.objects.link(made)
    return made


def _paint_corners(data, mesh: Mesh) -> None:
    """The mesh's colours, in linear light, as the attribute that `_material` reads."""
    rgba = np.ones((mesh.faces.size, 4), np.float32)
    rgba[:, :3] = to_linear(mesh.colors).reshape(-1, 3)
    data.color_attributes.new("colors", "FLOAT_COLOR", "CORNER").data.foreach_set("color", rgba.ravel())


def _material(picture: np.ndarray | None, roughness: float, outside: str = "REPEAT"):
    """A dielectric surface under a picture [h,w,3] uint8 sRGB, or under the mesh's colours.

    outside: how a picture goes on beyond its edges.
    """
    import bpy

    material = bpy.data.materials.new("material")
    nodes, links = material.node_tree.nodes, material.node_tree.links
    surface = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    surface.inputs["Roughness"].default_value = roughness
    if picture is None:
        source = nodes.new("ShaderNodeVertexColor")
        source.layer_name = "colors"
    else:
        source = nodes.new("ShaderNodeTexImage")
        source.image, source.extension = _image(picture), outside
    links.new(source.outputs["Color"], surface.inputs["Base Color"])
    return material


def _image(picture: np.ndarray):
    """A Blender image of a picture [h,w,3] uint8 sRGB; Blender's first row is the lowest."""
    import bpy

    height, width = picture.shape[:2]
    image = bpy.data.images.new("image", width, height)
    rgba = np.ones((height, width, 4), np.float32)
    rgba[..., :3] = picture[::-1] / np.float32(255)
    image.pixels.foreach_set(rgba.ravel())
    image.update()
    return image


def _add_light(stage, light: Light, surroundings: np.ndarray) -> None:
    """Lamps that face the pile, and a sky: a picture whose colour and brightness are the sky's on average."""
    import bpy
    from mathutils import Vector

    for lamp in light.lamps:
        data = bpy.data.lights.new("lamp", "AREA")
        data.shape, data.size, data.energy, data.color = "SQUARE", lamp.side, lamp.power, lamp.color
        made = bpy.data.objects.new("lamp", data)
        made.location = lamp.position
        made.rotation_mode = "QUATERNION"
        made.rotation_quaternion = Vector(-lamp.position).to_track_quat("-Z", "Y")
        stage.collection.objects.link(made)
    world = stage.world = bpy.data.worlds.new("world")
    nodes, links = world.node_tree.nodes, world.node_tree.links
    background = next(node for node in nodes if node.type == "BACKGROUND")
    sky, tint = nodes.new("ShaderNodeTexEnvironment"), nodes.new("ShaderNodeVectorMath")
    sky.image = _image(np.concatenate([surroundings, surroundings[:, ::-1]], 1))
    tint.operation = "MULTIPLY"
    tint.inputs[1].default_value = light.sky / to_linear(surroundings / 255).mean((0, 1)).clip(0.02)
    links.new(sky.outputs["Color"], tint.inputs[0])
    links.new(tint.outputs[0], background.inputs["Color"])


def _add_camera(stage, camera: Camera) -> None:
    """A camera's lens; its image plane ends at the outer edges of the pixels."""
    import bpy

    (height, width), K = camera.size, camera.K
    data = bpy.data.cameras.new("camera")
    data.sensor_fit, data.sensor_width, data.lens = "HORIZONTAL", SENSOR_MM, K[0, 0] * SENSOR_MM / width
    data.shift_x, data.shift_y = ((width - 1) / 2 - K[0, 2]) / width, (K[1, 2] - (height - 1) / 2) / width
    data.clip_start, data.clip_end = 0.01, 100.0
    stage.camera = bpy.data.objects.new("camera", data)
    stage.collection.objects.link(stage.camera)
    stage.render.resolution_x, stage.render.resolution_y, stage.render.resolution_percentage = width, height, 100


# --- how it is rendered --------------------------------------------------------------------------

def _use_cycles(stage, samples: int, seed: int) -> None:
    stage.render.engine = "CYCLES"
    stage.render.use_persistent_data = True  # the second picture needs no second set-up
    stage.cycles.device, stage.cycles.samples, stage.cycles.seed = "CPU", samples, seed
    stage.cycles.use_denoising = True
    stage.cycles.use_adaptive_sampling, stage.cycles.adaptive_threshold = True, 0.05
    stage.cycles.max_bounces, stage.cycles.sample_clamp_indirect = 4, 10.0
    stage.cycles.caustics_reflective = stage.cycles.caustics_refractive = False
    form = stage.render.image_settings
    form.file_format, form.color_mode, form.color_depth, form.exr_codec = "OPEN_EXR", "RGB", "32", "ZIP"


def _see_numbers(stage) -> None:
    """From now on a picture's red is depth along z and its green the pass index, at the pixels' centres, unblended.

    Cycles' own passes take them at a random place of the pixel.
    """
    import bpy

    material = bpy.data.materials.new("numbers")
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    view, which, join, shine, out = (nodes.new(f"ShaderNode{name}") for name in (
        "CameraData", "ObjectInfo", "CombineColor", "Emission", "OutputMaterial"))
    links.new(view.outputs["View Z Depth"], join.inputs[0])
    links.new(which.outputs["Object Index"], join.inputs[1])
    links.new(join.outputs[0], shine.inputs["Color"])
    links.new(shine.outputs[0], out.inputs["Surface"])
    stage.view_layers[0].material_override = material
    stage.render.film_transparent = True
    cycles = stage.cycles
    cycles.samples, cycles.use_adaptive_sampling, cycles.use_denoising, cycles.max_bounces = 1, False, False, 0
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 0.01


def _shoot(stage, camera: Camera) -> np.ndarray:
    """The picture [H,W,3] float32, in linear light, that Blender renders now from where the camera is."""
    from mathutils import Matrix

    bpy = load_bpy()
    # Blender's camera looks along -z with y up.
    stage.camera.matrix_world = Matrix((np.linalg.inv(camera.T_cam_world) @ np.diag([1.0, -1, -1, 1])).tolist())
    with tempfile.TemporaryDirectory() as folder:
        stage.render.filepath = str(Path(folder) / "picture.exr")
        with silent(1):
            bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(stage.render.filepath)
        width, height = image.size
        values = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(values)
        bpy.data.images.remove(image)
    return values.reshape(height, width, 4)[::-1, :, :3].copy()


def to_linear(color: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values, both in [0,1] (IEC 61966-2-1)."""
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
