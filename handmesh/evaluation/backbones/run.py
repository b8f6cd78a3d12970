"""The measurement: models take turns, size by size, and what is measured is on disk before the next turn."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import onnxruntime
import timm
import torch
from rich.progress import Progress
from torch import nn

from handmesh.evaluation.backbones.cost import cost_of
from handmesh.evaluation.backbones.forms import forms_of
from handmesh.evaluation.backbones.memory import free_bytes
from handmesh.evaluation.backbones.options import Device, Form, Options, family_of
from handmesh.evaluation.backbones.results import Cell, Model, Results, Setting, Start
from handmesh.evaluation.backbones.runners import OnnxRunner, Runner, TorchRunner, export, prepared, timed_passes
from handmesh.evaluation.backbones.zoo import create
from handmesh.runtime.benchmark import machine
from handmesh.runtime.console import progress

RESULTS = "backbones.json"

_KERNELS = 2  # their workspace and the wider forms: times the activations that are counted


class Contender(NamedTuple):
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
    """Measure what `options` ask for and `results` lack; each turn of a model is on disk before the next."""
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    missing = [name for name in options.names if _is_missing(results, name, options)]
    if missing:
        results.starts.append(_start())
        with progress() as bar, TemporaryDirectory() as folder:
            contenders = list(_contenders(missing, results, options, Path(folder), bar))
            for size in sorted(options.sizes):
                _measure_size(size, contenders, results, options, bar)


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


def _contenders(
    names: Sequence[str], results: Results, options: Options, folder: Path, bar: Progress
) -> Iterator[Contender]:
    task = bar.add_task("preparing", total=len(names))
    for name in names:
        bar.update(task, description=f"preparing {name}")
        forms = dict(forms_of(create(name)))
        results.models[name] = _described(name, forms, results.models.get(name), options)
        for form in options.forms_among(forms):
            yield Contender(name, form, _opener(forms[form], folder / f"{name}-{form}.onnx", options))
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
    size: int, contenders: Sequence[Contender], results: Results, options: Options, bar: Progress
) -> None:
    """Let the contenders take turns at one size."""
    runners: dict[Contender, Runner] = {}
    task = bar.add_task(f"{size} px", total=options.rounds * len(contenders))
    for turn in range(options.rounds):
        for contender in contenders:
            bar.update(task, advance=1, description=f"{size} px, {contender.model}, {contender.form}")
            cell = results.cell(contender.model, contender.form, size)
            if len(cell.rounds_ms) == turn and _may_run(cell, results, options):
                _take_turn(cell, contender, runners, options)
                results.save()
    results.save()
    bar.remove_task(task)


def _take_turn(cell: Cell, contender: Contender, runners: dict[Contender, Runner], options: Options) -> None:
    try:
        if contender not in runners:
            runners[contender] = contender.open(cell.size)
        cell.rounds_ms.append(timed_passes(runners[contender], options.seconds_per_cell / options.rounds))
    except torch.OutOfMemoryError:
        runners.pop(contender, None)
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
