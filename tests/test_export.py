"""The exported graph gives what torch gives, and says what it is."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="export needs the training extra")
pytest.importorskip("onnx", reason="export needs the training extra")

from handmesh.checkpoint import load_network, load_weights, save_weights  # noqa: E402
from handmesh.export import ExportMismatch, MeshOutputs, export_mesh  # noqa: E402
from handmesh.hand_model import HandModel  # noqa: E402
from handmesh.network import HandNet, NetworkConfig  # noqa: E402
from handmesh.training.config import MeshConfig, as_plain  # noqa: E402


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.load()


@pytest.fixture(scope="module")
def network(model) -> HandNet:
    torch.manual_seed(0)
    made = HandNet(NetworkConfig(), model.mean_pose)
    made(torch.rand(4, 3, 64, 64))
    return made.eval()


def test_onnx_equals_torch_and_carries_its_metadata(network, model, tmp_path):
    path = tmp_path / "mesh.onnx"
    assert export_mesh(network, model, path, crop_size=64, box_scale=1.5, name="tiny") < 0.05
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 64, 64, 3]
    assert [output.name for output in session.get_outputs()] == [*MeshOutputs._fields, "faces"]
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["handmesh"])
    assert metadata["format"] == 1 and metadata["kind"] == "mesh" and metadata["box_scale"] == 1.5
    faces, joints = session.run(["faces", "joints_m"], {"image": np.zeros((1, 64, 64, 3), np.uint8)})
    np.testing.assert_array_equal(faces, model.faces)
    np.testing.assert_allclose(joints[0, 9], 0, atol=1e-7)


def test_a_graph_that_differs_is_not_written(network, model, tmp_path, monkeypatch):
    monkeypatch.setattr(HandNet, "reparameterised", lambda self: HandNet(self.config).eval())
    with pytest.raises(ExportMismatch, match="nothing was written"):
        export_mesh(network, model, tmp_path / "mesh.onnx", 64, 1.5, "broken")
    assert not list(tmp_path.iterdir())


def test_weights_round_trip_strictly(network, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, network.state_dict(), {"config": {"task": "mesh", **as_plain(MeshConfig())}})
    loaded = load_network(path)
    pairs = zip(network.state_dict().values(), loaded.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert not list(tmp_path.glob(".*tmp"))


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_unreadable_weights_are_one_clear_line(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="weights") as error:
        load_weights(path)
    assert "\n" not in str(error.value)


def test_the_shipped_graph_is_that_of_the_shipped_weights(model):
    from handmesh.assets import ASSETS
    from handmesh.export import MeshGraph

    session = onnxruntime.InferenceSession(ASSETS / "balanced.onnx", providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[1]
    image = torch.randint(0, 256, (1, size, size, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    with torch.no_grad():
        expected = MeshGraph(load_network(ASSETS / "balanced.safetensors"), model)(image).vertices_m.numpy()
    (given,) = session.run(["vertices_m"], {"image": image.numpy()})
    assert np.abs(given - expected).max() < 0.05e-3
