"""How the numbers of an ONNX graph are stored: in half, in eight bits, each once. Without torch: the page needs it.

Every way of storing is undone by operators that runtimes fold when they open the file, so that the
session computes in single precision whatever the file holds.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

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
        # The exporter keeps the names of the hand's constants, but not of all weights.
        of_network = tensor.data_type == onnx.TensorProto.FLOAT and not tensor.name.startswith("model.")
        if not of_network or math.prod(tensor.dims) < halved_from:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    return _checked(halved, casts)


def storage_of(proto: onnx.ModelProto) -> Precision:
    """How the weights of a graph that `stored_in` gave are stored, the larger ones at least."""
    halved = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in proto.graph.initializer)
    return "fp16" if halved else "fp32"


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
        floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        if tensor is None or tensor.data_type not in floats or math.prod(tensor.dims) < smallest:
            continue
        if name in casts:
            stored.graph.node.remove(casts[name])
        weights = numpy_helper.to_array(tensor).astype(np.float32)
        scale = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True) / 127
        scale = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)  # a channel may be all zero
        tensor.CopyFrom(numpy_helper.from_array(np.round(weights / scale).astype(np.int8), f"{name}.int8"))
        stored.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        restored += [
            onnx.helper.make_node("Cast", [f"{name}.int8"], [f"{name}.levels"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Mul", [f"{name}.levels", f"{name}.scale"], [name]),
        ]
    return _checked(stored, restored)


def shared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in which constant outputs that repeat a weight are taken from it: half a megabyte less.

    They are the parametric hand, which the graph itself poses: as it is, with its axes in another order,
    or with its rows, in another order, as columns.
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
    if have.shape != value.T.shape:
        return None
    positions = {row.tobytes(): position for position, row in enumerate(have)}
    order = [positions.get(column.tobytes()) for column in value.T]
    if None in order:
        return None
    graph.initializer.append(numpy_helper.from_array(np.array(order, np.int64), f"{name}.order"))
    return [
        onnx.helper.make_node("Gather", [weight.name, f"{name}.order"], [f"{name}.rows"]),
        onnx.helper.make_node("Transpose", [f"{name}.rows"], [name]),
    ]


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
