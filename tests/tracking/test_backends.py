"""Opening exported networks, and one clear line about every file that is not one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

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


MAPS = {"heat": (1, 1, 1), "log_size": (1, 1, 1), "right": (1, 1, 1), "offset": (1, 2, 1, 1), "direction": (1, 2, 1, 1)}
HAND = {
    "faces": np.int32([[0, 1, 2], [2, 1, 0]]),
    "hand_template": np.zeros((3, 3), np.float32),
    "hand_shapedirs": np.zeros((3, 3, 10), np.float32),
    "hand_weights": np.eye(3, 16, dtype=np.float32),
    "hand_keypoint_regressor": np.zeros((21, 3), np.float32),
}
SAID = {
    "vertices_m": (1, 3, 3),
    "joints_m": (1, 21, 3),
    "joints_crop": (1, 21, 2),
    "rotations": (1, 16, 3, 3),
    "shape": (1, 10),
    "presence": (1,),
    "right": (1,),
    "spread": (1, 21, 2),
}


def write_model(path, metadata=None, outputs=MAPS, kind=onnx.TensorProto.UINT8, shape=(1, 8, 6, 3)):
    """A tiny network. Outputs of a shape are filled with its input's mean, arrays are given as they are."""
    image = helper.make_tensor_value_info("image", kind, shape)
    nodes = [helper.make_node("Cast", ["image"], ["float"], to=onnx.TensorProto.FLOAT)]
    nodes += [helper.make_node("ReduceMean", ["float"], ["mean"], keepdims=0)]
    values, arrays = [], []
    for name, output in outputs.items():
        if isinstance(output, np.ndarray):
            arrays.append(onnx.numpy_helper.from_array(output, f"{name}_given"))
            nodes.append(helper.make_node("Identity", [f"{name}_given"], [name]))
            values.append(helper.make_tensor_value_info(name, arrays[-1].data_type, output.shape))
        else:
            arrays.append(onnx.numpy_helper.from_array(np.int64(output), f"{name}_shape"))
            nodes.append(helper.make_node("Expand", ["mean", f"{name}_shape"], [name]))
            values.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, output))
    graph = helper.make_graph(nodes, "tiny", [image], values, arrays)
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
    maps = session.run(np.full((1, 8, 6, 3), 7, np.uint8))
    assert {name: values.shape for name, values in maps.items()} == MAPS and maps["heat"] == 7.0


@pytest.mark.parametrize("runs_in", ["onnxruntime", "openvino"])
def test_a_mesh_session_has_all_outputs(tmp_path, runs_in):
    if runs_in == "openvino":
        pytest.importorskip("openvino")
    path = write_model(tmp_path / "mesh.onnx", MESH, SAID | HAND)
    session = open_session(str(path), "mesh", threads=1, device="cpu", backend=runs_in)
    assert session.input_size == (8, 6) and session.metadata == MESH
    outputs = session.run(np.full((1, 8, 6, 3), 7, np.uint8))
    assert set(outputs) == set(MESH_OUTPUTS) and outputs["presence"] == pytest.approx(7.0)
    assert set(session.constants) == set(HAND_OUTPUTS)
    assert all(np.array_equal(session.constants[name], value) for name, value in HAND.items())


def test_contact_may_be_told(tmp_path):
    """Files of before lack it; one that tells it in another shape is refused."""
    session = open_session(write_model(tmp_path / "mesh.onnx", MESH, SAID | {"contact": (1, 4)} | HAND), "mesh")
    assert session.run(np.full((1, 8, 6, 3), 7, np.uint8))["contact"] == pytest.approx(np.full((1, 4), 7.0))
    said = refusal(write_model(tmp_path / "five.onnx", MESH, SAID | {"contact": (1, 5)} | HAND))
    assert "gives contact as float32 (1, 5), not (1, 4)" in said


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
    path = write_model(tmp_path / "mesh.onnx", MESH, SAID)
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
    assert "format 2" in refusal(write_model(tmp_path / "new.onnx", {**MESH, "format": 2}, SAID))


@pytest.mark.parametrize("scale", [None, "1.5", 0, -1.5, 1e9, float("nan"), 10**400], ids=repr)
def test_without_a_box_scale_that_can_be(tmp_path, scale):
    assert "box_scale" in refusal(write_model(tmp_path / "mesh.onnx", {**MESH, "box_scale": scale}, SAID | HAND))


WEIGHTS = {"bias": -1.0, "presence": 0.5, "agreement": 0.3}
CONFIDENCE = {"proposed": 0.3, "found": {**WEIGHTS, "detector": 1.6}, "followed": WEIGHTS}


@pytest.mark.parametrize(
    "changed",
    [
        "high", [1], {"proposed": 0.3}, {**CONFIDENCE, "proposed": 2.0}, {**CONFIDENCE, "proposed": None},
        {**CONFIDENCE, "found": None}, {**CONFIDENCE, "found": {"presence": 1.0}},
        {**CONFIDENCE, "found": {**WEIGHTS, "guess": 1.0}}, {**CONFIDENCE, "followed": {**WEIGHTS, "detector": 1.0}},
        {**CONFIDENCE, "followed": {**WEIGHTS, "bias": "0"}},
        {**CONFIDENCE, "followed": {**WEIGHTS, "bias": float("inf")}},
    ],
    ids=repr,
)  # fmt: skip
def test_with_confidences_that_cannot_be_read(tmp_path, changed):
    write_model(tmp_path / "mesh.onnx", {**MESH, "confidence": CONFIDENCE}, SAID | HAND)
    open_session(tmp_path / "mesh.onnx", "mesh")
    write_model(tmp_path / "mesh.onnx", {**MESH, "confidence": changed}, SAID | HAND)
    assert "confidences" in refusal(tmp_path / "mesh.onnx")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": 1' + "0" * 5000 + "}"])
def test_with_metadata_that_no_reader_takes(tmp_path, text):
    assert "not exported by handmesh" in refusal(write_model(tmp_path / "mesh.onnx", text, SAID | HAND))


def test_lacking_outputs(tmp_path):
    for kind, metadata, outputs in (("mesh", MESH, SAID | HAND), ("detector", DETECTOR, MAPS)):
        *rest, last = outputs
        message = refusal(write_model(tmp_path / "less.onnx", metadata, {name: outputs[name] for name in rest}), kind)
        assert f"lacks the outputs {last}:" in message


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("vertices_m", (1, 4, 3)), ("joints_m", (1, 20, 3)), ("rotations", (1, 16, 9)), ("presence", ()),
        ("faces", np.zeros(1, np.int32)), ("faces", np.zeros((2, 3), np.float32)),
        ("hand_template", np.zeros((3, 4), np.float32)), ("hand_posedirs", np.zeros((3, 3, 134), np.float32)),
    ],
    ids=str,
)  # fmt: skip
def test_with_right_names_and_wrong_shapes(tmp_path, name, output):
    """Found when the file is opened, not in some frame."""
    assert f"gives {name} as" in refusal(write_model(tmp_path / "mesh.onnx", MESH, SAID | HAND | {name: output}))


def test_with_maps_of_another_size_than_the_image(tmp_path):
    path = write_model(tmp_path / "detector.onnx", DETECTOR, MAPS | {"offset": (1, 2, 3, 1)})
    assert "gives offset as" in refusal(path, "detector")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("faces", np.int32([[0, 1, 3]])), ("faces", np.int32([[0, 1, -1]])), ("faces", np.zeros((0, 3), np.int32)),
        ("hand_weights", np.zeros((3, 16), np.float32)), ("hand_template", np.full((3, 3), np.nan, np.float32)),
    ],
)  # fmt: skip
def test_with_a_damaged_hand(tmp_path, name, value):
    assert "damaged hand" in refusal(write_model(tmp_path / "mesh.onnx", MESH, SAID | HAND | {name: value}))


def test_with_an_image_that_would_fill_the_memory(tmp_path):
    """20,000 pixels a side are 1.2 GB, and four times that as numbers: nothing may be run to find out."""
    path = write_model(tmp_path / "huge.onnx", DETECTOR, shape=(1, 20_000, 20_000, 3))
    assert "at most 2048 pixels" in refusal(path, "detector")


@pytest.mark.parametrize("threads", [-5, 0, 1.5, "2", 10**400])
def test_threads_that_cannot_be_are_refused_at_once(tmp_path, threads):
    with pytest.raises(ValueError, match=r"^threads must be .*$"):
        open_session(write_model(tmp_path / "detector.onnx", DETECTOR), "detector", threads)


FORKED = """
import faulthandler, os, sys
import numpy as np
from handmesh.assets import model_path
from handmesh.tracking.backends import open_session

session = open_session(model_path("fast"), "mesh", threads=3, backend=sys.argv[1])
crop = np.zeros((1, *session.input_size, 3), np.uint8)
before = session.run(crop)
for uses in (True, False):
    if (child := os.fork()) == 0:
        faulthandler.dump_traceback_later(50, exit=True)
        sys.exit(uses and any(np.abs(session.run(crop)[name] - before[name]).max() > 1e-3 for name in before))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, uses
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system")
@pytest.mark.parametrize("runs_in", ["onnxruntime", "openvino"])
def test_a_forked_process_runs_networks_with_threads_of_its_own(runs_in):
    """And ends, though the threads that it inherited cannot."""
    pytest.importorskip(runs_in)
    ran = subprocess.run(
        [sys.executable, "-c", FORKED, runs_in], capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stderr


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
