"""How an ONNX graph's numbers are stored, and in how many bits it multiplies them. Without torch: the page needs it.

Every way of storing is undone by operators that runtimes fold when they open the file, so that the session computes
in single precision whatever the file holds; but where a graph rounds what comes between its convolutions, too, it
computes these in integers.
"""

from __future__ import annotations

import io
import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

from handmesh.machine import import_onnxruntime

Precision = Literal["int8", "fp16", "fp32"]
"""How weights are stored. With fp16 and fp32 sessions compute in single precision, and half makes a file half as large;
in int8 most of what a mesh network multiplies are integers: see `in_eight_bits`."""

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
    scales = {name for node in halved.graph.node if node.op_type in _ROUNDING for name in node.input[1:]}
    for tensor in halved.graph.initializer:
        # The exporter keeps the names of the hand's constants, but not of all weights.
        of_network = tensor.data_type == onnx.TensorProto.FLOAT and not tensor.name.startswith("model.")
        of_network = of_network and tensor.name not in scales
        if not of_network or math.prod(tensor.dims) < halved_from:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    return _checked(halved, casts)


def storage_of(proto: onnx.ModelProto) -> Precision:
    """How the weights of an exported graph are stored, the larger ones at least."""
    if any(node.op_type == "QuantizeLinear" for node in proto.graph.node):
        return "int8"
    halved = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in proto.graph.initializer)
    return "fp16" if halved else "fp32"


WHOLE_AT_FIRST = 8
"""So many convolutions compute in single precision, the first ones: they take little time, and what they round goes
through all later ones."""

_ROUNDING = ("QuantizeLinear", "DequantizeLinear")


def in_eight_bits(proto: onnx.ModelProto, crops: Sequence[np.ndarray]) -> onnx.ModelProto:
    """The same mesh network, its weights whole as yet, with pairs of convolutions that multiply integers of eight bits.

    Pairs are 1x1 convolutions with nothing but an activation between them, most of what a RepViT or FastViT multiplies.
    What they are added to stays whole: where all is rounded, a hand at rest is seen to tremble. Large matrices that a
    single row is multiplied by are in eight bits, too, and what comes of them is whole.
    crops: (1, S, S, 3) uint8 RGB images of hands, whose numbers say how large those between the convolutions become.
    Weights have a scale for each output channel. Runtimes that know QuantizeLinear and DequantizeLinear compute what
    lies between two of them in integers; for others, and for graphics processors, there is `in_single_precision`.
    Raises ValueError where the crops do not tell these sizes.
    """
    import_onnxruntime()
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Crops(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(crops)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._left, None)
            return None if image is None else {"image": image}

    with tempfile.TemporaryDirectory() as folder, _in_silence():
        path = Path(folder) / "graph.onnx"
        try:
            quantize_static(
                _copy(proto), path, Crops(), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                reduce_range=True,  # weights within 64 levels: with 128, processors without VNNI overflow
                nodes_to_quantize=[node.name for node in (*chain(*_pairs(proto.graph)), *_dense(proto.graph))],
                calibrate_method=CalibrationMethod.Percentile,  # 99.999: without the rarest numbers others are finer
                extra_options={"QDQKeepRemovableActivations": True, "OpTypesToExcludeOutputQuantization": ["Gemm"]},
            )  # fmt: skip
        except ValueError as error:  # NumPy's, of numbers that are all alike
            raise ValueError(
                f"no scales for eight bits come of these crops ({error}); is the network trained?"
            ) from error
        rounded = onnx.load(path)
    del rounded.metadata_props[:]  # the tool's own among them
    rounded.metadata_props.extend(proto.metadata_props)
    return rounded


def _pairs(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, ...]]:
    """Two 1x1 convolutions after the first ones, with what is between; not those of gates, which see means alone."""
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    sides = {tensor.name: tuple(tensor.dims[2:]) for tensor in graph.initializer}

    def is_pointwise(node: onnx.NodeProto) -> bool:
        return node.op_type == "Conv" and sides.get(node.input[1]) == (1, 1)

    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    for first in convolutions[WHOLE_AT_FIRST:]:
        nodes = [first]
        while len(nodes) < 3 and len(following := users.get(nodes[-1].output[0], [])) == 1:
            nodes += following
        is_gate = makers[first.input[0]].op_type == "ReduceMean"
        is_pair = len(nodes) == 3 and is_pointwise(first) and is_pointwise(nodes[2])
        if is_pair and nodes[1].op_type in ("Relu", "Gelu") and not is_gate:
            yield tuple(nodes)


def _dense(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Products of a single row with a large matrix, whose time is that of reading it."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    return (node for node in graph.node if node.op_type == "Gemm" and sizes.get(node.input[1], 0) >= DENSE_FROM)


DENSE_FROM = 100_000
"""Matrices with fewer weights take no time."""


@contextmanager
def _in_silence() -> Iterator[None]:
    """Without the tool's reports of its own progress and its advice to simplify a graph that is simple already."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def in_single_precision(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without what `in_eight_bits` rounds between convolutions; weights keep their eight bits."""
    plain = _copy(proto)
    graph, tensors = plain.graph, {tensor.name: tensor for tensor in plain.graph.initializer}
    unrounded, restored = {}, []
    for node in list(graph.node):
        if node.op_type not in _ROUNDING:
            continue
        graph.node.remove(node)
        if node.input[0] in tensors:
            restored += _restored(graph, node, tensors)
        else:
            unrounded[node.output[0]] = unrounded.get(node.input[0], node.input[0])
    for node in graph.node:
        node.input[:] = [unrounded.get(name, name) for name in node.input]
    used = {name for node in (*restored, *graph.node) for name in node.input}
    for tensor in tensors.values():
        if tensor.name not in used:
            graph.initializer.remove(tensor)
    graph.ClearField("value_info")
    return _checked(plain, restored)


def _restored(
    graph: onnx.GraphProto, node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """What a DequantizeLinear makes of stored levels: nodes that make weights of them, or at once other constants."""
    levels, scale, zero = (numpy_helper.to_array(tensors[name]) for name in node.input)
    scale = scale.reshape(-1, *[1] * (levels.ndim - 1)) if scale.size > 1 else scale  # one for each output channel
    if levels.dtype == np.int8 and not zero.any():
        return _multiplied_back(graph, node.input[0], scale, node.output[0])
    values = (levels.astype(np.float32) - zero.astype(np.float32)) * scale
    graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    return []


def _multiplied_back(graph: onnx.GraphProto, levels: str, scale: np.ndarray, name: str) -> list[onnx.NodeProto]:
    """Nodes that make the weights `name` of int8 levels: Cast and Mul, which runtimes fold; no DequantizeLinear."""
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    return [
        onnx.helper.make_node("Cast", [levels], [f"{name}.levels"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Mul", [f"{name}.levels", f"{name}.scale"], [name]),
    ]


EIGHT_BITS_FROM = 16_000
"""The detector's convolutions with as many weights, all of them 1x1, go to browsers in eight bits."""


def for_browsers(proto: onnx.ModelProto, is_detector: bool) -> onnx.ModelProto:
    """The same graph in as few bytes as its numbers allow: each constant once, a detector's large layers in eight bits.

    Everything is computed in single precision. `targets.WEB_TOLERANCE` says how far the numbers of a detector may be;
    the weights of a mesh network stay as they are.
    """
    proto = shared(in_single_precision(proto))
    return convolutions_in_eight_bits(proto, EIGHT_BITS_FROM) if is_detector else proto


def convolutions_in_eight_bits(proto: onnx.ModelProto, smallest: int) -> onnx.ModelProto:
    """The same graph with the weights of large convolutions as int8, and a scale for each output channel.

    smallest: how many weights make a convolution large. Weights may be stored in half or in single precision before.
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
        restored += _multiplied_back(stored.graph, f"{name}.int8", scale, name)
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
