"""Opening exported networks, and one clear line about every file that is not one."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest

from handmesh.assets import ModelFileError, model_path
from handmesh.tracking import backends
from handmesh.tracking.backends import HAND_OUTPUTS, MESH_OUTPUTS, open_session

onnx = pytest.importorskip("onnx")
helper = onnx.helper

MESH = {"format": 1, "kind": "mesh", "box_scale": 1.5}
DETECTOR = {"format": 1, "kind": "detector"}


def write_model(path, metadata=None, outputs=("score",), kind=onnx.TensorProto.UINT8, shape=(1, 8, 6, 3)):
    """A tiny network whose outputs are all its input's mean."""
    image = helper.make_tensor_value_info("image", kind, shape)
    nodes = [helper.make_node("Cast", ["image"], ["float"], to=onnx.TensorProto.FLOAT)]
    nodes += [helper.make_node("ReduceMean", ["float"], [name], keepdims=0) for name in outputs]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ()) for name in outputs]
    graph = helper.make_graph(nodes, "tiny", [image], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata is not None:
        text = metadata if isinstance(metadata, str) else json.dumps(metadata)
        helper.set_model_props(model, {"handmesh": text})
    onnx.save(model, path)
    return path


def refusal(path, kind="mesh"):
    with pytest.raises(ModelFileError) as caught:
        open_session(path, kind)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_session_runs(tmp_path):
    session = open_session(write_model(tmp_path / "detector.onnx", DETECTOR), "detector")
    assert session.input_size == (8, 6)
    assert session.metadata == DETECTOR
    assert session.run(np.full((1, 8, 6, 3), 7, np.uint8)) == {"score": 7.0}


@pytest.mark.parametrize("runs_in", ["onnxruntime", "openvino"])
def test_a_mesh_session_has_all_outputs(tmp_path, runs_in):
    if runs_in == "openvino":
        pytest.importorskip("openvino")
    path = write_model(tmp_path / "mesh.onnx", MESH, (*MESH_OUTPUTS, *HAND_OUTPUTS))
    session = open_session(str(path), "mesh", threads=1, device="cpu", backend=runs_in)
    assert session.input_size == (8, 6) and session.metadata == MESH
    outputs = session.run(np.full((1, 8, 6, 3), 7, np.uint8))
    assert set(outputs) == set(MESH_OUTPUTS) and outputs["presence"] == pytest.approx(7.0)
    assert set(session.constants) == set(HAND_OUTPUTS)


def test_openvino_answers_as_onnx_runtime_does():
    pytest.importorskip("openvino")
    sessions = [open_session(model_path("fast"), "mesh", 1, backend=name) for name in ("onnxruntime", "openvino")]
    crop = np.random.default_rng(0).integers(0, 256, (1, *sessions[0].input_size, 3), dtype=np.uint8)
    given, again = (session.run(crop) for session in sessions)
    assert sessions[1].provider.startswith("OpenVINO CPU ")  # and the precision
    assert np.abs(given["vertices_m"] - again["vertices_m"]).max() < 0.005  # bfloat16, where the processor has it
    assert np.array_equal(sessions[0].constants["faces"], sessions[1].constants["faces"])


def test_unknown_backends_and_devices_of_openvino_are_refused(tmp_path):
    path = write_model(tmp_path / "detector.onnx", DETECTOR)
    with pytest.raises(ValueError, match="unknown backend 'tensorrt'; known are onnxruntime, openvino"):
        open_session(path, "detector", backend="tensorrt")
    with pytest.raises(ValueError, match=r"run on the CPU, got device 'coreml'|offers no device 'coreml'"):
        open_session(path, "detector", device="coreml", backend="openvino")


def test_missing(tmp_path):
    assert "no model file" in refusal(tmp_path / "none.onnx")
    assert "no model file" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello, I am a text file\n" * 50, bytes(range(256)) * 40])
def test_corrupt(tmp_path, content, capfd):
    path = tmp_path / "corrupt.onnx"
    path.write_bytes(content)
    assert "not a readable ONNX model" in refusal(path)
    assert capfd.readouterr() == ("", "")


def test_truncated(tmp_path):
    path = write_model(tmp_path / "mesh.onnx", MESH, MESH_OUTPUTS)
    path.write_bytes(path.read_bytes()[:-100])
    refusal(path)


@pytest.mark.parametrize("metadata", [None, "", "not JSON", "[1, 2]"])
def test_foreign(tmp_path, metadata):
    message = refusal(write_model(tmp_path / "foreign.onnx", metadata))
    assert "not exported by handmesh" in message
    assert "handmesh export" in message


def test_of_another_kind(tmp_path):
    message = refusal(write_model(tmp_path / "detector.onnx", DETECTOR), "mesh")
    assert "'detector'" in message
    assert "'mesh'" in message


def test_of_another_format(tmp_path):
    assert "format 2" in refusal(write_model(tmp_path / "new.onnx", {**MESH, "format": 2}, MESH_OUTPUTS))


def test_without_its_box_scale(tmp_path):
    assert "box_scale" in refusal(write_model(tmp_path / "mesh.onnx", {"format": 1, "kind": "mesh"}, MESH_OUTPUTS))


def test_lacking_outputs(tmp_path):
    message = refusal(write_model(tmp_path / "mesh.onnx", MESH, MESH_OUTPUTS[:-1]))
    assert MESH_OUTPUTS[-1] in message


@pytest.mark.parametrize(
    ("kind", "shape"), [(onnx.TensorProto.FLOAT, (1, 8, 6, 3)), (onnx.TensorProto.UINT8, ("n", 8, 6, 3))]
)
def test_with_another_input(tmp_path, kind, shape):
    path = write_model(tmp_path / "other.onnx", DETECTOR, kind=kind, shape=shape)
    assert "uint8 (1, H, W, 3)" in refusal(path, "detector")


def test_devices(tmp_path, monkeypatch):
    path = write_model(tmp_path / "detector.onnx", DETECTOR)
    with pytest.raises(ValueError, match="unknown device 'gpu'; known are auto, cpu, cuda"):
        open_session(path, "detector", device="gpu")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ValueError, match="offers no device 'cuda', only cpu"):
        open_session(path, "detector", device="cuda")


def test_threads_leave_a_core_and_workers_do_not_spin(monkeypatch):
    for cores, threads in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr(backends.os, "sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False)
        assert backends.default_threads() == threads
    options = backends.session_options(None)
    assert options.intra_op_num_threads == 7
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert backends.session_options(3).intra_op_num_threads == 3
