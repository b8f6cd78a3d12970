"""Convert one of MediaPipe's networks from .tflite to .onnx, for use as a teacher in training.

    pip download mediapipe==0.10.21 --no-deps
    unzip -j mediapipe-*.whl '*/hand_landmark_full.tflite' '*/palm_detection_full.tflite'
    pip install 'handmesh[teacher]'
    python scripts/convert_teacher.py hand_landmark_full.tflite --output data/teachers/hand_landmark_full.onnx
    python scripts/convert_teacher.py palm_detection_full.tflite --output data/teachers/palm_detection_full.onnx \\
        --tensors 273 257 274 258

The first is what `handmesh data cache-teacher` takes; the second is the detector's `data.teacher`: its last maps at
strides of 8 and 16 pixels and their scores. Both networks are Apache-2.0. Images of any size go in as
(n, 3, height, width) RGB between 0 and 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tflite
import tyro
from onnx import TensorProto, helper, numpy_helper

from handmesh.console import guarded, parse
from handmesh.files import write_bytes

NUMBERS = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}
FUSED = {tflite.ActivationFunctionType.RELU: "Relu"}
FUSED = {
    tflite.ActivationFunctionType.NONE: None,
    tflite.ActivationFunctionType.RELU: (0, np.inf),
    tflite.ActivationFunctionType.RELU6: (0, 6),
}
"""Limits of the activations that TensorFlow computes along with another operator."""
_CHANNELS_FIRST = (0, 3, 1, 2)  # where ONNX has each of TensorFlow's axes (n, height, width, channels)


@dataclass(frozen=True)
class Options:
    """Convert a .tflite network of convolutions to .onnx."""

    network: tyro.conf.Positional[Path]
    """The .tflite file."""
    output: Path
    """The .onnx file."""
    tensors: tuple[int, ...] = ()
    """Numbers of the tensors to give as outputs. Default: the network's own."""


@dataclass
class Graph:
    """A .tflite graph that is read backwards from its outputs, and the ONNX nodes that do the same."""

    data: bytes
    nodes: list[onnx.NodeProto] = field(default_factory=list)  # the last one first
    constants: list[TensorProto] = field(default_factory=list)

    @cached_property
    def model(self) -> tflite.Model:
        return tflite.Model.GetRootAsModel(self.data, 0)

    @cached_property
    def subgraph(self) -> tflite.SubGraph:
        return self.model.Subgraphs(0)

    @cached_property
    def makers(self) -> dict[int, tflite.Operator]:
        """Which operator makes a tensor."""
        operators = (self.subgraph.Operators(i) for i in range(self.subgraph.OperatorsLength()))
        return {int(tensor): operator for operator in operators for tensor in operator.OutputsAsNumpy()}

    def name_of(self, operator: tflite.Operator) -> str:
        return tflite.opcode2name(self.model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode())

    def constant(self, tensor: int) -> np.ndarray:
        """A tensor's stored numbers, behind whatever widens them."""
        maker = self.makers.get(tensor)
        if maker is not None and self.name_of(maker) == "DEQUANTIZE":
            return self.constant(int(maker.Inputs(0))).astype(np.float32)
        entry = self.subgraph.Tensors(tensor)
        stored = self.model.Buffers(entry.Buffer()).DataAsNumpy()
        return np.frombuffer(stored.tobytes(), NUMBERS[entry.Type()]).reshape(entry.ShapeAsNumpy())

    def keep(self, values: np.ndarray) -> str:
        """The name of a constant of the ONNX graph."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, inputs: list[str], tensor: int, activation: int = 0, **attributes: Any) -> None:
        """Add a node that makes `tensor`, with the activation that TensorFlow fuses into it."""
        made = name = f"t{tensor}"
        if activation not in FUSED:
            raise ValueError(f"expected one of {', '.join(map(str, FUSED))} as the fused activation, got {activation}")
        if FUSED[activation] is not None:
            name = f"{made}_linear"
            limits = [self.keep(np.float32(limit)) for limit in FUSED[activation]]
            self.nodes.append(helper.make_node("Clip", [name, *limits], [made]))
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))


def options_of(operator: tflite.Operator, kind: type) -> Any:
    """An operator's options, of the table that its kind has."""
    table, options = operator.BuiltinOptions(), kind()
    options.Init(table.Bytes, table.Pos)
    return options


def padding(options: Any) -> str:
    return "SAME_UPPER" if options.Padding() == tflite.Padding.SAME else "VALID"


def convolution(graph: Graph, operator: tflite.Operator, inputs: list[int], output: int) -> None:
    deep = graph.name_of(operator) == "CONV_2D"
    options = options_of(operator, tflite.Conv2DOptions if deep else tflite.DepthwiseConv2DOptions)
    weights = graph.constant(inputs[1]).astype(np.float32).transpose(_CHANNELS_FIRST if deep else (3, 0, 1, 2))
    bias = graph.constant(inputs[2]).astype(np.float32)
    graph.add(
        "Conv", [f"t{inputs[0]}", graph.keep(weights), graph.keep(bias)], output, options.FusedActivationFunction(),
        strides=[options.StrideH(), options.StrideW()], group=1 if deep else len(weights),
        kernel_shape=list(weights.shape[2:]), auto_pad=padding(options),
    )  # fmt: skip


def addition(graph: Graph, operator: tflite.Operator, inputs: list[int], output: int) -> None:
    activation = options_of(operator, tflite.AddOptions).FusedActivationFunction()
    graph.add("Add", [f"t{tensor}" for tensor in inputs], output, activation)


def rectifier(graph: Graph, operator: tflite.Operator, inputs: list[int], output: int) -> None:
    slopes = graph.constant(inputs[1]).astype(np.float32).reshape(-1, 1, 1)
    graph.add("PRelu", [f"t{inputs[0]}", graph.keep(slopes)], output)


def pooling(graph: Graph, operator: tflite.Operator, inputs: list[int], output: int) -> None:
    options = options_of(operator, tflite.Pool2DOptions)
    graph.add(
        "MaxPool", [f"t{inputs[0]}"], output, options.FusedActivationFunction(), auto_pad=padding(options),
        kernel_shape=[options.FilterHeight(), options.FilterWidth()], strides=[options.StrideH(), options.StrideW()],
    )  # fmt: skip


def padded(graph: Graph, operator: tflite.Operator, inputs: list[int], output: int) -> None:
    before_after = graph.constant(inputs[1])[list(_CHANNELS_FIRST)].T
    graph.add("Pad", [f"t{inputs[0]}", graph.keep(before_after.astype(np.int64).ravel())], output)


def enlarged(graph: Graph, operator: tflite.Operator, inputs: list[int], output: int) -> None:
    """By as much as in the size that the network was made for, so that others may come."""
    shapes = [graph.subgraph.Tensors(tensor).ShapeAsNumpy()[list(_CHANNELS_FIRST)] for tensor in (inputs[0], output)]
    half_pixel = options_of(operator, tflite.ResizeBilinearOptions).HalfPixelCenters()
    graph.add(
        "Resize", [f"t{inputs[0]}", "", graph.keep((shapes[1] / shapes[0]).astype(np.float32))], output, mode="linear",
        coordinate_transformation_mode="half_pixel" if half_pixel else "asymmetric",
    )  # fmt: skip


def mean(graph: Graph, operator: tflite.Operator, inputs: list[int], output: int) -> None:
    graph.add("ReduceMean", [f"t{inputs[0]}"], output, axes=[2, 3], keepdims=0)


def dense(graph: Graph, operator: tflite.Operator, inputs: list[int], output: int) -> None:
    weights, bias = (graph.constant(tensor).astype(np.float32) for tensor in inputs[1:3])
    graph.add("Gemm", [f"t{inputs[0]}", graph.keep(weights), graph.keep(bias)], output, transB=1)


def logistic(graph: Graph, operator: tflite.Operator, inputs: list[int], output: int) -> None:
    graph.add("Sigmoid", [f"t{inputs[0]}"], output)


CONVERTERS: dict[str, Callable[[Graph, tflite.Operator, list[int], int], None]] = {
    "CONV_2D": convolution, "DEPTHWISE_CONV_2D": convolution, "ADD": addition, "PRELU": rectifier, "PAD": padded,
    "MAX_POOL_2D": pooling, "RESIZE_BILINEAR": enlarged, "MEAN": mean, "FULLY_CONNECTED": dense, "LOGISTIC": logistic,
}  # fmt: skip


def convert(data: bytes, tensors: tuple[int, ...] = ()) -> onnx.ModelProto:
    """A .tflite network as ONNX, with these tensors as outputs, or its own.

    Raises ValueError for an operator that is not among CONVERTERS.
    """
    if data[4:8] != b"TFL3":
        raise ValueError("expected a .tflite file: bytes 4 to 8 are not TFL3")
    graph = Graph(data)
    source = int(graph.subgraph.Inputs(0))
    outputs = tensors or tuple(map(int, graph.subgraph.OutputsAsNumpy()))
    if unknown := [tensor for tensor in outputs if tensor not in graph.makers]:
        raise ValueError(f"expected numbers of tensors that the network computes, got {unknown[0]}")
    needed = set(outputs)
    for i in reversed(range(graph.subgraph.OperatorsLength())):
        operator = graph.subgraph.Operators(i)
        output, name = int(operator.Outputs(0)), graph.name_of(operator)
        if output not in needed:
            continue
        if name not in CONVERTERS:
            raise ValueError(f"cannot convert {name}, which makes tensor {output}: ask for tensors before it")
        inputs = list(map(int, operator.InputsAsNumpy()))
        CONVERTERS[name](graph, operator, inputs, output)
        needed.update(inputs if name == "ADD" else inputs[:1])
    value = helper.make_tensor_value_info
    shape = ["n", 3, "height", "width"]
    given = [value(f"t{tensor}", TensorProto.FLOAT, shape_of(graph, tensor)) for tensor in outputs]
    body = helper.make_graph(
        graph.nodes[::-1], "teacher", [value(f"t{source}", TensorProto.FLOAT, shape)], given, graph.constants
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def shape_of(graph: Graph, tensor: int) -> list[str | int | None]:
    """Of a map, (n, channels, any, any), or of a list, (n, values)."""
    channels = int(graph.subgraph.Tensors(tensor).ShapeAsNumpy()[-1])
    return ["n", channels, *[None] * (graph.subgraph.Tensors(tensor).ShapeLength() - 2)]


def run(options: Options) -> None:
    try:
        model = convert(options.network.read_bytes(), options.tensors)
    except (OSError, ValueError) as error:
        raise ValueError(f"{options.network}: {error}") from error
    write_bytes(options.output, model.SerializeToString())
    print(f"{options.output}: {len(model.graph.node)} nodes, outputs {', '.join(o.name for o in model.graph.output)}")


if __name__ == "__main__":
    options = parse(Options, sys.argv[1:], "convert_teacher.py")
    raise SystemExit(guarded(lambda: run(options)))
