"""From weights to one verified ONNX graph, and how it is stored: crop to vertices, or whole image to maps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from handmesh.data.detection import Size
from handmesh.export.parity import ExportMismatch, worst_on_noise
from handmesh.files import write_bytes
from handmesh.hand.model import HandModel
from handmesh.models.checkpoint import load_weights
from handmesh.models.detector_net import DetectorNet, DetectorNetworkConfig, DetectorOutput
from handmesh.models.mesh_net import HandNet
from handmesh.training.losses import pose_hand

Precision = Literal["fp16", "fp32"]
"""How weights are stored. Sessions compute in single precision either way; half makes the file half as large."""

HALVED_FROM = (1024, 4096, 16_384, 65_536, 262_144)
"""Tensors with fewer weights than the first stay in single precision, biases among them: there is little to save. Where
rounding costs too much, the next one holds: early layers are small, and their rounding goes through all later ones."""


def stored_in(precision: Precision, proto: onnx.ModelProto, halved_from: int = HALVED_FROM[0]) -> onnx.ModelProto:
    """The same graph with its network's weights stored in `precision`; it computes in single precision either way.

    halved_from: tensors with fewer weights stay whole. Weights in half precision go through a Cast each. The hand model
    stays whole: rounding its constants would move vertices by up to 0.06 mm and save one per cent.
    """
    halved = _copy(proto)
    if precision == "fp32":
        return halved
    casts = []
    for tensor in halved.graph.initializer:
        if not _is_large_weight(tensor, halved_from):
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    return _checked(halved, casts)


def _is_large_weight(tensor: onnx.TensorProto, smallest: int) -> bool:
    """Of the network, that is: the exporter keeps the names of the hand's constants, but not of all weights."""
    of_network = tensor.data_type == onnx.TensorProto.FLOAT and not tensor.name.startswith("model.")
    return of_network and math.prod(tensor.dims) >= smallest


EIGHT_BITS_FROM = 16_000
"""The detector's convolutions with as many weights, all of them 1x1, go to browsers in eight bits."""


def for_browsers(proto: onnx.ModelProto, is_detector: bool) -> onnx.ModelProto:
    """The same graph in as few bytes as its numbers allow: each constant once, a detector's large layers in eight bits.

    `targets.WEB_TOLERANCE` says how far the numbers of a detector may be; a mesh network's stay as they are.
    """
    proto = shared(proto)
    return convolutions_in_eight_bits(proto, EIGHT_BITS_FROM) if is_detector else proto


def convolutions_in_eight_bits(proto: onnx.ModelProto, smallest: int) -> onnx.ModelProto:
    """The same graph with the weights of large convolutions as int8, and a scale for each output channel.

    smallest: how many weights make a convolution large. Weights may be stored in half or in single
    precision before. Multiplied back by Cast and Mul: runtimes fold these, but not DequantizeLinear.
    """
    stored = _copy(proto)
    tensors = {tensor.name: tensor for tensor in stored.graph.initializer}
    casts = {node.output[0]: node for node in stored.graph.node if node.op_type == "Cast" and node.input[0] in tensors}
    names = [node.input[1] for node in stored.graph.node if node.op_type == "Conv"]
    restored = []
    for name in dict.fromkeys(names):
        tensor = tensors.get(casts[name].input[0] if name in casts else name)
        if tensor is None or tensor.data_type not in _FLOATS or math.prod(tensor.dims) < smallest:
            continue
        if name in casts:
            stored.graph.node.remove(casts[name])
        levels, scale = _in_eight_bits(numpy_helper.to_array(tensor).astype(np.float32))
        tensor.CopyFrom(numpy_helper.from_array(levels, f"{name}.int8"))
        stored.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        restored += [
            onnx.helper.make_node("Cast", [f"{name}.int8"], [f"{name}.levels"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Mul", [f"{name}.levels", f"{name}.scale"], [name]),
        ]
    return _checked(stored, restored)


_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def _in_eight_bits(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels of (O, ...) weights, int8, and the (O, 1, ...) steps between them."""
    scale = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True) / 127
    scale = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)  # a channel may be all zero
    return np.round(weights / scale).astype(np.int8), scale


def shared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in which constant outputs that repeat a weight are taken from it: half a megabyte less.

    They are the parametric hand, which the graph itself poses: as it is, with its axes in another order,
    or with its columns in another order.
    """
    stored = _copy(proto)
    weights = [t for t in stored.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2]
    taken = []
    for node in list(stored.graph.node):
        if node.op_type != "Constant" or not node.output[0].startswith("hand_"):
            continue
        value = numpy_helper.to_array(node.attribute[0].t)
        for weight in weights:
            nodes = _taken_from(weight, value, node.output[0], stored.graph)
            if nodes:
                stored.graph.node.remove(node)
                taken += nodes
                break
    return _checked(stored, taken)


def _taken_from(
    weight: onnx.TensorProto, value: np.ndarray, name: str, graph: onnx.GraphProto
) -> list[onnx.NodeProto] | None:
    """The nodes that make the output `name` of a weight; None where `value` is not made of its numbers."""
    have = numpy_helper.to_array(weight)
    if have.size != value.size:
        return None
    if np.array_equal(have, value):
        return [onnx.helper.make_node("Identity", [weight.name], [name])]
    if value.ndim == 3 and np.array_equal(have, value.transpose(2, 0, 1).reshape(value.shape[2], -1)):
        graph.initializer.append(numpy_helper.from_array(np.roll(value.shape, 1).astype(np.int64), f"{name}.shape"))
        return [
            onnx.helper.make_node("Reshape", [weight.name, f"{name}.shape"], [f"{name}.unfolded"]),
            onnx.helper.make_node("Transpose", [f"{name}.unfolded"], [name], perm=[1, 2, 0]),
        ]
    order = _order_of_columns(have, value)
    if order is None:
        return None
    graph.initializer.append(numpy_helper.from_array(order, f"{name}.order"))
    return [onnx.helper.make_node("Gather", [weight.name, f"{name}.order"], [name], axis=1)]


def _order_of_columns(have: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """(N,) int64 with `have[:, order]` equal to `wanted`; None where there is none."""
    if have.shape != wanted.shape:
        return None
    positions = {column.tobytes(): position for position, column in enumerate(have.T)}
    order = [positions.get(column.tobytes()) for column in wanted.T]
    return None if None in order else np.array(order, np.int64)


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied


def _checked(proto: onnx.ModelProto, first: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The graph with the nodes that depend on nothing but weights in front, checked by onnx."""
    nodes = [*first, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.checker.check_model(proto)
    return proto


# From weights to one verified ONNX graph: crop to vertices, or whole image to the detector's maps.


# From weights to one ONNX graph, crop to vertices, compared with torch before it is kept.


OPSET = 20

VERTEX_TOLERANCE_MM: dict[Precision, float] = {"fp16": 0.5, "fp32": 0.05}
"""How far vertices may be from torch's on random noise, which is harder than any photograph."""


class MeshOutputs(NamedTuple):
    """The outputs of the exported graph, for one crop. Metres, root-relative, the crop's own view."""

    vertices_m: Tensor  # (1, V, 3)
    joints_m: Tensor  # (1, 21, 3)
    joints_crop: Tensor  # (1, 21, 2), -1 and 1 are the crop's outer borders
    rotations: Tensor  # (1, 16, 3, 3)
    shape: Tensor  # (1, 10)
    presence: Tensor  # (1,) logit
    right: Tensor  # (1,) logit
    spread: Tensor  # (1, 21, 2) errors to expect: half crop sides, decimetres; see `mesh_net.HandNetOutput`


class MeshGraph(nn.Module):
    """(1, S, S, 3) uint8 RGB crops to `MeshOutputs`: what is frozen into the file."""

    def __init__(self, network: HandNet, model: HandModel) -> None:
        super().__init__()
        self.network, self.model = network, model

    def forward(self, image: Tensor) -> MeshOutputs:
        return self.of_unit(image.permute(0, 3, 1, 2).float() / 255)

    def of_unit(self, image: Tensor) -> MeshOutputs:
        """The same of (1, 3, S, S) float RGB between 0 and 1."""
        hand = pose_hand(self.network(image), self.model)
        net = hand.net
        return MeshOutputs(
            hand.vertices_m, hand.joints_m, hand.joints_crop, net.rotations, net.shape, net.presence, net.handedness,
            net.uncertainty,
        )  # fmt: skip


def export_mesh(
    network: HandNet, model: HandModel, path: Path, crop_size: int, box_scale: float, name: str,
    precision: Precision = "fp16", confidence: Mapping[str, Any] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Write the merged network and the hand model to `path`; gives each output's largest difference from torch.

    precision: of the stored weights; with fp16, as many of the smaller layers stay whole as the vertices need.
    confidence: what makes a probability of the network's scores, kept in the file's metadata (`confidence` of a
    calibration.json). Raises ExportMismatch where ONNX Runtime, given the file, and the network in its training form
    disagree; nothing is written then.
    """
    reference = MeshGraph(network.eval(), model.eval())
    graph = MeshGraph(network.reparameterised(), model).eval()
    metadata = {"kind": "mesh", "name": name, "box_scale": box_scale, "backbone": network.config.backbone}
    metadata |= {"confidence": confidence} if confidence else {}
    example = torch.zeros(1, crop_size, crop_size, 3, dtype=torch.uint8)
    proto = to_onnx(graph, example, list(MeshOutputs._fields), metadata, hand_constants(model))
    tolerance_mm = VERTEX_TOLERANCE_MM[precision]
    for halved_from in HALVED_FROM if precision == "fp16" else HALVED_FROM[:1]:
        stored = shared(stored_in(precision, proto, halved_from))
        differences = worst_on_noise(reference, stored, example)
        difference_mm = differences["vertices_m"] * 1000
        if difference_mm < tolerance_mm:  # false for what is no number, too
            write_bytes(path, stored.SerializeToString())
            return differences
    raise ExportMismatch(
        f"vertices differ by {difference_mm:.4f} mm between ONNX (weights stored as {precision}) and torch, "
        f"expected less than {tolerance_mm}; nothing was written"
        + (": try --precision fp32" if precision == "fp16" else "")
    )


def hand_constants(model: HandModel) -> dict[str, np.ndarray]:
    """The parametric hand (see `SkinnedHand`) by the names that the runtime reads, which poses smoothed hands."""
    constants = {
        "faces": model.faces.astype(np.int32),
        "hand_template": model.template,
        "hand_shapedirs": model.shapedirs.unflatten(1, (-1, 3)).permute(1, 2, 0),
        "hand_weights": model.weights[:, model.level_order.argsort()],
        "hand_keypoint_regressor": model.keypoint_regressor,
    }
    if model.posedirs is not None:
        constants["hand_posedirs"] = model.posedirs.unflatten(1, (-1, 3)).permute(1, 2, 0)
    return {name: np.ascontiguousarray(value) for name, value in constants.items()}


def to_onnx(
    graph: nn.Module, example: Tensor, outputs: list[str], metadata: dict[str, Any],
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """A graph with one input `image`, named outputs, constant outputs and handmesh metadata."""
    program = torch.onnx.export(
        graph, (example,), input_names=["image"], output_names=outputs, opset_version=OPSET, dynamo=True, verbose=False
    )
    proto = program.model_proto
    for name, value in (constants or {}).items():
        tensor = onnx.numpy_helper.from_array(value)
        proto.graph.node.append(onnx.helper.make_node("Constant", [], [name], value=tensor))
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))
    onnx.helper.set_model_props(proto, {"handmesh": json.dumps({"format": 1, **metadata})})
    _forget_origins(proto)
    onnx.checker.check_model(proto)
    return proto


def _forget_origins(proto: onnx.ModelProto) -> None:
    """Drop what the exporter notes on where everything came from, which nobody reads and paths are part of."""
    proto.doc_string = ""
    graph = proto.graph
    graph.ClearField("metadata_props")
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


# From the detector's weights to an ONNX graph, whole image to maps, compared with torch before it is kept.


INPUT_SIZE = Size(256, 192)

TOLERANCE: dict[Precision, float] = {"fp16": 3e-2, "fp32": 2e-3}
"""The largest difference between ONNX Runtime and torch, in logits, cells and their logarithms."""


class DetectorGraph(nn.Module):
    """(1, H, W, 3) uint8 RGB images to `DetectorOutput`: what is frozen into the file."""

    def __init__(self, network: DetectorNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> DetectorOutput:
        return self.of_unit(image.permute(0, 3, 1, 2).float() / 255)

    def of_unit(self, image: Tensor) -> DetectorOutput:
        """The same of (1, 3, H, W) float RGB between 0 and 1."""
        return self.network(image)


def load_detector(path: Path) -> DetectorNet:
    """The network of a detector's weights file, in evaluation mode; strict about names and shapes."""
    weights = load_weights(path)
    config = weights.metadata.get("config", {})
    if config.get("task") != "detector":
        raise ValueError(f"{path} holds weights of the task {config.get('task')!r}; expected 'detector'")
    options = {
        name: tuple(v) if isinstance(v, list) else v for name, v in config["network"].items()
    }  # JSON has no tuples
    network = DetectorNet(DetectorNetworkConfig(**options))
    network.load_state_dict(weights.tensors)
    return network.eval()


def export_detector(
    network: DetectorNet, path: Path, size: Size = INPUT_SIZE, name: str = "detector", precision: Precision = "fp16"
) -> dict[str, float]:
    """Write the reparameterised network to `path`; gives each output's largest difference from torch.

    size: of the images that the file takes; precision: of the stored weights. Raises ExportMismatch
    where ONNX Runtime, given the file, and the network in its training form disagree; nothing is
    written then.
    """
    graph = DetectorGraph(network.reparameterised()).eval()
    example = torch.zeros(1, size.height, size.width, 3, dtype=torch.uint8)
    metadata = {"kind": "detector", "name": name, "backbone": network.config.backbone}
    proto = stored_in(precision, to_onnx(graph, example, list(DetectorOutput._fields), metadata))
    differences = worst_on_noise(DetectorGraph(network.eval()), proto, example)
    difference = max(differences.values())
    if not difference < TOLERANCE[precision]:
        raise ExportMismatch(f"outputs differ by {difference:.5f} between ONNX and torch; nothing was written")
    write_bytes(path, proto.SerializeToString())
    return differences
