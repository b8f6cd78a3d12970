"""Single timed passes: in eager torch on a processor or a GPU, and in ONNX Runtime."""

from __future__ import annotations

import warnings
from pathlib import Path
from time import perf_counter, thread_time
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from torch import nn

from handmesh.evaluation.backbones.options import Options
from handmesh.export import OPSET

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_CLOCKS = {"wall": perf_counter, "processor": thread_time}
_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
_EXAMPLE_SIZE = 224
_WARM_UP_PASSES, _WARM_UP_SHARE, MAX_PASSES = 5, 0.25, 50


class Runner(Protocol):
    """A network with its picture, ready to run."""

    def milliseconds(self) -> float:
        """The time of one pass."""


def timed_passes(runner: Runner, seconds: float) -> list[float]:
    """Milliseconds of as many passes as fit `seconds`, at least one, at most 50; some to warm up come before."""
    first = runner.milliseconds() / 1000
    for _ in range(min(_WARM_UP_PASSES - 1, int(_WARM_UP_SHARE * seconds / first))):
        runner.milliseconds()
    end = perf_counter() + seconds
    times = [runner.milliseconds()]
    while perf_counter() < end and len(times) < MAX_PASSES:
        times.append(runner.milliseconds())
    return [round(ms, 4) for ms in times]


class TorchRunner:
    """Eager torch. On a GPU the time is that between two events in its stream, gaps between kernels included."""

    def __init__(self, model: nn.Module, size: int, options: Options) -> None:
        """model: as `prepared` returns it."""
        self.model, self.clock = model, _CLOCKS[options.clock]
        image = torch.rand(options.batch, 3, size, size, generator=torch.Generator().manual_seed(0))
        image = image.to(options.device, DTYPES[options.precision])
        self.image = image.contiguous(memory_format=_FORMATS[options.layout])
        self.milliseconds = self._on_gpu if options.device == "cuda" else self._on_cpu

    @torch.inference_mode()
    def _on_cpu(self) -> float:
        start = self.clock()
        self.model(self.image)
        return 1000 * (self.clock() - start)

    @torch.inference_mode()
    def _on_gpu(self) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        self.model(self.image)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)


def prepared(model: nn.Module, options: Options) -> nn.Module:
    """The model on the device, in the precision and the layout asked for."""
    model = model.to(options.device, DTYPES[options.precision])
    return model.to(memory_format=_FORMATS[options.layout])


class OnnxRunner:
    """ONNX Runtime; picture and output stay on the device."""

    def __init__(self, path: Path, size: int, options: Options) -> None:
        """path: as `export` writes it."""
        self.clock = _CLOCKS[options.clock]
        self.session = onnxruntime.InferenceSession(path, _session_options(path, size, options), _providers(options))
        numbers = np.random.default_rng(0).random((options.batch, 3, size, size), np.float32)
        image = numbers.astype(np.float16 if options.precision == "fp16" else np.float32)
        self.binding = self.session.io_binding()
        self.binding.bind_ortvalue_input("image", onnxruntime.OrtValue.ortvalue_from_numpy(image, options.device, 0))
        for output in self.session.get_outputs():
            self.binding.bind_output(output.name, options.device)

    def milliseconds(self) -> float:
        start = self.clock()
        self.session.run_with_iobinding(self.binding)
        self.binding.synchronize_outputs()
        return 1000 * (self.clock() - start)


def _session_options(path: Path, size: int, options: Options) -> onnxruntime.SessionOptions:
    """The graph's free height and width become `size`, so that it is optimised as one of fixed size is."""
    given = onnxruntime.SessionOptions()
    given.intra_op_num_threads, given.inter_op_num_threads = options.threads, 1
    given.log_severity_level = 4
    for side in onnxruntime.InferenceSession(path, given).get_inputs()[0].shape[2:]:
        given.add_free_dimension_override_by_name(side, size)
    return given


def _providers(options: Options) -> list[str]:
    return ["CUDAExecutionProvider"] if options.device == "cuda" else ["CPUExecutionProvider"]


def export(model: nn.Module, path: Path, options: Options) -> None:
    """Write a model in evaluation mode as ONNX, height and width left free."""
    image = torch.rand(options.batch, 3, _EXAMPLE_SIZE, _EXAMPLE_SIZE)
    if options.precision == "fp16":
        model, image = model.half(), image.half()
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model, (image,), input_names=["image"], opset_version=OPSET, dynamo=True, verbose=False,
            dynamic_shapes=(free,),
        )  # fmt: skip
    path.write_bytes(program.model_proto.SerializeToString())
