"""The renderer over OpenGL: pyrender draws without a display which triangle each pixel sees.

The triangle's number is drawn as its colour, and everything else follows from it and the depth
buffer through the shading that all renderers share.
"""

from __future__ import annotations

import os
import weakref
from types import ModuleType

import numpy as np
import torch

from flowpose_ros.errors import FlowposeError
from flowpose_ros.objects.mesh import Mesh
from flowpose_ros.rendering.renderer import Rendering, check_views, pixel_rays
from flowpose_ros.rendering.shading import Hits, rotate_per_view, row_dot, shade

GL_FROM_CV = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenGL's camera looks along -z with y up."""

NEAREST_Z = 1e-3
"""Share of the far plane that the near plane keeps, for objects that reach behind the camera."""


class OpenglRenderer:
    """Renderer protocol over pyrender and EGL. Use one per thread, and close it in that thread.

    Raises FlowposeError, with the packages that are missing, where OpenGL cannot start.
    """

    def __init__(self) -> None:
        self._pyrender = load_pyrender()
        try:
            self._offscreen = self._pyrender.OffscreenRenderer(1, 1)
        except Exception as error:  # what a driver raises is as manifold as drivers are
            raise no_opengl(error) from error
        self._scenes: weakref.WeakKeyDictionary[Mesh, object] = weakref.WeakKeyDictionary()

    def close(self) -> None:
        """Free the OpenGL context; the renderer cannot be used afterwards."""
        self._offscreen.delete()

    def __enter__(self) -> OpenglRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def render(self, mesh: Mesh, T_cam_obj: torch.Tensor, K: torch.Tensor,
               size: tuple[int, int]) -> Rendering:
        """Render B template views (see rendering.renderer.Renderer)."""
        T, K = check_views(T_cam_obj, K, size)
        return shade(mesh, self.cast(mesh, T, K, size), T, size).to(T_cam_obj.device)

    def cast(self, mesh: Mesh, T_cam_obj: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> Hits:
        """What the pixels of B views see: T_cam_obj [B,4,4], K [B,3,3], size (H, W)."""
        self._offscreen.viewport_height, self._offscreen.viewport_width = size
        pixels = size[0] * size[1]
        number, depth = np.zeros((len(K), pixels), np.int64), np.zeros((len(K), pixels), np.float32)
        for i in range(len(K)):
            number[i], depth[i] = self._draw(mesh, T_cam_obj[i], K[i])
        pixel = np.flatnonzero(number)
        face, z, view = number.ravel()[pixel] - 1, depth.ravel()[pixel], pixel // pixels
        direction = pixel_rays(K, size).reshape(-1, 3)[pixel]
        R, t = T_cam_obj[:, :3, :3], T_cam_obj[:, :3, 3]
        xyz = rotate_per_view(R.transpose(0, 2, 1), direction * z[:, None] - t[view], view)
        return Hits(pixel, z, face, barycentric(mesh.vertices[mesh.faces[face]], xyz), direction)

    def _draw(self, mesh: Mesh, T: np.ndarray, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers [H*W] of the faces seen, from 1, 0 for none, and depths [H*W] in metres."""
        scene = self._scenes.get(mesh)
        if scene is None:
            scene = self._scenes[mesh] = numbered_scene(self._pyrender, mesh)
        camera = scene.main_camera_node.camera
        camera.fx, camera.fy = float(K[0, 0]), float(K[1, 1])
        # OpenGL counts from the image's border, we from the middle of the first pixel.
        camera.cx, camera.cy = float(K[0, 2]) + 0.5, float(K[1, 2]) + 0.5
        camera.znear, camera.zfar = depth_range(mesh, T)
        (node,) = scene.mesh_nodes
        scene.set_pose(node, GL_FROM_CV @ T)
        color, depth = self._offscreen.render(scene, self._pyrender.RenderFlags.FLAT
                                              | self._pyrender.RenderFlags.SKIP_CULL_FACES)
        return color.reshape(-1, 3).astype(np.int64) @ [1, 256, 65536], depth.reshape(-1)


def numbered_scene(pyrender: ModuleType, mesh: Mesh):
    """A scene with a camera and the mesh, each face in the colour of its number, from 1."""
    number = np.arange(1, len(mesh.faces) + 1, dtype=np.uint32)
    color = np.stack([number & 255, number >> 8 & 255, number >> 16, np.full_like(number, 255)], 1) / 255
    primitive = pyrender.Primitive(positions=mesh.vertices[mesh.faces].reshape(-1, 3),
                                   color_0=color.repeat(3, 0), mode=pyrender.GLTF.TRIANGLES,
                                   material=pyrender.MetallicRoughnessMaterial())
    scene = pyrender.Scene(bg_color=np.zeros(4))
    scene.add(pyrender.Mesh([primitive]))
    scene.add(pyrender.IntrinsicsCamera(1, 1, 0, 0))
    return scene


def depth_range(mesh: Mesh, T: np.ndarray) -> tuple[float, float]:
    """Near and far plane in metres, close around the mesh, so that the depth buffer is fine there."""
    z = float(T[2, :3] @ mesh.center + T[2, 3])
    far = max(z + 1.01 * mesh.radius, NEAREST_Z * mesh.radius)
    return max(z - 1.01 * mesh.radius, NEAREST_Z * far), far


def barycentric(corners: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """Weights [N,3] of the corners [N,3,3] of triangles at points [N,3] in their planes.

    A triangle without area gives its first corner.
    """
    corners = corners.astype(np.float64)  # thin triangles lose their area to float32
    a, b, p = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], xyz - corners[:, 0]
    aa, ab, bb, ap, bp = row_dot(a, a), row_dot(a, b), row_dot(b, b), row_dot(a, p), row_dot(b, p)
    area = aa * bb - ab * ab
    inverse = np.divide(1, area, out=np.zeros_like(area), where=area > 1e-12 * aa * bb)
    u, v = (bb * ap - ab * bp) * inverse, (aa * bp - ab * ap) * inverse
    return np.stack([1 - u - v, u, v], 1)


def load_pyrender() -> ModuleType:
    """pyrender 0.1.45 for numpy 2, without a display, one sample per pixel."""
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    np.infty = np.inf  # pyrender uses numpy 1's second name for it
    try:
        import pyrender
        from pyrender import renderer
        from pyrender.platforms import egl
    except Exception as error:  # PyOpenGL without libEGL ends in an AttributeError
        raise no_opengl(error) from error
    renderer.glRenderbufferStorageMultisample = one_sample_storage
    egl.EGLPlatform.delete_context = delete_context
    return pyrender


def one_sample_storage(target: int, samples: int, kind: int, width: int, height: int) -> None:
    """For pyrender's multisampled buffer: a mean over samples would mix depths and face numbers."""
    from OpenGL.GL import glRenderbufferStorage

    glRenderbufferStorage(target, kind, width, height)


def delete_context(platform) -> None:
    """For pyrender, which also ends the display, and with it every other renderer of the process."""
    from OpenGL.EGL import eglDestroyContext

    if platform._egl_context is not None:
        eglDestroyContext(platform._egl_display, platform._egl_context)
        platform._egl_context = None


def no_opengl(error: Exception) -> FlowposeError:
    """The error for a machine where OpenGL does not start, with the command that mends it."""
    return FlowposeError(f"OpenGL does not start ({type(error).__name__}: {error}): the pyrender renderer needs "
                         "EGL; sudo apt-get install libegl1 libgl1 libgl1-mesa-dri, then make setup")
