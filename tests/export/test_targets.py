"""What is made for browsers, OpenVINO and Core ML says the same as what it was made of, and every target can run it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import web_workspace

torch = pytest.importorskip("torch", reason="export needs the training extra")
onnx = pytest.importorskip("onnx", reason="export needs the training extra")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from handmesh import crop  # noqa: E402
from handmesh.assets import ASSETS, DETECTOR, bundled_models  # noqa: E402
from handmesh.detection import read_maps  # noqa: E402
from handmesh.export import onnx as onnx_module  # noqa: E402
from handmesh.export import targets  # noqa: E402
from handmesh.export.compress import EIGHT_BITS_FROM, convolutions_in_eight_bits  # noqa: E402
from handmesh.export.onnx import (  # noqa: E402
    CLIP,
    NOISE,
    VERTEX_TOLERANCE_MM,
    ExportMismatch,
    ImageGraph,
    OnnxFile,
    Parity,
    check,
    clip_frames,
    images_for,
    measure,
    read_onnx,
    runner,
)
from handmesh.export.targets import BUDGET_MB, ExportOptions, export, export_openvino, violations  # noqa: E402
from handmesh.tracking.backends import HAND_OUTPUTS, MESH_OUTPUTS, open_session  # noqa: E402

MESH = bundled_models()[0]


@pytest.fixture(scope="module", autouse=True)
def few_images():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_module, "STEP", 100)
        yield


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> dict[str, Path]:
    """The bundled files of a mesh network and the detector, as the script makes them for browsers."""
    folder = tmp_path_factory.mktemp("web")
    paths = {name: folder / f"{name}.onnx" for name in (MESH, DETECTOR)}
    for name, path in paths.items():
        said = export(ExportOptions(name, path, "onnx-web"))
        assert f"wrote {path}" in said and "x clip" in said
    return paths


def bundled(name: str) -> OnnxFile:
    return read_onnx(ASSETS / f"{name}.onnx")


def graph_of(nodes: list, weights: dict[str, np.ndarray], shape: list, opset: int = 20) -> onnx.ModelProto:
    """A graph from `image` to `out`."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "out")]
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", values[:1], values[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize("name", [*bundled_models(), DETECTOR])
def test_bundled_graphs_keep_every_target_open(name):
    assert violations(bundled(name).in_single_precision().proto) == []


def test_what_some_target_lacks_is_named():
    nodes = [helper.make_node("Einsum", ["image", "w"], ["out"], equation="bi,ij->bj")]
    found = violations(graph_of(nodes, {"w": np.eye(2)}, ["batch", 2], opset=21))
    expected = ("opset 21", "matrix product", "image has no", "out has no", "w is stored as DOUBLE")
    assert all(part in line for part, line in zip(expected, found, strict=True))


def test_web_files_fit_their_budget_and_every_target(web):
    assert sum(path.stat().st_size for path in web.values()) < BUDGET_MB * 1e6
    for path in web.values():
        assert violations(onnx.load(path)) == []


def test_a_mesh_network_for_the_web_is_no_larger_and_the_same_but_for_rounding(web):
    before, after = (open_session(path, "mesh", threads=1) for path in (ASSETS / f"{MESH}.onnx", web[MESH]))
    assert (ASSETS / f"{MESH}.onnx").stat().st_size >= web[MESH].stat().st_size
    assert before.metadata == after.metadata
    assert {*after.constants} >= {*HAND_OUTPUTS}
    for name, value in before.constants.items():
        np.testing.assert_array_equal(after.constants[name], value)
    image = np.random.default_rng(1).integers(0, 256, (1, *before.input_size, 3), np.uint8)
    expected, given = runner(bundled(MESH).in_single_precision())(image), after.run(image)
    assert [*given] == [*expected] == [*MESH_OUTPUTS, "contact"]
    for name, value in expected.items():
        np.testing.assert_allclose(given[name], value, atol=1e-5)
    crops = images_for("mesh", before.input_size, before.metadata["box_scale"])[CLIP]
    apart_mm = [1000 * np.abs(before.run(one)["vertices_m"] - after.run(one)["vertices_m"]).max() for one in crops]
    assert len(apart_mm) >= 3 and 0.01 < max(apart_mm) < VERTEX_TOLERANCE_MM["int8"]


def test_the_detector_in_eight_bits_finds_the_same_hands(web):
    before, after = (open_session(path, "detector", threads=1) for path in (ASSETS / "detector.onnx", web[DETECTOR]))
    assert web[DETECTOR].stat().st_size < 0.6 * (ASSETS / "detector.onnx").stat().st_size
    seen = 0
    for frame in clip_frames():
        boxed = crop.letterbox(frame, *before.input_size)
        maps = [{name: value[0] for name, value in s.run(boxed.image[None]).items()} for s in (before, after)]
        expected, given = (read_maps(one, boxed, 0.3) for one in maps)
        assert len(given) == len(expected)
        for one, other in zip(given, expected, strict=True):
            assert one.side == other.side and one.score == pytest.approx(other.score, abs=0.01)
            assert (
                math.dist(one.box.centre_px, other.box.centre_px) < 0.15 * other.box.size_px
            )  # a neighbouring cell that is as sure
            assert one.box.size_px == pytest.approx(other.box.size_px, rel=0.03)
            seen += 1
    assert seen >= 3


def test_eight_bits_round_each_channel_by_half_a_step_and_are_folded(tmp_path):
    weights = np.random.default_rng(0).normal(size=(3, 8, 1, 1)).astype(np.float32) * [[[[1]]], [[[100]]], [[[0]]]]
    weights = weights.astype(np.float32)
    cast = helper.make_node("Cast", ["w.fp16"], ["w"], to=TensorProto.FLOAT)
    conv = helper.make_node("Conv", ["image", "w"], ["out"])
    whole = graph_of([conv], {"w": weights}, [1, 8, 1, 1])
    halved = graph_of([cast, conv], {"w.fp16": weights.astype(np.float16)}, [1, 8, 1, 1])
    for proto in (whole, halved):
        proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
        stored = convolutions_in_eight_bits(proto, 24)
        assert {numpy_helper.to_array(t).dtype.name for t in stored.graph.initializer} == {"int8", "float32"}
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(tmp_path / "folded.onnx")
        session = onnxruntime.InferenceSession(stored.SerializeToString(), options, ["CPUExecutionProvider"])
        assert [node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node] == ["Conv"]
        columns = [
            session.run(None, {"image": one[None, :, None, None]})[0][0, :, 0, 0] for one in np.eye(8, dtype="f4")
        ]
        steps = np.abs(weights).max(axis=(1, 2, 3)) / 127
        assert (np.abs(np.array(columns).T - weights[..., 0, 0]) <= 0.55 * steps[:, None]).all()
        assert len(convolutions_in_eight_bits(proto, 25).graph.node) == len(proto.graph.node)


def test_large_layers_alone_are_in_eight_bits(web):
    sizes = {len(t.raw_data) for t in onnx.load(web[DETECTOR]).graph.initializer if t.data_type == TensorProto.INT8}
    assert min(sizes) >= EIGHT_BITS_FROM
    of_mesh = [t for t in onnx.load(web[MESH]).graph.initializer if t.data_type == TensorProto.INT8]
    kinds = Counter(tuple(t.dims[2:]) for t in of_mesh)
    assert kinds == {(1, 1): 2 * 20, (): 4}, "its pairs of convolutions, and its head's large matrices"


def test_onnxruntime_web_gives_what_python_gives(web, tmp_path):
    web_workspace.require_packages()
    jobs, expected = [], {}
    for name, path in web.items():
        file = read_onnx(path)
        image = images_for(file.metadata["kind"], file.input_size, file.metadata.get("box_scale", 1.0))[CLIP][0]
        (tmp_path / f"{name}.raw").write_bytes(image.tobytes())
        jobs += [path, tmp_path / f"{name}.raw", tmp_path / f"{name}.json"]
        expected[name] = runner(file)(image)
    script = Path(__file__).parents[1] / "web" / "onnx.mjs"
    done = subprocess.run(
        ["node", script, web_workspace.NODE_MODULES, *jobs], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for name, outputs in expected.items():
        given = json.loads((tmp_path / f"{name}.json").read_text())
        assert {*given} >= {*outputs}
        for key, value in outputs.items():
            np.testing.assert_allclose(np.reshape(given[key], value.shape), value, atol=1e-4)
    np.testing.assert_array_equal(json.loads((tmp_path / f"{MESH}.json").read_text())["faces"], faces().ravel())


def faces() -> np.ndarray:
    return open_session(ASSETS / f"{MESH}.onnx", "mesh", threads=1).constants["faces"]


@pytest.fixture
def brightness() -> OnnxFile:
    """The smallest graph that passes for a detector."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "w"], ["out"]),
    ]
    proto = graph_of(nodes, {"w": np.full((1, 1, 1, 3), 0.01, np.float32)}, [1, 32, 64, 3])
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return OnnxFile(proto, {"format": 1, "kind": "detector", "name": "tiny"})


def test_openvino_files_say_the_same_and_what_they_are(brightness, tmp_path, monkeypatch):
    openvino = pytest.importorskip("openvino", reason="needs the openvino extra")
    path = tmp_path / "new" / "tiny.xml"
    assert 0 < export_openvino(brightness, path)["f32"].worst("out") < 0.01
    assert {file.name for file in path.parent.iterdir()} == {"tiny.xml", "tiny.bin"}
    model = openvino.Core().read_model(path)
    assert json.loads(model.get_rt_info(["handmesh"]).value) == brightness.metadata
    assert list(model.inputs[0].shape) == [1, 32, 64, 3]
    monkeypatch.setitem(targets.OPENVINO_TOLERANCE, "detector", {NOISE: 1e-9, CLIP: 1e-9})
    with pytest.raises(ExportMismatch, match="nothing was written"):
        export_openvino(brightness, tmp_path / "other.xml")
    assert not list(tmp_path.glob("*other*"))


class Brightness(ImageGraph):
    """The smallest graph that Core ML could be given."""

    outputs = ("mean",)

    def of_unit(self, image):
        return (image.mean((2, 3)),)


def test_a_core_ml_package_takes_an_image_and_says_what_it_is(tmp_path):
    tools = pytest.importorskip("coremltools", reason="needs coremltools")
    path, metadata = tmp_path / "tiny.mlpackage", {"kind": "mesh", "name": "tiny", "box_scale": 1.5}
    (path / "old").mkdir(parents=True)
    images = {NOISE: [np.full((1, 16, 8, 3), 51, np.uint8)]}
    report = targets.export_coreml(Brightness(), metadata, path, (16, 8), images)
    assert report.program.worst("mean") < 1e-6
    assert (report.package is None) == (sys.platform != "darwin")
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.mlpackage"] and not (path / "old").exists()
    said = tools.utils.load_spec(str(path)).description
    assert json.loads(said.metadata.userDefined["handmesh"]) == {"format": 1, **metadata}
    image = said.input[0].type.imageType
    assert (said.input[0].name, image.width, image.height) == ("image", 8, 16)
    assert said.output[0].name == "mean"


@pytest.mark.parametrize(
    ("target", "package", "hint"), [("coreml", "coremltools", "coremltools"), ("openvino", "openvino", r"\[openvino\]")]
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, target, package, hint):
    monkeypatch.setitem(sys.modules, package, None)
    out = tmp_path / ("x.xml" if target == "openvino" else "x.mlpackage")
    with pytest.raises(ValueError, match=f"pip install.*{hint}"):
        export(ExportOptions(DETECTOR, out, target))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("fast", "x.onnx", "coreml"), "written as .mlpackage, got --output x.onnx"),
        (("nothing", "x.onnx", "onnx-web"), "neither weights .* nor one of .*detector"),
        (("gone.onnx", "x.onnx", "onnx-web"), "no model at gone.onnx"),
        (("gone.safetensors", "x.onnx", "onnx"), "no weights at gone.safetensors"),
        (("some.onnx", "x.onnx", "onnx"), r"made from weights \(.safetensors\), got some.onnx"),
        ((DETECTOR, "x.onnx", "onnx-web", None, 96), "--crop-size shape.* detector is exported already"),
        (("fast", "x.onnx", "onnx", None, 0), "at least 32 pixels, got 0"),
        (("fast", "x.onnx", "onnx", None, None, 0.9), "--box-scale must lie between 1 and 2, got 0.9"),
        (("fast", "x.onnx", "onnx", None, None, float("nan")), "--box-scale must lie between 1 and 2, got nan"),
    ],
)
def test_what_cannot_be_exported_is_said(options, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, out, *more = options
    with pytest.raises(ValueError, match=reason) as caught:
        export(ExportOptions(source, Path(out), *more))
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_foreign_and_damaged_graphs_are_refused(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ValueError, match="not a readable ONNX model"):
        read_onnx(path)
    identity = [helper.make_node("Identity", ["image"], ["out"])]
    path.write_bytes(graph_of(identity, {}, [1, 2]).SerializeToString())
    with pytest.raises(ValueError, match="was not exported by handmesh"):
        read_onnx(path)


def test_parity_is_the_largest_difference_and_no_number_is_none():
    images = {NOISE: [np.zeros(1), np.ones(1)], CLIP: [np.ones(1)]}
    found = measure(lambda i: {"x_m": i}, lambda i: {"x_m": i * 1.002, "more": i}, images)
    assert found.differences["x_m"] == pytest.approx({NOISE: 0.002, CLIP: 0.002})
    assert "2.00000 mm" in found.table() and "2 x noise" in found.table() and "1 x clip" in found.table()
    check(found, {NOISE: 0.01, CLIP: 0.01})
    with pytest.raises(ExportMismatch, match="on clip"):
        check(found, {NOISE: 0.01, CLIP: 0.001})
    nan = measure(lambda i: {"x": i}, lambda i: {"x": i * np.nan}, images)
    with pytest.raises(ExportMismatch, match="differs by nan"):
        check(Parity(nan.differences, nan.images), {NOISE: 1.0, CLIP: 1.0})
