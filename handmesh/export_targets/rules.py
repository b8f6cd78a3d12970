"""What a graph may be made of so that every target can run it."""

from __future__ import annotations

from collections import Counter

import onnx

NEWEST_OPSET = 20

# fmt: off
OPERATORS = frozenset({
    "Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "Conv", "Cos", "Div", "Erf", "Exp", "Expand",
    "Gather", "Gelu", "Gemm", "GlobalAveragePool", "Identity", "InstanceNormalization", "LayerNormalization",
    "MatMul", "MaxPool", "Mul", "Neg", "Pad", "Pow", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean",
    "ReduceSum", "Relu", "Reshape", "Resize", "Sigmoid", "Sin", "Slice", "Softmax", "Split", "Sqrt", "Squeeze",
    "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
})
# fmt: on
"""Those of opset 20 or less that onnxruntime-web 1.30 computes by WebGPU and that are in the tables of Unity's
Inference Engine, but for Gelu: Unity names opsets up to 25 as supported from Sentis 2.6 on, and lists no Gelu up to
Inference Engine 2.3."""

INSTEAD = {
    "Einsum": "write it as a matrix product",
    "GridSample": "gather by a product with a soft attention map",
    "ScatterND": "concatenate instead of writing in place",
    "ScatterElements": "concatenate instead of writing in place",
    "DequantizeLinear": "use Cast and Mul, which runtimes fold",
}

TYPES = tuple(getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "INT8", "INT32", "INT64", "UINT8"))


def violations(proto: onnx.ModelProto) -> list[str]:
    """A line for each thing in an exported graph that some target does not run; empty where all is well."""
    return [*_opsets(proto), *_operators(proto.graph), *_shapes(proto.graph), *_types(proto.graph)]


def _opsets(proto: onnx.ModelProto) -> list[str]:
    wrong = [o for o in proto.opset_import if o.domain not in ("", "ai.onnx") or o.version > NEWEST_OPSET]
    found = [f"opset {o.version} of {o.domain or 'ai.onnx'}: expected at most {NEWEST_OPSET} of ai.onnx" for o in wrong]
    return found + [f"the function {function.name}: expected plain operators" for function in proto.functions]


def _operators(graph: onnx.GraphProto) -> list[str]:
    names = Counter(f"{node.domain}.{node.op_type}".removeprefix(".") for node in graph.node)
    return [
        f"{count} x {name}: {INSTEAD.get(name, 'not an operator that every target has')}"
        for name, count in sorted(names.items())
        if name not in OPERATORS
    ]


def _shapes(graph: onnx.GraphProto) -> list[str]:
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*graph.input, *graph.output)}
    return [
        f"{name} has no fixed shape: export with a batch of one and a fixed size"
        for name, dims in shapes.items()
        if not all(dim.dim_value > 0 for dim in dims)
    ]


def _types(graph: onnx.GraphProto) -> list[str]:
    found = []
    for tensor in graph.initializer:
        if tensor.data_type not in TYPES:
            found.append(f"{tensor.name} is stored as {onnx.TensorProto.DataType.Name(tensor.data_type)}")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            found.append(f"{tensor.name} is stored in another file: expected one file")
    return found
