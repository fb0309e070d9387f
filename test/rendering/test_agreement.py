"""Ray casting, OpenGL and rasterising see the same: three independent ways to find what a pixel shows."""

import pytest
import torch
import torch.nn.functional as F

from rendering.meshes import joined, moved, sphere, textured_box

SIZE = (180, 240)
MESHES = {
    "textured box": textured_box((0.12, 0.08, 0.05)),
    "coloured sphere": sphere(0.06),
    "parts": joined(textured_box((0.06, 0.1, 0.04), seed=1), moved(sphere(0.03, 24), (0.05, 0.03, 0)),
                    moved(textured_box((0.03, 0.03, 0.09), seed=2), (-0.05, 0, 0.02))),
}


@pytest.fixture(scope="module", params=["opengl", "raster"])
def other(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module", params=MESHES)
def views(request, raycast, other, cameras):
    mesh, (T, K) = MESHES[request.param], cameras(12)
    return raycast.render(mesh, T, K, SIZE), other.render(mesh, T, K, SIZE)


def grown(mask):
    return F.max_pool2d(mask[:, None].float(), 3, 1, 1)[:, 0] > 0


def inside(views):
    """Pixels whose whole neighbourhood is on one piece of surface, [B,H,W]."""
    a, b = views
    off = grown(~(a.mask & b.mask))
    depth = a.depth[:, None]
    step = F.max_pool2d(depth, 3, 1, 1) + F.max_pool2d(-depth, 3, 1, 1)
    return ~off & (step[:, 0] < 0.01)


def test_silhouettes_agree_within_a_pixel(views):
    a, b = views
    assert a.mask.flatten(1).any(1).all()
    assert not (a.mask & ~grown(b.mask)).any() and not (b.mask & ~grown(a.mask)).any()
    assert (a.mask ^ b.mask).float().sum() <= 0.005 * a.mask.sum()  # a wrong half pixel would give 2 %


def test_depth_and_points_agree_inside(views):
    a, b = views
    where = inside(views)
    assert where.sum() > 0.7 * a.mask.sum()
    assert (a.depth - b.depth).abs()[where].max() < 1e-4
    assert (a.xyz - b.xyz).norm(dim=1)[where].max() < 2e-4


def test_colours_and_normals_agree_inside(views):
    a, b = views
    where = inside(views)
    # Beside an edge of the mesh the two may choose either face.
    assert (a.rgb - b.rgb).abs().amax(1)[where].quantile(0.995) < 0.01
    assert (a.normal - b.normal).norm(dim=1)[where].quantile(0.995) < 0.01


def test_both_hold_their_place_when_objects_alternate(raycast, other, cameras):
    T, K = cameras(1)
    first = [r.render(MESHES["parts"], T, K, SIZE) for r in (raycast, other)]
    for r in (raycast, other):
        r.render(MESHES["textured box"], T, K, (50, 40))
    again = [r.render(MESHES["parts"], T, K, SIZE) for r in (raycast, other)]
    for one, two in zip(first, again):
        assert torch.equal(one.rgb, two.rgb) and torch.equal(one.depth, two.depth)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_rasterising_on_a_gpu_is_as_on_a_cpu(raster, cameras):
    T, K = cameras(3)
    here = raster.render(MESHES["parts"], T, K, SIZE)
    there = raster.render(MESHES["parts"], T.cuda(), K.cuda(), SIZE)
    assert there.rgb.is_cuda and torch.equal(here.mask, there.mask.cpu())
    assert (here.depth - there.depth.cpu()).abs().max() < 1e-6
    assert (here.rgb - there.rgb.cpu()).abs().max() < 1e-4
