"""Networks by name, their outputs, and the merged form."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the network is part of the training extra")

from torch import nn  # noqa: E402

from handmesh.models.mesh_net import HandNet, NetworkConfig, backbone_names  # noqa: E402


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
    shapes = [tuple(value.shape) for value in out[:5]]
    assert shapes == [(2, 16, 3, 3), (2, 10), (2, 21, 2), (2,), (2,)]
    torch.testing.assert_close(out.rotations @ out.rotations.mT, torch.eye(3).expand(2, 16, 3, 3), atol=1e-5, rtol=0)
    assert out.joints_crop.abs().max() < 1


def test_merged_form_agrees_with_the_training_form(trained_a_little):
    image = torch.rand(4, 3, 96, 96)
    with torch.no_grad():
        pairs = list(zip(trained_a_little(image), trained_a_little.reparameterised()(image), strict=True))
    for ours, merged in [pair for pair in pairs if pair[0] is not None]:
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


@pytest.mark.parametrize("refinements", [1, 3])
@pytest.mark.parametrize("head, stride, cells", [("keypoint", 8, 8), ("keypoint", 16, 4), ("pooled", 8, 2)])
def test_heads_and_their_optional_outputs(head, stride, cells, refinements):
    config = NetworkConfig(head=head, stride=stride, refinements=refinements, segmentation=True)
    with torch.no_grad():
        out = HandNet(config).eval()(torch.rand(2, 3, 64, 64))
    assert out.rotations.shape == (2, 16, 3, 3) and out.mask.shape == (2, cells, cells)
    assert (out.joints_crop is None) == (head == "pooled") == (out.camera is not None)


def test_contact_is_told_where_it_is_asked_for():
    crops = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        silent, telling = (HandNet(NetworkConfig(contact=tells)).eval()(crops) for tells in (False, True))
    assert silent.contact is None and telling.contact.shape == (2, 4)
    with pytest.raises(ValueError, match=r"network\.contact needs a head that looks at joints"):
        NetworkConfig(head="pooled", contact=True)


@pytest.mark.parametrize("refinements", [1, 2])
def test_joints_are_corrected_by_what_all_of_them_show(refinements):
    torch.manual_seed(0)
    network, crops = HandNet(NetworkConfig(correction=True, refinements=refinements)).eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = network(crops)
        network.head.correction[-1].bias += torch.arange(42.0)
        after = network(crops)
    torch.testing.assert_close(after.joints_crop - before.joints_crop, torch.arange(42.0).view(21, 2).expand(2, 21, 2))
    torch.testing.assert_close(after.rotations, before.rotations)
    plain = HandNet(NetworkConfig(refinements=refinements)).eval()
    plain.load_state_dict({name: value for name, value in network.state_dict().items() if "correction" not in name})
    with torch.no_grad():
        torch.testing.assert_close(plain(crops).joints_crop, before.joints_crop, msg="nothing is corrected at first")
    with pytest.raises(ValueError, match=r"network\.correction needs a head that looks at joints"):
        NetworkConfig(head="pooled", correction=True)


def test_each_refinement_sees_the_numbers_before_it():
    network = HandNet(NetworkConfig(head="pooled", refinements=3)).eval()
    regressor, features = network.head.regressor, torch.rand(2, 384)
    with torch.no_grad():
        numbers = torch.zeros(2, regressor.outputs)
        for _ in range(3):
            numbers = numbers + regressor.out(regressor.trunk(torch.cat([features, numbers], 1)))
        torch.testing.assert_close(regressor(features)[0], numbers)
    with pytest.raises(ValueError, match="at least 1"):
        HandNet(NetworkConfig(refinements=0))


def test_missing_imagenet_weights_name_the_flag(monkeypatch):
    import timm

    real = timm.create_model

    def offline(*args, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("no route to host")
        return real(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ValueError, match=r"no route to host.*--network\.no-pretrained"):
        HandNet(NetworkConfig(pretrained=True))


def test_without_branches_there_is_nothing_to_merge_but_normalisation():
    single, full = HandNet(NetworkConfig(branches=False)), HandNet(NetworkConfig())
    assert _parameters(single) < _parameters(full)
    assert _parameters(single.reparameterised()) == _parameters(full.reparameterised())
    with pytest.raises(ValueError, match="not for fastvit_t8"):
        HandNet(NetworkConfig("fastvit_t8", branches=False))


def test_without_large_kernels_every_one_is_of_three_pixels_merged_or_not():
    small = HandNet(NetworkConfig("fastvit_t8", large_kernels=False)).eval()
    merged, image = small.reparameterised(), torch.rand(1, 3, 64, 64)
    for network in (small, merged):
        kernels = [module.kernel_size for module in network.backbone.modules() if isinstance(module, nn.Conv2d)]
        assert set(kernels) == {(1, 1), (3, 3)}
    torch.testing.assert_close(merged(image).rotations, small(image).rotations, atol=1e-4, rtol=1e-4)
    shapes = [features.shape for features in small.backbone(image)]
    assert shapes == [features.shape for features in HandNet(NetworkConfig("fastvit_t8")).eval().backbone(image)]
    with pytest.raises(ValueError, match="for a FastViT with random weights alone"):
        HandNet(NetworkConfig("repvit_m0_9", large_kernels=False))


def test_relu_stands_after_every_convolution_and_nowhere_else():
    relu, gelu = HandNet(NetworkConfig(activation="relu")), HandNet(NetworkConfig())
    of_vectors = _activations(relu, nn.GELU)
    assert of_vectors and all(name.startswith("head.") and ".smooth." not in name for name in of_vectors)
    assert _activations(gelu, nn.GELU) - of_vectors == _activations(relu, nn.ReLU) - _activations(gelu, nn.ReLU)


def _activations(network, kind):
    return {name for name, module in network.named_modules() if isinstance(module, kind)}


@pytest.mark.parametrize(
    ("backbone", "pruned"),
    [
        ("repvit_m0_9", ("stages_2.blocks.8", "stages_3.downsample.pre_block")),
        ("fastvit_t8", ("stages_1.blocks.0", "stages_3.blocks.1")),
    ],
)
def test_a_pruned_block_lets_pass_what_comes(backbone, pruned):
    small, whole = HandNet(NetworkConfig(backbone, pruned=pruned)).eval(), HandNet(NetworkConfig(backbone)).eval()
    shorter = {name for name in whole.state_dict() if not name.startswith(small.optional_parts)}
    assert small.state_dict().keys() == shorter
    image, seen = torch.rand(1, 3, 64, 64), []
    small.backbone.get_submodule(pruned[0]).register_forward_hook(
        lambda _, given, passed: seen.append((*given, passed))
    )
    assert small(image).rotations.shape == whole(image).rotations.shape
    [(given, passed)] = seen
    assert passed is given


@pytest.mark.parametrize("name", ["stages_2.blocks.14", "stages_1.downsample", "stem", ""])
def test_only_residual_blocks_can_be_pruned(name):
    with pytest.raises(ValueError, match=r"no residual block.*stages_2\.blocks\.13"):
        HandNet(NetworkConfig(pruned=(name,)))


def test_unknown_backbone_lists_the_known():
    with pytest.raises(ValueError, match="repvit_m1_1"):
        HandNet(NetworkConfig("repvit_m9"))
    assert {"fastvit_ma36", "repvit_m2_3"} <= set(backbone_names())


def test_repvit_refuses_stochastic_depth():
    with pytest.raises(ValueError, match="drop_path"):
        HandNet(NetworkConfig("repvit_m0_9", drop_path=0.1))
