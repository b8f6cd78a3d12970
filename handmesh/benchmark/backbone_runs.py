"""The measurement of backbones: networks as trained and as deployed, what they cost by counting, and their timed
passes. Weights are random: latency does not depend on them, and nothing is downloaded.
"""

from __future__ import annotations

import datetime
import math
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time
from typing import Any, NamedTuple, Protocol

import numpy as np
import timm
import torch
from rich.progress import Progress
from timm.layers import BatchNormAct2d
from timm.models.fastvit import AttentionBlock, FastVit
from timm.models.metaformer import Pooling
from timm.utils.model import reparameterize_model
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from handmesh.benchmark.backbones import (
    MIXER,
    RESULTS,
    Cell,
    Device,
    Form,
    Model,
    Options,
    Results,
    Setting,
    Start,
    family_of,
    select,
)
from handmesh.console import progress
from handmesh.export.onnx import OPSET
from handmesh.machine import import_onnxruntime, machine, memory_gb

onnxruntime = import_onnxruntime()

# The networks: timm's classifiers, and one skeleton with its token mixer exchanged.

_STAGES = {
    "repmixer": ("repmixer",) * 4,
    "pooling": ("attention",) * 4,  # then exchanged
    "attention_last": ("repmixer",) * 3 + ("attention",),
    "attention": ("attention",) * 4,
}
"""Token mixers of timm's FastVit, by stage."""


def metaformer(mixer: str) -> nn.Module:
    """FastViT-S12's stem, embeddings, MLPs and head about another token mixer.

    mixer: 'repmixer' (S12 itself), 'pooling' (PoolFormer, Yu et al., 2022), 'attention', or 'attention_last' (in the
    last stage alone, as in FastViT-SA12, but without that network's position encoding).
    """
    if mixer not in _STAGES:
        raise ValueError(f"unknown token mixer '{mixer}'; choose one of {', '.join(_STAGES)}")
    model = FastVit(
        layers=(2, 2, 6, 2), embed_dims=(64, 128, 256, 512), mlp_ratios=(4, 4, 4, 4), token_mixers=_STAGES[mixer]
    )
    for block in model.modules():
        if mixer == "pooling" and isinstance(block, AttentionBlock):
            block.token_mixer = Pooling()
    return model


def create(name: str) -> nn.Module:
    """A backbone of `backbones.FAMILIES` with its ImageNet classifier, in evaluation mode, the same at each call.

    Batch norms have the statistics of one random batch: without, activations leave the range of half precision.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = metaformer(name.removeprefix(MIXER)) if name.startswith(MIXER) else timm.create_model(name)
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.momentum = 1.0
        if norms:
            with torch.no_grad():
                model.train()(torch.rand(4, 3, 160, 160))
    return model.eval()


def forms_of(model: nn.Module) -> Iterator[tuple[Form, nn.Module]]:
    """The forms in which `model`, in evaluation mode, differs: 'unfused' and those that change something."""
    yield "unfused", model
    fused = reparameterize_model(model).eval()  # what timm makes anew is in training mode
    if [name for name, _ in fused.named_modules()] != [name for name, _ in model.named_modules()]:
        yield "fused", fused
    folded, count = fold_batch_norms(fused)
    if count:
        yield "folded", folded


def fold_batch_norms(model: nn.Module) -> tuple[nn.Module, int]:
    """A copy in which each batch norm that alone follows a convolution is part of it, and how many those were.

    ONNX Runtime and Core ML do this by themselves; eager torch does not.
    """
    folded, count = deepcopy(model), 0
    modules = dict(folded.named_modules())
    for node in _Tracer().trace(folded).nodes:
        norm, before = modules.get(node.target), node.args[0] if node.args else None
        conv = modules.get(before.target) if isinstance(before, fx.Node) else None
        if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d) and len(before.users) == 1:
            rest = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
            folded.set_submodule(node.target, rest)
            folded.set_submodule(before.target, nn.utils.fuse_conv_bn_eval(conv, norm))
            count += 1
    return folded, count


class _Tracer(fx.Tracer):
    """Tells what each layer's output goes to; timm's kinds of convolutions and norms are layers as torch's are."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(module, name)


# What a pass costs by counting, without running it.

_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


class Cost(NamedTuple):
    """A pass of one model at one size."""

    parameters: int
    macs: int  # multiply-accumulates of the whole batch
    activation_bytes: int  # the most that live at once, in fp32, without the kernels' own workspace


def cost_of(model: nn.Module, size: int, batch: int, attention_maps: bool = False) -> Cost:
    """Parameters, MACs and activations of a pass of (batch, 3, size, size) through an fp32 model on the CPU.

    MACs are half of the operations that torch.utils.flop_counter's formulas give: convolutions, linear
    layers and the two products of attention; norms, activations and pooling are not counted. The pass
    is a pretended one (FakeTensorMode), which takes no memory.

    attention_maps: whether the runtime holds attention maps in memory, as ONNX Runtime does.
    """
    ledger = _Ledger(attention_maps)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), ledger:
        model(torch.empty(batch, 3, size, size))
    return Cost(_parameters(model), ledger.flops // 2, ledger.peak_bytes)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class _Ledger(TorchDispatchMode):
    """Adds up the operations, and follows the bytes of the tensors that are alive."""

    def __init__(self, attention_maps: bool) -> None:
        super().__init__()
        self.flops = self.peak_bytes = 0
        self._attention_maps = attention_maps
        self._bytes: dict[int, int] = {}  # by storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=output)
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._bytes:
                    self._bytes[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self._bytes.pop, storage._cdata, None)
        working = 0
        if self._attention_maps and func is _ATTENTION:  # (B, heads, N, D) each; the maps before and after softmax
            query, key = args[:2]
            working = 2 * query.shape[:-1].numel() * key.shape[-2] * query.element_size()
        self.peak_bytes = max(self.peak_bytes, sum(self._bytes.values()) + working)
        return output


# Single timed passes: in eager torch on a processor or a GPU, and in ONNX Runtime.

MAX_PASSES = 50
_WARM_UP_PASSES, _WARM_UP_FRACTION = 5, 0.25
_EXAMPLE_SIZE = 224
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CLOCKS = {"wall": perf_counter, "processor": thread_time}
_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


class Runner(Protocol):
    """A network with its image, ready to run."""

    def milliseconds(self) -> float:
        """The time of one pass."""


def timed_passes(runner: Runner, seconds: float) -> list[float]:
    """Milliseconds of as many passes as fit `seconds`, at least one, at most 50; some to warm up come before."""
    first = runner.milliseconds() / 1000
    for _ in range(min(_WARM_UP_PASSES - 1, int(_WARM_UP_FRACTION * seconds / first))):
        runner.milliseconds()
    end = perf_counter() + seconds
    times = [runner.milliseconds()]
    while perf_counter() < end and len(times) < MAX_PASSES:
        times.append(runner.milliseconds())
    return [round(ms, 4) for ms in times]


class TorchRunner:
    """Eager torch. On a GPU the time is that between two events in its stream, gaps between kernels included."""

    def __init__(self, model: nn.Module, size: int, options: Options) -> None:
        """model: on the device, in the precision and the layout of `options`."""
        self.model, self.clock = model, _CLOCKS[options.clock]
        image = torch.rand(options.batch, 3, size, size, generator=torch.Generator().manual_seed(0))
        image = image.to(options.device, _DTYPES[options.precision])
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


class OnnxRunner:
    """ONNX Runtime; image and output stay on the device."""

    def __init__(self, path: Path, size: int, options: Options) -> None:
        """path: as `export` writes it. Its free height and width become `size`, so that it is optimised as one of
        fixed size is.
        """
        self.clock = _CLOCKS[options.clock]
        given = onnxruntime.SessionOptions()
        given.intra_op_num_threads, given.inter_op_num_threads = options.threads, 1
        given.log_severity_level = 4
        for side in onnxruntime.InferenceSession(path, given).get_inputs()[0].shape[2:]:
            given.add_free_dimension_override_by_name(side, size)
        self.session = onnxruntime.InferenceSession(path, given, [f"{options.device.upper()}ExecutionProvider"])
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


# The measurement: models take turns, size by size, and what is measured is on disk before the next round.

_KERNELS = 2  # their workspace and the wider forms: times the activations that are counted


class Candidate(NamedTuple):
    """One form of a backbone, ready to be opened at any size."""

    model: str
    form: Form
    open: Callable[[int], Runner]


def open_results(options: Options) -> Results:
    """What the folder of `options` holds already.

    Raises ValueError for mistaken options, a device that is not there, or results of another setting.
    """
    options.check()
    on_cuda, torch_runs = options.device == "cuda", options.runtime == "torch"
    if on_cuda and not torch.cuda.is_available():
        raise ValueError(f"this torch ({torch.__version__}) sees no CUDA device; take --device cpu")
    offered = onnxruntime.get_available_providers()
    if on_cuda and not torch_runs and "CUDAExecutionProvider" not in offered:
        raise ValueError(f"this ONNX Runtime offers no CUDA, only {', '.join(offered)}; install onnxruntime-gpu")
    tf32 = torch_runs and on_cuda and options.precision == "fp32" and torch.backends.cudnn.allow_tf32
    setting = Setting(
        machine=machine(),
        device=torch.cuda.get_device_name() if on_cuda else "cpu",
        runtime="torch, eager" if torch_runs else f"ONNX Runtime {onnxruntime.__version__}",
        torch=torch.__version__,
        timm=timm.__version__,
        precision="fp32, convolutions in TF32" if tf32 else options.precision,
        layout=options.layout if torch_runs else "chosen by ONNX Runtime",
        batch=options.batch,
        threads=options.threads,
        clock=options.clock,
    )
    return Results.open(options.output / RESULTS, setting)


def measure(options: Options, results: Results) -> None:
    """Measure what `options` ask for and `results` lack; each round of a model is on disk before the next."""
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    missing = [name for name in select(options.models) if _is_missing(results, name, options)]
    if not missing:
        return
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    results.starts.append(Start(datetime.datetime.now().astimezone().isoformat(timespec="minutes"), load))
    with progress() as bar, TemporaryDirectory() as folder:
        candidates = list(_candidates(missing, results, options, Path(folder), bar))
        for size in sorted(options.sizes):
            _measure_size(size, candidates, results, options, bar)


def _is_missing(results: Results, name: str, options: Options) -> bool:
    """Whether something of this backbone is still to be measured; what was skipped is tried again."""
    if name not in results.models:
        return True
    forms = options.forms_among(results.models[name].parameters)
    cells = [results.cell(name, form, size) for form in forms for size in options.sizes]
    return any(len(cell.rounds_ms) < options.rounds for cell in cells)


def _candidates(
    names: Sequence[str], results: Results, options: Options, folder: Path, bar: Progress
) -> Iterator[Candidate]:
    """The forms to measure; what is known of each backbone without running it is noted in `results`."""
    task = bar.add_task("preparing", total=len(names))
    for name in names:
        bar.update(task, description=f"preparing {name}")
        forms = dict(forms_of(create(name)))
        parameters = {form: _parameters(model) for form, model in forms.items()}
        known = results.models.setdefault(name, Model(family_of(name), parameters, {}, {}))
        for size in set(options.sizes) - set(known.macs):
            cost = cost_of(list(forms.values())[-1], size, options.batch, options.runtime == "onnxruntime")
            known.macs[size], known.activation_bytes[size] = cost.macs, cost.activation_bytes
        for form in options.forms_among(forms):
            yield Candidate(name, form, _opener(forms[form], folder / f"{name}-{form}.onnx", options))
        bar.advance(task)
    bar.remove_task(task)


def _opener(model: nn.Module, path: Path, options: Options) -> Callable[[int], Runner]:
    if options.runtime == "torch":
        model = model.to(options.device, _DTYPES[options.precision]).to(memory_format=_FORMATS[options.layout])
        return partial(TorchRunner, model, options=options)
    export(model, path, options)
    return partial(OnnxRunner, path, options=options)


def _measure_size(
    size: int, candidates: Sequence[Candidate], results: Results, options: Options, bar: Progress
) -> None:
    """Let the candidates take turns at one size."""
    runners: dict[Candidate, Runner] = {}
    task = bar.add_task(f"{size} px", total=options.rounds * len(candidates))
    for round_ in range(options.rounds):
        for candidate in candidates:
            bar.update(task, advance=1, description=f"{size} px, {candidate.model}, {candidate.form}")
            cell = results.cell(candidate.model, candidate.form, size)
            if len(cell.rounds_ms) == round_ and _may_run(cell, results, options):
                try:
                    if candidate not in runners:
                        runners[candidate] = candidate.open(size)
                    cell.rounds_ms.append(timed_passes(runners[candidate], options.seconds_per_cell / options.rounds))
                except torch.OutOfMemoryError:
                    runners.pop(candidate, None)
                    torch.cuda.empty_cache()
                    cell.skipped = "the device's memory did not suffice"
                results.save()
    results.save()
    bar.remove_task(task)


def _may_run(cell: Cell, results: Results, options: Options) -> bool:
    """Whether a cell's pass fits time and memory; where not, the cell says why.

    The time is expected by the next smaller size that was measured, and the MACs of both.
    """
    cell.skipped = ""
    if cell.rounds_ms:
        return True
    model, seconds = results.models[cell.model], 0.0
    for size in results.sizes():
        ms = results.median_ms(cell.model, cell.form, size)
        if size < cell.size and not math.isnan(ms):
            seconds = ms / 1000 * model.macs[cell.size] / model.macs[size]
    gigabytes = (_KERNELS * model.activation_bytes[cell.size] + 4 * model.parameters[cell.form]) / 1e9
    limit_gb = 0.8 * free_gb(options.device) if options.max_memory_gb is None else options.max_memory_gb
    if seconds > options.max_seconds_per_pass:
        cell.skipped = f"a pass would take about {seconds:.2g} s"
    elif gigabytes > limit_gb:
        cell.skipped = f"a pass would need about {gigabytes:.1f} GB of memory"
    return not cell.skipped


def free_gb(device: Device) -> float:
    """10^9 bytes that a program may still take; infinite where the system does not tell."""
    if device == "cuda":
        kept_by_torch = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return (torch.cuda.mem_get_info()[0] + kept_by_torch) / 1e9
    memory = memory_gb()
    return memory[1] if memory else math.inf
