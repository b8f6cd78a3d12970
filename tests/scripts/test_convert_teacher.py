"""A .tflite network made here, and its conversion: the same numbers as torch gives for TensorFlow's conventions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="the reference is computed with torch")
tflite = pytest.importorskip("tflite", reason="reading .tflite files is part of the teacher extra")
flatbuffers = pytest.importorskip("flatbuffers", reason="comes with tflite")
pytest.importorskip("onnx", reason="conversion writes ONNX")

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from convert_teacher import convert  # noqa: E402
from torch.nn import functional  # noqa: E402

CODES = tflite.BuiltinOperator
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(4, 3, 3, 3)).astype(np.float16)  # (out, height, width, in), as TensorFlow has them
DEPTHWISE = RNG.normal(size=(1, 3, 3, 4)).astype(np.float32)
BIAS, SLOPES = RNG.normal(size=4).astype(np.float32), RNG.uniform(size=(1, 1, 4)).astype(np.float32)
PADDING = np.array([[0, 0], [0, 0], [0, 0], [0, 2]], np.int32)  # two more channels


class Writer:
    """Collects tensors and operators of one graph."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(4096)
        self.buffers, self.tensors, self.codes, self.operators = [self._buffer(b"")], [], [], []

    def _buffer(self, data: bytes) -> int:
        vector = self.builder.CreateByteVector(data)
        tflite.BufferStart(self.builder)
        tflite.BufferAddData(self.builder, vector)
        return tflite.BufferEnd(self.builder)

    def tensor(self, shape: tuple[int, ...], values: np.ndarray | None = None) -> int:
        kinds = {
            "float32": tflite.TensorType.FLOAT32,
            "float16": tflite.TensorType.FLOAT16,
            "int32": tflite.TensorType.INT32,
        }
        if values is not None:
            self.buffers.append(self._buffer(values.tobytes()))
        shape_vector = self.builder.CreateNumpyVector(np.array(shape, np.int32))
        tflite.TensorStart(self.builder)
        tflite.TensorAddShape(self.builder, shape_vector)
        tflite.TensorAddType(self.builder, kinds["float32" if values is None else values.dtype.name])
        tflite.TensorAddBuffer(self.builder, 0 if values is None else len(self.buffers) - 1)
        self.tensors.append(tflite.TensorEnd(self.builder))
        return len(self.tensors) - 1

    def operator(self, code: int, inputs: list[int], shape: tuple[int, ...], kind: str = "", **options: int) -> int:
        """The tensor that an operator makes."""
        output, builder = self.tensor(shape), self.builder
        tflite.OperatorCodeStart(builder)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, code)  # of all codes below 127
        self.codes.append(tflite.OperatorCodeEnd(builder))
        if kind:
            getattr(tflite, f"{kind}Start")(builder)
            for name, value in options.items():
                getattr(tflite, f"{kind}Add{name}")(builder, value)
            table = getattr(tflite, f"{kind}End")(builder)
        vectors = [builder.CreateNumpyVector(np.array(each, np.int32)) for each in (inputs, [output])]
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, len(self.codes) - 1)
        tflite.OperatorAddInputs(builder, vectors[0])
        tflite.OperatorAddOutputs(builder, vectors[1])
        if kind:
            tflite.OperatorAddBuiltinOptionsType(builder, getattr(tflite.BuiltinOptions, kind))
            tflite.OperatorAddBuiltinOptions(builder, table)
        self.operators.append(tflite.OperatorEnd(builder))
        return output

    def _vector(self, offsets: list[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def finish(self, inputs: list[int], outputs: list[int]) -> bytes:
        builder = self.builder
        lists = [builder.CreateNumpyVector(np.array(each, np.int32)) for each in (inputs, outputs)]
        tensors, operators = self._vector(self.tensors), self._vector(self.operators)
        tflite.SubGraphStart(builder)
        tflite.SubGraphAddTensors(builder, tensors)
        tflite.SubGraphAddInputs(builder, lists[0])
        tflite.SubGraphAddOutputs(builder, lists[1])
        tflite.SubGraphAddOperators(builder, operators)
        graphs = self._vector([tflite.SubGraphEnd(builder)])
        codes, buffers = self._vector(self.codes), self._vector(self.buffers)
        tflite.ModelStart(builder)
        tflite.ModelAddVersion(builder, 3)
        tflite.ModelAddOperatorCodes(builder, codes)
        tflite.ModelAddSubgraphs(builder, graphs)
        tflite.ModelAddBuffers(builder, buffers)
        builder.Finish(tflite.ModelEnd(builder), b"TFL3")
        return bytes(builder.Output())


def network() -> tuple[bytes, dict[str, int]]:
    """Every operator of the palm and landmark networks once; the numbers of some tensors."""
    w = Writer()
    x = w.tensor((1, 8, 8, 3))
    half = w.tensor(WEIGHTS.shape, WEIGHTS)
    bias, slopes = w.tensor(BIAS.shape, BIAS), w.tensor(SLOPES.shape, SLOPES)
    depthwise, padding = w.tensor(DEPTHWISE.shape, DEPTHWISE), w.tensor(PADDING.shape, PADDING)
    weights = w.operator(CODES.DEQUANTIZE, [half], WEIGHTS.shape)
    conv = w.operator(
        CODES.CONV_2D, [x, weights, bias], (1, 4, 4, 4), "Conv2DOptions", Padding=tflite.Padding.SAME, StrideH=2,
        StrideW=2, FusedActivationFunction=tflite.ActivationFunctionType.RELU6,
    )  # fmt: skip
    deep = w.operator(
        CODES.DEPTHWISE_CONV_2D, [conv, depthwise, bias], (1, 4, 4, 4), "DepthwiseConv2DOptions",
        Padding=tflite.Padding.SAME, StrideH=1, StrideW=1, DepthMultiplier=1,
    )  # fmt: skip
    bent = w.operator(CODES.PRELU, [deep, slopes], (1, 4, 4, 4))
    total = w.operator(CODES.ADD, [bent, conv], (1, 4, 4, 4), "AddOptions", FusedActivationFunction=1)
    pooled = w.operator(
        CODES.MAX_POOL_2D, [total], (1, 2, 2, 4), "Pool2DOptions", Padding=tflite.Padding.VALID, StrideH=2, StrideW=2,
        FilterHeight=2, FilterWidth=2,
    )  # fmt: skip
    large = w.operator(CODES.RESIZE_BILINEAR, [pooled], (1, 4, 4, 4), "ResizeBilinearOptions", HalfPixelCenters=True)
    wide = w.operator(CODES.PAD, [large, padding], (1, 4, 4, 6))
    flat = w.operator(CODES.RESHAPE, [wide], (1, 96))
    return w.finish([x], [flat]), {"wide": wide, "total": total, "flat": flat, "input": x}


def reference(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum and the padded map, by hand: TensorFlow's SAME pads by one more behind where it is uneven."""
    weights = torch.from_numpy(WEIGHTS.astype(np.float32)).permute(0, 3, 1, 2)
    bias = torch.from_numpy(BIAS)
    conv = functional.relu6(functional.conv2d(functional.pad(x, (0, 1, 0, 1)), weights, bias, 2))
    deep = functional.conv2d(conv, torch.from_numpy(DEPTHWISE).permute(3, 0, 1, 2), bias, 1, 1, groups=4)
    total = functional.relu(functional.prelu(deep, torch.from_numpy(SLOPES).ravel()) + conv)
    large = functional.interpolate(functional.max_pool2d(total, 2), scale_factor=2, mode="bilinear")
    return total, functional.pad(large, (0, 0, 0, 0, 0, 2))


@pytest.mark.parametrize("size", [8, 16])
def test_the_converted_network_gives_the_same_numbers(size):
    data, names = network()
    model = convert(data, (names["total"], names["wide"]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for ours, theirs in zip(found, reference(x), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_what_cannot_be_converted_is_named():
    data, names = network()
    with pytest.raises(ValueError, match="RESHAPE"):
        convert(data)
    with pytest.raises(ValueError, match=f"got {names['input']}"):
        convert(data, (names["input"],))
    with pytest.raises(ValueError, match="TFL3"):
        convert(b"no network at all")
