"""Each renderer against what geometry says it must see, and its borders."""

import numpy as np
import pytest
import torch

from flowpose_ros.errors import FlowposeError, GeometryError
from flowpose_ros.geometry.camera import back_project, pixel_grid
from flowpose_ros.geometry.transforms import invert, transform_points
from flowpose_ros.rendering import opengl as opengl_module
from flowpose_ros.rendering import raster as raster_module
from flowpose_ros.rendering.opengl import OpenglRenderer, barycentric
from flowpose_ros.rendering.renderer import render_each
from rendering.meshes import quad, sphere, textured_box

SIZE = (60, 64)


def camera(z, fx=100.0, fy=100.0, cx=30.25, cy=29.75):
    """T_cam_obj [1,4,4] with the object's axes along the camera's at distance z, and K [1,3,3]."""
    T = torch.eye(4)[None].clone()
    T[0, 2, 3] = z
    return T, torch.tensor([[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]])


def test_square_covers_exactly_the_pixels_whose_centres_it_covers(renderer):
    # The square spans u from 10.25 to 50.25 and v from 9.75 to 49.75.
    seen = renderer.render(quad(0.1), *camera(0.5), SIZE)
    expected = torch.zeros(SIZE, dtype=torch.bool)
    expected[10:50, 11:51] = True
    assert torch.equal(seen.mask[0], expected)
    assert torch.allclose(seen.depth[0][expected], torch.tensor(0.5), atol=1e-6)


def test_square_has_points_normals_and_headlight_of_its_place(renderer):
    T, K = camera(0.5)
    seen = renderer.render(quad(0.1), T, K, SIZE)
    mask = seen.mask[0]
    rays = back_project(pixel_grid(*SIZE)[mask], torch.ones(int(mask.sum())), K[0])
    assert torch.allclose(seen.xyz[0][:, mask].T, 0.5 * rays - torch.tensor([0, 0, 0.5]), atol=1e-5)
    assert torch.allclose(seen.normal[0][:, mask].T, torch.tensor([0.0, 0, -1]).expand(len(rays), 3), atol=1e-5)
    cosine = 1 / rays.norm(dim=1)
    assert torch.allclose(seen.rgb[0][:, mask], 0.6 * (0.55 + 0.45 * cosine).expand(3, -1), atol=1e-5)


def test_back_of_a_face_is_seen_and_its_normal_turned(renderer):
    T, K = camera(0.5)
    T[0, :3, :3] = torch.diag(torch.tensor([-1.0, 1, -1]))
    seen = renderer.render(quad(0.1), T, K, SIZE)
    assert seen.mask.sum() > 1500
    assert (seen.normal[0, 2][seen.mask[0]] + 1).abs().max() < 1e-5


def test_sphere_has_the_depth_of_the_equation(renderer):
    T, K = camera(0.4, fx=180, fy=150)
    seen = renderer.render(sphere(0.05, 160), T, K, SIZE)
    rays = back_project(pixel_grid(*SIZE).reshape(-1, 2), torch.ones(SIZE[0] * SIZE[1]), K[0])
    a, b, c = (rays * rays).sum(1), -2 * rays[:, 2] * 0.4, 0.4**2 - 0.05**2
    z = ((-b - (b * b - 4 * a * c).sqrt()) / (2 * a)).reshape(SIZE)
    mask = seen.mask[0]
    rim = z.nan_to_num(0) > 0
    assert (mask ^ rim).sum() < 0.02 * rim.sum()  # the triangles lie within the sphere
    steep = (seen.normal[0, 2].abs() < 0.3) | ~mask | ~rim
    assert (seen.depth[0] - z)[~steep].abs().max() < 1e-4


def test_points_lie_where_depth_says(renderer, cameras):
    T, K = cameras(5)
    seen = renderer.render(textured_box((0.1, 0.07, 0.05)), T, K, (180, 240))
    grid = pixel_grid(180, 240).reshape(1, -1, 2).expand(5, -1, 2)
    xyz = transform_points(invert(T), back_project(grid, seen.depth.flatten(1), K))
    error = (xyz - seen.xyz.flatten(2).transpose(1, 2)).norm(dim=2)
    assert error[seen.mask.flatten(1)].max() < 1e-5


def test_background_is_zero(renderer, cameras):
    seen = renderer.render(textured_box((0.1, 0.07, 0.05)), *cameras(2), (180, 240))
    assert 0 < seen.mask.float().mean() < 0.9
    for image in (seen.rgb, seen.normal, seen.xyz, seen.depth[:, None]):
        assert (image * ~seen.mask[:, None]).abs().max() == 0


def test_a_batch_is_its_views_one_by_one(renderer, cameras):
    mesh, (T, K) = textured_box((0.1, 0.07, 0.05)), cameras(3)
    batch = renderer.render(mesh, T, K, SIZE)
    for i in range(3):
        one = renderer.render(mesh, T[i:i + 1], K[i:i + 1], SIZE)
        assert torch.equal(one.rgb[0], batch.rgb[i]) and torch.equal(one.xyz[0], batch.xyz[i])


def test_views_of_several_meshes_are_those_of_each_alone(renderer, cameras):
    box, ball, other = textured_box((0.1, 0.07, 0.05)), sphere(0.05, 8), textured_box((0.05, 0.1, 0.08), seed=1)
    T, K = cameras(4)
    for meshes in ([box, ball, other, box], [ball, box, box, other]):
        seen = render_each(renderer, meshes, T, K, SIZE)
        for i, mesh in enumerate(meshes):
            alone = renderer.render(mesh, T[i:i + 1], K[i:i + 1], SIZE)
            for name, values in vars(alone).items():
                torch.testing.assert_close(getattr(seen, name)[i], values[0], rtol=0, atol=1e-6)


def test_many_triangles_are_rendered_mesh_by_mesh(raster, cameras, monkeypatch):
    meshes, (T, K) = [textured_box((0.1, 0.07, 0.05)), sphere(0.05, 8)], cameras(2)
    at_once = raster.render_each(meshes, T, K, SIZE)
    monkeypatch.setattr(raster_module, "TRIANGLES", 100)
    torch.testing.assert_close(vars(raster.render_each(meshes, T, K, SIZE)), vars(at_once), rtol=0, atol=1e-6)


def test_a_mesh_too_few_is_named(renderer, cameras):
    with pytest.raises(GeometryError, match="meshes: expected 3, one per pose, got 2"):
        render_each(renderer, [sphere(0.05, 8)] * 2, *cameras(3), SIZE)


def test_an_object_behind_the_camera_is_not_seen(renderer):
    assert not renderer.render(sphere(0.05, 8), *camera(-0.5), SIZE).mask.any()


def test_a_camera_inside_an_object_sees_its_far_wall(renderer):
    seen = renderer.render(sphere(0.05), *camera(0.0), SIZE)
    assert seen.mask.all()
    assert abs(seen.depth[0, 30, 30] - 0.05) < 2e-4


def test_no_views_are_no_images(renderer):
    T, K = camera(0.5)
    assert renderer.render(quad(0.1), T[:0], K[:0], SIZE).rgb.shape == (0, 3, *SIZE)


@pytest.mark.parametrize("T, K, size, names", [
    (torch.eye(4), torch.eye(3)[None], SIZE, r"T_cam_obj: .*\[B, 4, 4\], got \[4, 4\]"),
    (torch.eye(4)[None], torch.eye(3)[None].expand(2, 3, 3), SIZE, r"K: .*\[1, 3, 3\].* got \[2, 3, 3\]"),
    (torch.eye(4)[None], torch.eye(3)[None], (0, 64), r"size: .* got \(0, 64\)"),
])
def test_shapes_that_do_not_fit_are_named(renderer, T, K, size, names):
    with pytest.raises(GeometryError, match=names):
        renderer.render(quad(0.1), T, K, size)


def test_closing_one_opengl_renderer_leaves_the_others(opengl):
    with OpenglRenderer() as other:
        other.render(quad(0.1), *camera(0.5), SIZE)
    assert opengl.render(quad(0.1), *camera(0.5), SIZE).mask.any()


def test_missing_opengl_names_the_packages(opengl, monkeypatch):
    monkeypatch.setenv("EGL_DEVICE_ID", "99")
    with pytest.raises(FlowposeError, match="libegl1 libgl1 libgl1-mesa-dri"):
        opengl_module.OpenglRenderer()


def test_barycentric_weights_give_the_point_and_flat_triangles_their_first_corner():
    rng = np.random.default_rng(0)
    corners, weights = rng.normal(size=(50, 3, 3)), rng.dirichlet([1, 1, 1], 50)
    points = np.einsum("nk,nki->ni", weights, corners)
    assert np.allclose(barycentric(corners, points), weights, atol=1e-9)
    assert np.array_equal(barycentric(np.ones((1, 3, 3)), np.ones((1, 3))), [[1, 0, 0]])
