"""Weights files: one line about each that is not what its name says."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="weights need the training extra")
from safetensors.torch import save  # noqa: E402

from handmesh.models import checkpoint  # noqa: E402
from handmesh.models.checkpoint import fill, load_trained, load_weights  # noqa: E402
from handmesh.models.mesh_net import Mergeable  # noqa: E402

NETWORK = {"backbone": "repvit_m0_9", "width": 32, "head": "keypoint", "stride": 8, "drop_path": 0.1, "branches": True}
CONFIG = {"task": "mesh", "network": NETWORK, "box_scale": 1.5, "hand_model": None, "run": {"schedule": [[10, 64, 8]]}}


class Stub(torch.nn.Module):
    """In place of the mesh network, which takes long to build."""

    def __init__(self, config):
        super().__init__()
        self.config, self.weight = config, torch.nn.Parameter(torch.zeros(3))


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "HandNet", Stub)

    def written(metadata, tensors=None):
        path = tmp_path / "weights.safetensors"
        text = metadata if isinstance(metadata, str) else json.dumps(metadata)
        path.write_bytes(save(tensors or {"weight": torch.ones(3)}, metadata={"handmesh": text}))
        return path

    return written


def refusal(path) -> str:
    with pytest.raises(ValueError, match=str(path)) as caught:
        load_trained(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


def test_weights_and_their_config_are_read(write):
    network, config = load_trained(write({"format": 1, "config": CONFIG}))
    assert config == CONFIG and network.config.width == 32 and not network.training
    assert torch.equal(network.weight, torch.ones(3))


@pytest.mark.parametrize("metadata", ["", "[1]", "7", "{", "[" * 100_000, {"format": 1, "config": [1]}], ids=str)
def test_metadata_of_another_type(write, metadata):
    assert "metadata that cannot be read" in refusal(write(metadata))


@pytest.mark.parametrize("version", [None, 2, "1"])
def test_another_format(write, version):
    assert "another format" in refusal(write({"format": version, "config": CONFIG}))


@pytest.mark.parametrize("task", [None, "detector", ["mesh"], {"mesh": 1}])
def test_another_task(write, task):
    assert "weights of the task" in refusal(write({"format": 1, "config": {**CONFIG, "task": task}}))


@pytest.mark.parametrize(
    "network",
    [
        None, [], "repvit", {"breadth": 32}, {"width": "32"}, {"width": 1.5}, {"width": 10**9}, {"width": -1},
        {"width": True}, {"head": "tail"}, {"head": ["keypoint"]}, {"stride": 7}, {"branches": 1},
        {"drop_path": "0.1"}, {"backbone": 9}, {"width": None}, {"activation": "tanh"}, {"pruned": "stages_2.blocks.8"},
        {"pruned": [8]},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_no_network_has(write, network):
    """A width of a thousand million is refused before memory is taken for it."""
    changed = {**NETWORK, **network} if isinstance(network, dict) else network
    assert "network that cannot be built" in refusal(write({"format": 1, "config": {**CONFIG, "network": changed}}))


@pytest.mark.parametrize(
    "change",
    [{"box_scale": None}, {"box_scale": "1.5"}, {"box_scale": 99}, {"hand_model": 7}, {"run": []}, {"run": {}},
     {"run": {"schedule": []}}, {"run": {"schedule": [[10]]}}, {"run": {"schedule": [[10, "64", 8]]}}],
    ids=str,
)  # fmt: skip
def test_a_config_that_does_not_say_what_the_network_saw(write, change):
    assert "does not say which boxes" in refusal(write({"format": 1, "config": {**CONFIG, **change}}))
    less = {name: value for name, value in CONFIG.items() if name not in change}
    assert "does not say which boxes" in refusal(write({"format": 1, "config": less}))


def test_weights_of_another_network(write):
    path = write({"format": 1, "config": CONFIG}, {"weight": torch.ones(4), "bias": torch.ones(1)})
    assert "weights of another network" in refusal(path)
    with pytest.raises(ValueError, match="weights of another network"):
        fill(Stub(None), path, load_weights(path))


def test_a_training_begins_with_weights_that_have_a_part_more_or_less(write):
    class More(Mergeable):
        optional_parts = ("head.contact.",)

        def __init__(self):
            super().__init__()
            self.head, self.extra = Stub(None), Stub(None)

    more = More()
    path = write({"format": 1, "config": CONFIG}, {"head.weight": torch.ones(3), "head.contact.0.bias": torch.ones(4)})
    weights = load_weights(path)
    assert fill(more, path, weights, begin=True) == ["extra.weight"]
    assert more.head.weight.tolist() == [1, 1, 1] and more.extra.weight.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="weights of another network"):
        fill(more, path, weights)
    other = write({"format": 1, "config": CONFIG}, {"head.weight": torch.ones(3), "unknown.bias": torch.ones(4)})
    with pytest.raises(ValueError, match="weights of another network, with unknown"):
        fill(more, other, load_weights(other), begin=True)


def test_a_network_that_its_library_does_not_know(write, monkeypatch):
    def unknown(options):
        raise RuntimeError(f"Unknown model\n({options.backbone})")

    monkeypatch.setattr(checkpoint, "HandNet", unknown)
    assert "cannot be built: Unknown model (repvit_m0_9)" in refusal(write({"format": 1, "config": CONFIG}))
