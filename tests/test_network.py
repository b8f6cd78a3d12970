"""Networks by name, their outputs, and the merged form."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the network is part of the training extra")

from handmesh.network import HandNet, NetworkConfig, backbone_names  # noqa: E402


@pytest.fixture(scope="module", params=["repvit_m0_9", "fastvit_t8"])
def trained_a_little(request) -> HandNet:
    """A network whose normalisation statistics are no longer those of a fresh one."""
    torch.manual_seed(0)
    network = HandNet(NetworkConfig(request.param))
    for _ in range(2):
        network(torch.rand(4, 3, 64, 64))
    return network.eval()


def test_outputs_have_the_documented_shapes_and_proper_rotations(trained_a_little):
    with torch.no_grad():
        out = trained_a_little(torch.rand(2, 3, 96, 96))
    shapes = [tuple(value.shape) for value in out]
    assert shapes == [(2, 16, 3, 3), (2, 10), (2, 21, 2), (2,), (2,)]
    torch.testing.assert_close(out.rotations @ out.rotations.mT, torch.eye(3).expand(2, 16, 3, 3), atol=1e-5, rtol=0)
    assert out.joints_crop.abs().max() < 1


def test_merged_form_agrees_with_the_training_form(trained_a_little):
    image = torch.rand(4, 3, 96, 96)
    with torch.no_grad():
        pairs = list(zip(trained_a_little(image), trained_a_little.reparameterised()(image), strict=True))
    for ours, merged in pairs:
        assert (ours - merged).abs().max() / ours.abs().max() < 1e-4
    assert _parameters(trained_a_little.reparameterised()) < _parameters(trained_a_little)


def _parameters(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_joints_follow_the_attention():
    network = HandNet(NetworkConfig()).eval()
    with torch.no_grad():
        network.head.attention.weight.zero_()
        network.head.attention.bias.zero_()
        out = network(torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(out.joints_crop, torch.zeros(1, 21, 2))  # uniform attention lies in the middle


def test_unknown_backbone_lists_the_known():
    with pytest.raises(ValueError, match="repvit_m1_1"):
        HandNet(NetworkConfig("repvit_m9"))
    assert {"fastvit_ma36", "repvit_m2_3"} <= set(backbone_names())


def test_repvit_refuses_stochastic_depth():
    with pytest.raises(ValueError, match="drop_path"):
        HandNet(NetworkConfig("repvit_m0_9", drop_path=0.1))
