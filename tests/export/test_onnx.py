"""The exported graph gives what torch gives, and says what it is."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="export needs the training extra")
onnx = pytest.importorskip("onnx", reason="export needs the training extra")

from handmesh.assets import ASSETS, DEFAULT, bundled_models, model_path  # noqa: E402
from handmesh.console import parse  # noqa: E402
from handmesh.evaluation.calibration import CalibrationOptions  # noqa: E402
from handmesh.export import onnx as onnx_module  # noqa: E402
from handmesh.export import targets  # noqa: E402
from handmesh.export.compress import storage_of  # noqa: E402
from handmesh.export.onnx import (  # noqa: E402
    CLIP,
    HALVED_FROM,
    OPSET,
    VERTEX_TOLERANCE_MM,
    ExportMismatch,
    MeshGraph,
    MeshOutputs,
    export_mesh,
    images_for,
    read_onnx,
    runner,
)
from handmesh.export.targets import violations  # noqa: E402
from handmesh.hand.lbs import SkinnedHand  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.models.checkpoint import load_network, load_weights, save_weights  # noqa: E402
from handmesh.models.mesh_net import HandNet, NetworkConfig  # noqa: E402
from handmesh.tracking import backends  # noqa: E402
from handmesh.tracking.backends import open_session  # noqa: E402
from handmesh.training.config import MeshConfig, as_plain  # noqa: E402

PROBABILITIES = {
    "proposed": 0.28,
    "found": {"bias": -0.5, "presence": 1.2},
    "followed": {"bias": 0.1, "presence": 0.9},
}


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.load()


@pytest.fixture(scope="module")
def network(model) -> HandNet:
    torch.manual_seed(0)
    made = HandNet(NetworkConfig(contact=True), model.mean_pose)
    made(torch.rand(4, 3, 64, 64))
    return made.eval()


class Exported(NamedTuple):
    path: Path
    differences: dict[str, float]  # from torch, as `export_mesh` says them


@pytest.fixture(scope="module")
def exported(network, model, tmp_path_factory) -> dict[str, Exported]:
    """The network in either precision; the graph, which takes seconds to make, is made once."""
    folder, files = tmp_path_factory.mktemp("exported"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_module, "to_onnx", cache_one(onnx_module.to_onnx))
        for precision in ("fp32", "fp16"):
            path = folder / f"{precision}.onnx"
            files[precision] = Exported(
                path, export_mesh(network, model, path, 64, 1.5, "tiny", precision, PROBABILITIES)
            )
    return files


def cache_one(make):
    made = []
    return lambda *arguments: made[0] if made else made.append(make(*arguments)) or made[0]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnx_equals_torch_and_carries_its_metadata(exported, network, model, precision):
    path, differences = exported[precision]
    session = open_session(path, "mesh", threads=1)
    assert session.input_size == (64, 64)
    assert session.metadata["format"] == 1 and session.metadata["box_scale"] == 1.5
    assert session.metadata["confidence"] == PROBABILITIES
    given = session.run(np.zeros((1, 64, 64, 3), np.uint8))
    assert [*given] == [*differences] == [*MeshOutputs._fields]
    np.testing.assert_array_equal(session.constants["faces"], model.faces)
    hand = SkinnedHand.open_hand()
    for name in ("template", "shapedirs", "weights", "keypoint_regressor"):
        np.testing.assert_allclose(session.constants[f"hand_{name}"], getattr(hand, name), atol=1e-7)
    np.testing.assert_allclose(given["joints_m"][0, 9], 0, atol=1e-7)
    image = np.random.default_rng(5).integers(0, 256, (1, 64, 64, 3), np.uint8)
    with torch.no_grad():
        expected = MeshGraph(network, model)(torch.from_numpy(image))[0].numpy()
    farthest_mm = 1000 * np.abs(session.run(image)["vertices_m"] - expected).max()
    assert farthest_mm < VERTEX_TOLERANCE_MM[precision] and differences["contact"] < 0.05
    assert 1000 * differences["vertices_m"] < VERTEX_TOLERANCE_MM[precision]


def test_layers_stay_whole_where_their_rounding_costs_too_much(network, model, tmp_path, monkeypatch):
    """With a tolerance between what all layers in half precision cost and what the larger ones alone do."""
    from handmesh.export import onnx as exporting

    def exported(tolerance_mm: float) -> tuple[int, float]:
        monkeypatch.setitem(exporting.VERTEX_TOLERANCE_MM, "fp16", tolerance_mm)
        path = tmp_path / "some.onnx"
        difference = export_mesh(network, model, path, 64, 1.5, "tiny")["vertices_m"]
        halved = sum(t.data_type == onnx.TensorProto.FLOAT16 for t in onnx.load(path).graph.initializer)
        return halved, 1000 * difference

    all_halved, difference_mm = exported(0.5)
    some_halved, smaller_mm = exported(0.9 * difference_mm)
    assert smaller_mm < 0.9 * difference_mm and 0 <= some_halved < all_halved


ANY = [("repvit_m0_9", "keypoint", 64, 1), ("fastvit_t8", "keypoint", 96, 2), ("fastvit_t8", "pooled", 64, 3)]


@pytest.mark.parametrize("backbone, head, size, seed", ANY)
def test_any_network_is_exported_without_a_flag(backbone, head, size, seed, model, tmp_path):
    """As it is initialised, with statistics of noise: storage is chosen so that vertices agree."""
    torch.manual_seed(seed)
    network = HandNet(NetworkConfig(backbone, head=head), model.mean_pose)
    network(torch.rand(4, 3, 64, 64))
    export_mesh(network, model, tmp_path / "any.onnx", size, 1.5, "any")
    image = np.random.default_rng(seed).integers(0, 256, (1, size, size, 3), np.uint8)
    with torch.no_grad():
        expected = MeshGraph(network.eval(), model)(torch.from_numpy(image))[0].numpy()
    given = open_session(tmp_path / "any.onnx", "mesh", threads=1).run(image)
    assert [*given] == [name for name in MeshOutputs._fields if name != "contact"], "nobody asked for it"
    assert 1000 * np.abs(given["vertices_m"] - expected).max() < 0.5


def test_where_no_rounding_is_borne_all_stays_whole(exported, network, model, tmp_path, monkeypatch):
    """With a tolerance that only single precision meets; asked for by name, half precision is refused."""
    monkeypatch.setitem(
        onnx_module.VERTEX_TOLERANCE_MM, "fp16", 1000 * exported["fp32"].differences["vertices_m"] + 1e-4
    )
    monkeypatch.setattr(onnx_module, "to_onnx", lambda *_: onnx.load(exported["fp32"].path))
    export_mesh(network, model, tmp_path / "whole.onnx", 64, 1.5, "whole")
    assert storage_of(onnx.load(tmp_path / "whole.onnx")) == "fp32"
    assert storage_of(onnx.load(exported["fp16"].path)) == "fp16"
    with pytest.raises(ExportMismatch, match="nothing was written: leave --precision out"):
        export_mesh(network, model, tmp_path / "half.onnx", 64, 1.5, "half", "fp16")
    assert not (tmp_path / "half.onnx").exists()


@pytest.mark.parametrize("calibrated", [True, False])
def test_an_export_without_a_calibration_says_so_and_how_to_make_one(
    exported, network, tmp_path, monkeypatch, calibrated
):
    proto = onnx.load(exported["fp32"].path)
    written = json.loads(proto.metadata_props[0].value)
    onnx.helper.set_model_props(
        proto, {"handmesh": json.dumps(written if calibrated else written | {"confidence": None})}
    )
    monkeypatch.setattr(targets, "export_mesh", lambda *given: onnx.save(proto, given[2]))
    config = {"task": "mesh", **as_plain(MeshConfig(network=network.config))}
    save_weights(tmp_path / "weights.safetensors", network.state_dict(), {"config": config})
    output = tmp_path / "mine.onnx"
    said = targets.export(targets.ExportOptions(str(tmp_path / "weights.safetensors"), output, crop_size=64))
    assert ("not calibrated" in said) != calibrated and "weights stored as fp32" in said
    command = (
        f"handmesh evaluate calibration --model {output} --photos FOLDER --backgrounds FOLDER --output calibration"
    )
    assert (command in said) != calibrated
    if not calibrated:
        options = parse(CalibrationOptions, command.split()[3:], "handmesh evaluate calibration")
        assert options.model == str(output)


@pytest.mark.parametrize("box_scale", [None, 1.3])
def test_an_export_may_be_shown_tighter_crops_than_its_training(exported, network, tmp_path, monkeypatch, box_scale):
    proto, given = onnx.load(exported["fp32"].path), []
    monkeypatch.setattr(targets, "export_mesh", lambda *told: given.append(told[4]) or onnx.save(proto, told[2]))
    config = as_plain(MeshConfig(network=network.config))
    save_weights(tmp_path / "weights.safetensors", network.state_dict(), {"config": {"task": "mesh", **config}})
    options = targets.ExportOptions(
        str(tmp_path / "weights.safetensors"), tmp_path / "mine.onnx", crop_size=64, box_scale=box_scale
    )
    targets.export(options)
    assert given == [box_scale or config["box_scale"]]


def test_half_precision_halves_the_file_and_rounds_its_weights_alone(exported):
    full, half = (onnx.load(exported[precision].path) for precision in ("fp32", "fp16"))
    assert half.ByteSize() < 0.53 * full.ByteSize()
    assert [opset.version for opset in half.opset_import] == [OPSET]
    of_full = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in full.graph.initializer}
    of_half = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in half.graph.initializer}
    for name, value in of_full.items():
        if name in of_half:
            np.testing.assert_array_equal(of_half[name], value)
        else:
            assert value.dtype == np.float32 and value.size >= HALVED_FROM[0]
            np.testing.assert_array_equal(of_half[f"{name}.fp16"], value.astype(np.float16))
    whole = {name for name, value in of_half.items() if value.dtype == np.float32 and value.size >= HALVED_FROM[0]}
    assert whole == {f"model.{name}" for name in ("template", "shapedirs", "weights", "keypoint_regressor")}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_fresh_export_keeps_every_target_open(exported, precision):
    assert violations(onnx.load(exported[precision].path)) == []


def test_the_hand_is_in_the_file_once(exported, model):
    weights = sum(np.prod(t.dims) * 4 for t in onnx.load(exported["fp32"].path).graph.initializer)
    assert exported["fp32"].path.stat().st_size - weights < 12 * len(model.faces) + 100_000


def test_sessions_fold_the_casts(exported, tmp_path):
    counts = []
    for precision in ("fp32", "fp16"):
        options = backends.session_options(1)
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(exported[precision].path, options, providers=["CPUExecutionProvider"])
        counts.append(Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node))
    assert counts[0] == counts[1]
    assert sum(node.op_type == "Cast" for node in onnx.load(exported["fp16"].path).graph.node) > 50


def test_a_graph_that_differs_is_not_written(network, model, tmp_path, monkeypatch):
    monkeypatch.setattr(HandNet, "reparameterised", lambda self: HandNet(self.config).eval())
    with pytest.raises(ExportMismatch, match="nothing was written"):
        export_mesh(network, model, tmp_path / "mesh.onnx", 64, 1.5, "broken")
    assert not list(tmp_path.iterdir())


def test_weights_round_trip_strictly(network, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(
        path, network.state_dict(), {"config": {"task": "mesh", **as_plain(MeshConfig(network=network.config))}}
    )
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


def test_weights_that_a_wheel_lacks_are_in_a_checkout():
    with pytest.raises(ValueError, match="checkout"):
        load_weights(ASSETS / "gone.safetensors")


@pytest.mark.parametrize("name", bundled_models())
def test_a_shipped_graph_is_that_of_shipped_weights(name, model):
    """Sizes share the weights of the default, but for those that have a file of their own."""
    weights = model_path(name).with_suffix(".safetensors")
    weights = weights if weights.exists() else weights.with_stem(DEFAULT)
    session = open_session(model_path(name), "mesh", threads=1)
    assert storage_of(onnx.load(model_path(name))) == "int8"
    graph, apart_mm = MeshGraph(load_network(weights), model), []
    for image in images_for("mesh", session.input_size, session.metadata["box_scale"])[CLIP]:
        with torch.no_grad():
            expected = dict(zip(graph.outputs, graph(torch.from_numpy(image)), strict=True))
        given = session.run(image)
        assert [*given] == graph.outputs and "contact" in given
        apart_mm.append(1000 * np.abs(given["vertices_m"] - expected["vertices_m"].numpy()))
    assert np.max(apart_mm) < VERTEX_TOLERANCE_MM["int8"] and np.mean(apart_mm) < 0.5


@pytest.mark.parametrize("name", bundled_models())
def test_shipped_levels_are_those_of_shipped_weights(name):
    """Each convolution and large matrix in eight bits is that of the weights, but for half a step of its scale."""
    network = load_network(model_path(name).with_suffix(".safetensors")).reparameterised()
    weights = {f"network.{key}": value.numpy() for key, value in network.state_dict().items() if value.ndim > 1}
    proto = onnx.load(model_path(name))
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    compared = 0
    for node in proto.graph.node:
        key = node.input[0].removesuffix("_quantized") if node.op_type == "DequantizeLinear" else ""
        if key in weights:
            levels, scale = stored[node.input[0]], stored[node.input[1]]
            scale = scale.reshape(-1, *[1] * (levels.ndim - 1))
            assert np.abs(levels).max() <= 64, "fewer than eight bits, so that no processor overflows"
            assert (np.abs(levels * scale - weights[key]) <= 0.501 * scale).all(), key
            compared += levels.size
    assert compared > 0.9 * sum(value.size for value in weights.values())


def test_in_eight_bits_convolutions_multiply_integers(tmp_path):
    """Sessions fold what rounds into convolutions of integers, the two of each pair, and large products; it is said."""
    said = targets.export(targets.ExportOptions("fast", tmp_path / "mine.onnx", precision="int8"))
    assert "weights stored as int8" in said and "the target onnx-web leaves it out" in said
    options = backends.session_options(1)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(tmp_path / "mine.onnx", options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    integer = sum(count for kind, count in counts.items() if "QLinearConv" in kind)
    assert integer == 2 * 20, "of the bundled networks' pairs of 1x1 convolutions, after the first ones"
    assert counts["QGemm"] == 4, "two of the regression, contact's and the correction's"


def test_a_fastvit_in_eight_bits_is_the_same_without_the_rounding(model, tmp_path):
    """Its widest layers have more scales than tensors have numbers that stay whole when the others are halved."""
    torch.manual_seed(0)
    network = HandNet(NetworkConfig("fastvit_t8"), model.mean_pose)
    network(torch.rand(4, 3, 64, 64))
    export_mesh(network, model, tmp_path / "fastvit.onnx", 64, 1.5, "any", "int8")
    file = read_onnx(tmp_path / "fastvit.onnx")
    single = file.in_single_precision()
    assert storage_of(file.proto) == "int8" and violations(single.proto) == []
    assert 1000 * file.compared(runner(single)).worst("vertices_m") < 0.1


def test_eight_bits_are_for_mesh_networks_as_handmesh_runs_them(tmp_path):
    with pytest.raises(ValueError, match="a detector is stored in fp16 or fp32"):
        targets.export(targets.ExportOptions("detector", tmp_path / "mine.onnx", precision="int8"))
    with pytest.raises(ValueError, match="int8 is for the target onnx, got 'onnx-web'"):
        targets.export(targets.ExportOptions("fast", tmp_path / "mine.onnx", "onnx-web", precision="int8"))
    assert not list(tmp_path.iterdir())
