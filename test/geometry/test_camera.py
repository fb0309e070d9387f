"""The pinhole camera and the perspective crop, against points whose place is known."""

import numpy as np
import pytest
import torch

from flowpose_ros.errors import GeometryError
from flowpose_ros.geometry.camera import (CropCamera, back_project, check_intrinsics, crop_around, crop_homography,
                                          depth_to_crop, look_at, pixel_grid, project, sample_crop)

K = torch.tensor([[500.0, 0, 319.5], [0, 480, 239.5], [0, 0, 1]])


def test_projection_by_hand_and_back():
    point = torch.tensor([[0.1, -0.2, 2.0]])
    pixel = project(point, K)
    assert torch.allclose(pixel, torch.tensor([[319.5 + 25, 239.5 - 48]]))
    assert torch.allclose(back_project(pixel, torch.tensor([2.0]), K), point, atol=1e-6)


def test_rays_are_turned_onto_the_axis_by_the_smallest_rotation():
    rays = torch.tensor([[0.0, 0, 1], [0.5, -0.2, 1], [-2, 3, 1]])
    R = look_at(rays)
    turned = (R @ rays[..., None])[..., 0]
    assert torch.allclose(turned, rays.norm(dim=1, keepdim=True) * torch.tensor([0.0, 0, 1]), atol=1e-5)
    assert torch.allclose(R @ R.transpose(1, 2), torch.eye(3).expand(3, 3, 3), atol=1e-5)
    cosine = (R.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    assert torch.allclose(cosine, torch.nn.functional.normalize(rays, dim=1)[:, 2], atol=1e-5)


def test_a_point_lands_in_the_crop_where_the_homography_says(poses):
    T = poses(6, torch.float32)
    crop = crop_around(T[:, :3, 3], torch.full((6,), 0.2), 64)
    p = T[:, None, :3, 3] + 0.03 * torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0))
    in_crop = project(p @ crop.R_crop_cam.transpose(1, 2), crop.K)
    h = torch.nn.functional.pad(in_crop, (0, 1), value=1.0) @ crop_homography(crop, K).transpose(1, 2)
    assert torch.allclose(h[..., :2] / h[..., 2:], project(p, K), atol=2e-2)
    assert torch.allclose(crop.to_camera(crop.to_crop(T)), T, atol=1e-6)
    assert torch.allclose(crop.to_crop(T)[:, :2, 3], torch.zeros(6, 2), atol=1e-6)


def test_a_crop_of_the_pixel_grid_holds_the_pixels_places():
    crop = crop_around(torch.tensor([[0.1, -0.05, 1.0]]), torch.tensor([0.1]), 32)
    places = sample_crop(pixel_grid(480, 640).permute(2, 0, 1), crop, K)[0]
    h = torch.nn.functional.pad(pixel_grid(32, 32), (0, 1), value=1.0) @ crop_homography(crop, K)[0].T
    want = (h[..., :2] / h[..., 2:]).permute(2, 0, 1)
    assert (places - want).abs().max() < 0.05


def test_outside_the_image_a_crop_is_zero():
    crop = crop_around(torch.tensor([[0.9, 0.0, 1.0]]), torch.tensor([0.1]), 16)
    assert not sample_crop(torch.ones(3, 480, 640), crop, K).any()


@pytest.mark.parametrize("size", [16, 480], ids=["minified", "magnified"])
def test_or_the_border_goes_on_outside(size):
    crop = crop_around(torch.tensor([[0.9, 0.0, 1.0], [0.5, 0.0, 1.0]]), torch.tensor([0.1, 0.3]), size)
    image = torch.linspace(0, 1, 640).expand(3, 480, 640).contiguous()
    assert (sample_crop(image, crop, K, outside="border")[0] == 1).all()


@pytest.mark.parametrize("several", [False, True], ids=["one image", "an image each"])
def test_a_crop_is_the_same_whichever_others_there_are(several):
    images = torch.rand(3, 3, 480, 640, generator=torch.Generator().manual_seed(0))
    image = images if several else images[0]
    together = crop_around(torch.tensor([[0.0, 0, 1], [0.1, 0, 1], [0, 0.1, 1]]), torch.tensor([0.4, 0.05, 0.12]), 64)
    crops = sample_crop(image, together, K)
    for i in range(3):
        alone = CropCamera(together.K[i:i + 1], together.R_crop_cam[i:i + 1], 64)
        torch.testing.assert_close(sample_crop(images[i] if several else image, alone, K)[0], crops[i])


def test_depth_of_a_wall_is_along_the_crops_own_axis():
    ray = torch.tensor([[0.4, 0.2, 1.0]])
    crop = crop_around(ray, torch.tensor([0.1]), 33)
    depth = depth_to_crop(torch.full((480, 640), 2.0), crop, K)
    # The middle pixel's ray meets the wall z = 2 at distance 2 |ray|, which is the crop's depth there.
    assert depth[0, 16, 16].item() == pytest.approx(2 * ray.norm().item(), rel=1e-4)
    points = back_project(pixel_grid(33, 33).reshape(1, -1, 2), depth.flatten(1), crop.K) @ crop.R_crop_cam
    assert torch.allclose(points[..., 2], torch.tensor(2.0), atol=1e-4)


@pytest.mark.parametrize("change, said", [
    ((0, 0, -500), "focal"), ((0, 0, np.nan), "finite"), ((1, 0, 3), "triangular"), ((0, 1, 3), "without skew"),
    ((0, 2, 5000), "principal"),
    ((0, 0, 63.9), "64 to 64000 pixels for an image 640 wide, got fx=63.9"), ((1, 1, 1e6), "fy=1000000"),
])
def test_unusable_intrinsics_are_named(change, said):
    bad = K.numpy().astype(float)
    bad[change[0], change[1]] = change[2]
    with pytest.raises(GeometryError, match=said):
        check_intrinsics(bad, 640, 480)


def test_usable_intrinsics_pass():
    check_intrinsics(K.numpy(), 640, 480)
