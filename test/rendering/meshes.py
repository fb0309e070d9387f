"""Small meshes with a known shape and look."""

import numpy as np

from flowpose_ros.objects.mesh import Mesh


def plain(vertices, faces, colors=None):
    """A mesh of one colour per corner [F,3,3], grey if none are given."""
    faces = np.asarray(faces, np.int32)
    colors = np.full((len(faces), 3, 3), 0.6) if colors is None else colors
    return Mesh(np.asarray(vertices, np.float32), faces, np.asarray(colors, np.float32),
                np.zeros((len(faces), 3, 2), np.float32), np.full(len(faces), -1, np.int16))


def quad(half, z=0.0):
    """A square of side 2 half in the plane z, its front towards -z."""
    corners = [(-half, -half, z), (half, -half, z), (half, half, z), (-half, half, z)]
    return plain(corners, [(0, 2, 1), (0, 3, 2)])


def sphere(radius, steps=64):
    """A sphere around the origin of 2 steps^2 triangles, each corner in the colour of its direction."""
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, steps + 1), np.linspace(0, np.pi, steps + 1))
    direction = np.stack([np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), np.cos(v)], -1).reshape(-1, 3)
    faces = grid_faces(steps)
    return plain(radius * direction, faces, (direction[faces] + 1) / 2)


def textured_box(extents, seed=0):
    """A box, its middle away from the origin, each side showing the whole of a random chequered texture
    twice over, and the sides' textures alternating between two images."""
    sides = []
    for axis in range(3):
        for sign in (-1, 1):
            middle, a, b = sign * np.eye(3)[axis], np.eye(3)[axis - 2], np.eye(3)[axis - 1]
            sides.append([middle - a - b, middle + a - b, middle + a + b, middle - a + b])
    vertices = np.reshape(sides, (-1, 3)) * np.asarray(extents) / 2 + [0.01, -0.02, 0.03]
    faces = np.array([(4 * i + a, 4 * i + b, 4 * i + c) for i in range(6) for a, b, c in ((0, 1, 2), (0, 2, 3))])
    uv = np.tile(np.array([(-0.5, -0.5), (1.5, -0.5), (1.5, 1.5), (-0.5, 1.5)], np.float32), (6, 1))
    coarse = np.random.default_rng(seed).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    textures = tuple(np.kron(image, np.ones((8, 8, 1), np.uint8)) for image in coarse)
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32), np.ones((12, 3, 3), np.float32), uv[faces],
                np.repeat([0, 1, 0, 1, 0, 1], 2).astype(np.int16), textures)


def joined(*meshes):
    """One mesh of several parts, as a file with several parts becomes one."""
    first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    images = np.cumsum([0, *(len(mesh.textures) for mesh in meshes)])
    index = [np.where(m.face_texture < 0, -1, m.face_texture + i).astype(np.int16) for m, i in zip(meshes, images)]
    return Mesh(np.concatenate([m.vertices for m in meshes]),
                np.concatenate([m.faces + i for m, i in zip(meshes, first)]).astype(np.int32),
                np.concatenate([m.colors for m in meshes]), np.concatenate([m.uv for m in meshes]),
                np.concatenate(index), sum((m.textures for m in meshes), ()))


def moved(mesh, offset):
    """The mesh shifted by offset [3], metres."""
    return Mesh(mesh.vertices + np.asarray(offset, np.float32), mesh.faces, mesh.colors, mesh.uv,
                mesh.face_texture, mesh.textures)


def grid_faces(steps):
    """Triangles over a grid of (steps + 1)^2 vertices."""
    i = np.arange((steps + 1) ** 2).reshape(steps + 1, steps + 1)
    a, b, c, d = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, 1:].ravel(), i[1:, :-1].ravel()
    return np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)])
