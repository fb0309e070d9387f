"""The verifier gives a logit per pose, whatever else is in the batch."""

import torch

from flowpose_ros.networks.verifier import CHANNELS, COVER, Verifier


def test_a_pose_is_judged_by_itself_and_by_what_covers_the_object():
    torch.manual_seed(0)
    network, maps = Verifier().eval(), torch.randn(3, CHANNELS, 32, 32)
    maps[:, COVER] = (maps[:, COVER] > 0).float()
    with torch.no_grad():
        logits = network(maps)
        assert logits.shape == (3,)
        assert torch.allclose(network(maps[1:2]), logits[1:2], atol=1e-5)
        maps[2, COVER] = 0
        assert torch.isfinite(network(maps)).all()
        assert network(maps)[2] != logits[2]
