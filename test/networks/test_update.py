import torch

from flowpose_ros.networks.update import FlowField, convex_upsample


def test_upsampling_a_constant_flow_keeps_it():
    mask = torch.randn(1, 36, 4, 5, generator=torch.Generator().manual_seed(0))
    for channels in (2, 5):
        up = convex_upsample(torch.full((1, channels, 4, 5), 3.0), mask)
        torch.testing.assert_close(up, torch.full((1, channels, 8, 10), 3.0))


def test_a_sharp_mask_copies_the_chosen_neighbour_into_the_chosen_place():
    flow = torch.arange(12.0).reshape(1, 1, 3, 4).expand(1, 2, 3, 4)
    mask = torch.zeros(1, 9, 2, 2, 3, 4)
    mask[:, 4] = 50  # the cell itself
    mask[:, 4, 0, 1], mask[:, 5, 0, 1] = 0, 50  # its upper right quarter: the neighbour to the right
    up = convex_upsample(flow, mask.reshape(1, 36, 3, 4))
    assert up[0, 0, 2, 2] == flow[0, 0, 1, 1] and up[0, 0, 3, 3] == flow[0, 0, 1, 1]
    assert up[0, 0, 2, 3] == flow[0, 0, 1, 2]


def test_probability_grows_with_the_radius_and_falls_with_the_scale():
    field = FlowField(torch.zeros(1, 2, 1, 2), torch.zeros(1, 1, 1, 2), torch.ones(1, 2, 1, 2),
                      torch.full((1, 1, 1, 2), 9.0), torch.tensor([0.0, 3.0]).reshape(1, 1, 1, 2))
    near, far = field.probability_within(1.0), field.probability_within(8.0)
    assert (far > near).all() and near[..., 0] > near[..., 1]
    torch.testing.assert_close(near[0, 0, 0, 0], 1 - torch.exp(torch.tensor(-1.0)))
