"""The measurement of backbones: networks as trained and as deployed, what they cost by counting, and their timed
passes.
"""

from __future__ import annotations

import datetime
import math
import os
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnxruntime
import timm
import torch
from rich.progress import Progress
from timm.layers import BatchNormAct2d
from timm.models.fastvit import AttentionBlock, FastVit
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from handmesh.benchmark.backbones import MIXER, Cell, Device, Form, Model, Options, Results, Setting, Start, family_of
from handmesh.console import progress
from handmesh.export.onnx import OPSET
from handmesh.machine import machine

# The networks that are compared: timm's classifiers, and one skeleton with its token mixer exchanged.
#
# Weights are random: latency does not depend on them, and nothing is downloaded.


Block = str  # a token mixer of timm's FastVit: 'repmixer' or 'attention'

_STAGES: dict[str, tuple[Block, ...]] = {
    "repmixer": ("repmixer",) * 4,
    "pooling": ("attention",) * 4,  # then exchanged
    "attention_last": ("repmixer",) * 3 + ("attention",),
    "attention": ("attention",) * 4,
}


class Pooling(nn.Module):
    """The mean over 3x3 neighbours less the token itself, (B, C, H, W) to the same (PoolFormer, Yu et al., 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x) - x


def metaformer(mixer: str) -> nn.Module:
    """FastViT-S12's stem, embeddings, MLPs and head about another token mixer.

    mixer: 'repmixer' (S12 itself), 'pooling', 'attention', or 'attention_last' (in the last stage alone,
    as in FastViT-SA12, but without that network's position encoding).
    """
    if mixer not in _STAGES:
        raise ValueError(f"unknown token mixer '{mixer}'; choose one of {', '.join(_STAGES)}")
    model = FastVit(
        layers=(2, 2, 6, 2), embed_dims=(64, 128, 256, 512), mlp_ratios=(4, 4, 4, 4), token_mixers=_STAGES[mixer]
    )
    if mixer == "pooling":
        for block in model.modules():
            if isinstance(block, AttentionBlock):
                block.token_mixer = Pooling()
    return model


def create(name: str) -> nn.Module:
    """A backbone of `backbones.FAMILIES` with its ImageNet classifier, in evaluation mode, the same at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = metaformer(name.removeprefix(MIXER)) if name.startswith(MIXER) else timm.create_model(name)
        return _settled(model)


def _settled(model: nn.Module) -> nn.Module:
    """Give batch norms the statistics of one random batch: without, activations leave the range of half precision."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            model.train()(torch.rand(4, 3, 160, 160))
    return model.eval()


# A network as it is trained, and as it is deployed.


def forms_of(model: nn.Module) -> Iterator[tuple[Form, nn.Module]]:
    """The forms in which `model`, in evaluation mode, differs: 'unfused' and those that change something."""
    yield "unfused", model
    fused = reparameterize_model(model).eval()  # what timm makes anew is in training mode
    if _modules(fused) != _modules(model):
        yield "fused", fused
    folded, count = fold_batch_norms(fused)
    if count:
        yield "folded", folded


def _modules(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules()]


def fold_batch_norms(model: nn.Module) -> tuple[nn.Module, int]:
    """A copy in which each batch norm that alone follows a convolution is part of it, and how many those were.

    ONNX Runtime and Core ML do this by themselves; eager torch does not.
    """
    folded = deepcopy(model)
    pairs = _followers(folded)
    for conv, norm in pairs:
        fused = nn.utils.fuse_conv_bn_eval(folded.get_submodule(conv), folded.get_submodule(norm))
        folded.set_submodule(norm, _without_norm(folded.get_submodule(norm)))
        folded.set_submodule(conv, fused)
    return folded, len(pairs)


def _without_norm(norm: nn.Module) -> nn.Module:
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


def _followers(model: nn.Module) -> list[tuple[str, str]]:
    """Names of (convolution, batch norm) where the one's output goes to the other and nowhere else."""
    outputs: list[tuple[str, Tensor]] = []
    inputs: list[tuple[str, Tensor]] = []
    with ExitStack() as hooks, torch.no_grad(), _Uses() as uses:
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                hook = module.register_forward_hook(lambda _m, _i, out, name=name: outputs.append((name, out)))
                hooks.callback(hook.remove)
            elif isinstance(module, nn.BatchNorm2d):
                hook = module.register_forward_pre_hook(lambda _m, given, name=name: inputs.append((name, given[0])))
                hooks.callback(hook.remove)
        model(torch.zeros(1, 3, 64, 64))
    convs = {id(out): name for name, out in outputs}
    return [(convs[id(x)], norm) for norm, x in inputs if id(x) in convs and uses.count[id(x)] == 1]


class _Uses(TorchDispatchMode):
    """Counts the operations that take each tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self._alive: list[Tensor] = []  # a freed tensor's identity would be given again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._alive.extend(tensors)
        self.count.update(map(id, tensors))
        return func(*args, **(kwargs or {}))


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
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, ledger.flops // 2, ledger.peak_bytes)


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
                self._add(tensor.untyped_storage())
        working = _map_bytes(*args[:2]) if self._attention_maps and func is _ATTENTION else 0
        self.peak_bytes = max(self.peak_bytes, sum(self._bytes.values()) + working)
        return output

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._bytes:
            self._bytes[key] = storage.nbytes()
            weakref.finalize(storage, self._bytes.pop, key, None)


def _map_bytes(query: Tensor, key: Tensor) -> int:
    """Bytes of the attention maps before and after softmax, of queries and keys (B, heads, N, D)."""
    return 2 * query.shape[:-1].numel() * key.shape[-2] * query.element_size()


# How much memory is free.


def free_bytes(device: Device) -> float:
    """Bytes that a program may still take; infinite where the system does not tell."""
    if device == "cuda":
        kept_by_torch = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return float(torch.cuda.mem_get_info()[0] + kept_by_torch)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        names = getattr(os, "sysconf_names", {})
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if "SC_PHYS_PAGES" in names else math.inf


# Single timed passes: in eager torch on a processor or a GPU, and in ONNX Runtime.


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_CLOCKS = {"wall": perf_counter, "processor": thread_time}
_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
_EXAMPLE_SIZE = 224
_WARM_UP_PASSES, _WARM_UP_FRACTION, MAX_PASSES = 5, 0.25, 50


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
    """ONNX Runtime; image and output stay on the device."""

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


# The measurement: models take turns, size by size, and what is measured is on disk before the next round.


RESULTS = "backbones.json"

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
    return Results.open(options.output / RESULTS, setting_of(options))


def measure(options: Options, results: Results) -> None:
    """Measure what `options` ask for and `results` lack; each round of a model is on disk before the next."""
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    missing = [name for name in options.names if _is_missing(results, name, options)]
    if missing:
        results.starts.append(_start())
        with progress() as bar, TemporaryDirectory() as folder:
            candidates = list(_candidates(missing, results, options, Path(folder), bar))
            for size in sorted(options.sizes):
                _measure_size(size, candidates, results, options, bar)


def setting_of(options: Options) -> Setting:
    """The setting of a run on this machine. Raises ValueError where the device is not there."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"this torch ({torch.__version__}) sees no CUDA device; take --device cpu")
    torch_runs = options.runtime == "torch"
    tf32 = torch_runs and options.device == "cuda" and options.precision == "fp32" and torch.backends.cudnn.allow_tf32
    return Setting(
        machine=machine(),
        device=torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        runtime="torch, eager" if torch_runs else _onnxruntime_name(options.device),
        torch=torch.__version__,
        timm=timm.__version__,
        precision="fp32, convolutions in TF32" if tf32 else options.precision,
        layout=options.layout if torch_runs else "chosen by ONNX Runtime",
        batch=options.batch,
        threads=options.threads,
        clock=options.clock,
    )


def _onnxruntime_name(device: Device) -> str:
    offered = onnxruntime.get_available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in offered:
        raise ValueError(f"this ONNX Runtime offers no CUDA, only {', '.join(offered)}; install onnxruntime-gpu")
    return f"ONNX Runtime {onnxruntime.__version__}"


def _start() -> Start:
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return Start(datetime.datetime.now().astimezone().isoformat(timespec="minutes"), load)


def _is_missing(results: Results, name: str, options: Options) -> bool:
    """Whether something of this backbone is still to be measured; what was skipped is tried again."""
    if name not in results.models:
        return True
    forms = options.forms_among(results.models[name].forms)
    cells = [results.cell(name, form, size) for form in forms for size in options.sizes]
    return any(len(cell.rounds_ms) < options.rounds for cell in cells)


def _candidates(
    names: Sequence[str], results: Results, options: Options, folder: Path, bar: Progress
) -> Iterator[Candidate]:
    task = bar.add_task("preparing", total=len(names))
    for name in names:
        bar.update(task, description=f"preparing {name}")
        forms = dict(forms_of(create(name)))
        results.models[name] = _described(name, forms, results.models.get(name), options)
        for form in options.forms_among(forms):
            yield Candidate(name, form, _opener(forms[form], folder / f"{name}-{form}.onnx", options))
        bar.advance(task)
    bar.remove_task(task)


def _described(name: str, forms: dict[Form, nn.Module], known: Model | None, options: Options) -> Model:
    parameters = {form: sum(p.numel() for p in model.parameters()) for form, model in forms.items()}
    described = Model(family_of(name), parameters, {}, {}) if known is None else known
    last = list(forms.values())[-1]
    for size in set(options.sizes) - set(described.macs):
        cost = cost_of(last, size, options.batch, attention_maps=options.runtime == "onnxruntime")
        described.macs[size], described.activation_bytes[size] = cost.macs, cost.activation_bytes
    return described


def _opener(model: nn.Module, path: Path, options: Options) -> Callable[[int], Runner]:
    if options.runtime == "torch":
        return partial(TorchRunner, prepared(model, options), options=options)
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
                _run_round(cell, candidate, runners, options)
                results.save()
    results.save()
    bar.remove_task(task)


def _run_round(cell: Cell, candidate: Candidate, runners: dict[Candidate, Runner], options: Options) -> None:
    try:
        if candidate not in runners:
            runners[candidate] = candidate.open(cell.size)
        cell.rounds_ms.append(timed_passes(runners[candidate], options.seconds_per_cell / options.rounds))
    except torch.OutOfMemoryError:
        runners.pop(candidate, None)
        torch.cuda.empty_cache()
        cell.skipped = "the device's memory did not suffice"


def _may_run(cell: Cell, results: Results, options: Options) -> bool:
    """Whether a cell's pass fits time and memory; where not, the cell says why."""
    model = results.models[cell.model]
    cell.skipped = ""
    if cell.rounds_ms:
        return True
    seconds = _expected_seconds(cell, model, results)
    gigabytes = (_KERNELS * model.activation_bytes[cell.size] + 4 * model.parameters[cell.form]) / 1e9
    if seconds > options.max_seconds_per_pass:
        cell.skipped = f"a pass would take about {seconds:.2g} s"
    elif gigabytes > _limit_gb(options):
        cell.skipped = f"a pass would need about {gigabytes:.1f} GB of memory"
    return not cell.skipped


def _limit_gb(options: Options) -> float:
    return 0.8 * free_bytes(options.device) / 1e9 if options.max_memory_gb is None else options.max_memory_gb


def _expected_seconds(cell: Cell, model: Model, results: Results) -> float:
    """By the next smaller size that was measured and the MACs of both; 0 where there is none."""
    smaller = [size for size in results.sizes() if size < cell.size]
    times = [(size, results.median_ms(cell.model, cell.form, size)) for size in smaller]
    known = [(size, ms) for size, ms in times if ms == ms]
    if not known:
        return 0.0
    size, ms = known[-1]
    return ms / 1000 * model.macs[cell.size] / model.macs[size]
