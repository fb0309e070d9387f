import torch
from reference.correlation import sample_window as slow_window

from flowpose_ros.networks.correlation import CorrelationPyramid, sample_window


def test_windows_equal_the_slow_twin_inside_and_across_the_border():
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(1, 40, 6, 9, generator=generator)
    centre = torch.rand(1, 40, 2, generator=generator) * torch.tensor([14.0, 11.0]) - 3
    found = sample_window(volume, centre, 2)
    wanted = torch.tensor(slow_window(volume[0].tolist(), centre[0].tolist(), 2))
    torch.testing.assert_close(found[0], wanted, atol=1e-5, rtol=1e-5)


def test_a_position_far_outside_sees_nothing():
    found = sample_window(torch.ones(1, 1, 4, 4), torch.tensor([[[1e9, -1e9]]]), 3)
    assert (found == 0).all()


def test_the_strongest_correlation_lies_where_the_features_moved():
    generator = torch.Generator().manual_seed(1)
    source = torch.randn(1, 32, 16, 16, generator=generator)
    target = source.roll((2, -1), (2, 3))  # down by 2, left by 1
    pyramid = CorrelationPyramid(source, target, levels=1, radius=3)
    v, u = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    window = pyramid.lookup(torch.stack([u, v])[None]).reshape(7, 7, 16, 16)[:, :, 4:12, 4:12]
    best = window.flatten(0, 1).argmax(0)
    assert (best // 7 - 3 == 2).all() and (best % 7 - 3 == -1).all()


def test_a_pooled_level_is_the_mean_of_the_level_below():
    generator = torch.Generator().manual_seed(2)
    source, target = torch.randn(2, 1, 8, 8, 8, generator=generator)
    pyramid = CorrelationPyramid(source, target, levels=2, radius=1)
    fine, coarse = pyramid.volumes
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(fine, 2), coarse, atol=1e-5, rtol=1e-4)
