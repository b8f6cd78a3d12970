"""`handmesh benchmark backbones`: what to measure, what was measured, kept in one JSON file that grows, and its report.

No torch: `backbone_runs` measures.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from rich.console import Console

from handmesh.evaluation.report import UNKNOWN, Image, Report, Section, Table
from handmesh.files import parsed_json, write_json

# What to measure, and how.

Form = Literal["unfused", "fused", "folded"]
Runtime = Literal["torch", "onnxruntime"]
Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]
Layout = Literal["channels_last", "contiguous"]
Clock = Literal["wall", "processor"]

FORMS: dict[Form, str] = {
    "unfused": "as trained",
    "fused": "parallel branches merged by timm's reparameterize_model",
    "folded": "fused, and each batch norm that is left folded into the convolution before it",
}

MIXER = "mixer_"
MIXERS = "mixers"

FAMILIES: dict[str, tuple[str, ...]] = {
    "FastViT": tuple(f"fastvit_{size}" for size in ("t8", "t12", "s12", "sa12", "sa24", "sa36", "ma36")),
    "RepViT": tuple(f"repvit_{size}" for size in ("m0_9", "m1_0", "m1_1", "m1_5", "m2_3")),
    "ConvNeXt": tuple(f"convnext_{size}" for size in ("atto", "nano", "tiny", "small", "base")),
    "EfficientNet": tuple(f"efficientnet_{size}" for size in ("b0", "b2", "b4")),
    "MobileOne": tuple(f"mobileone_{size}" for size in ("s0", "s1", "s4")),
    "MobileNet": ("mobilenetv3_large_100", *(f"mobilenetv4_conv_{size}" for size in ("small", "medium", "large"))),
    MIXERS: tuple(MIXER + mixer for mixer in ("repmixer", "pooling", "attention_last", "attention")),
}
"""Backbones by family, under timm's names; the last family is one skeleton with four token mixers, see `zoo`."""

STRIDE = 32
RESULTS = "backbones.json"


@dataclass(frozen=True)
class Options:
    """Parameters, MACs and latency of backbones by resolution, fused and unfused, and of token mixers.

    Nothing is downloaded: weights are random, and latency does not depend on them. Stopped, the same
    command goes on where it was.
    """

    output: Path = Path("outputs/backbones")
    """Folder of the results. What is measured there is kept: the same command goes on where it was stopped, and
    further models or sizes join the table."""
    models: tuple[str, ...] = ()
    """Backbones or families. Default: all."""
    sizes: tuple[int, ...] = (224, 256, 384, 512, 768, 1024)
    """Sides of the square images in pixels, multiples of 32."""
    forms: tuple[Form, ...] = ()
    """As trained, with branches merged, and with the other batch norms folded as well. A form that
    changes nothing in a model is not measured again. Default: all, but not the last with ONNX Runtime, which folds by
    itself."""
    runtime: Runtime = "torch"
    """Eager PyTorch, or ONNX Runtime (each form is exported first, which takes seconds a model)."""
    device: Device = "cpu"
    precision: Precision = "fp32"
    """Of weights and images. ONNX Runtime takes fp32, and fp16 on CUDA."""
    layout: Layout = "channels_last"
    """Order of the numbers in memory; for torch alone."""
    batch: int = 1
    """Images a pass."""
    threads: int = 1
    """Cores that a pass may use. With another job on the machine, torch on several collapses."""
    clock: Clock = "wall"
    """Time on the wall, or of the processor, which other jobs on the machine lengthen less; the latter for one thread
    on the CPU."""
    rounds: int = 3
    """How often each model gets its turn, so that slow spells of the machine hit all alike."""
    seconds_per_cell: float = 3.0
    """Time to measure a model in one form at one size, over all rounds."""
    max_seconds_per_pass: float = 5.0
    """Skip what is expected to take longer a pass, judging by the next smaller size."""
    max_memory_gb: float | None = None
    """Skip what is expected to need more memory. Default: four fifths of what is free."""

    def check(self) -> None:
        """Raise ValueError where something does not fit."""
        select(self.models)
        wrong = [size for size in self.sizes if size < STRIDE or size % STRIDE]
        if wrong or not self.sizes:
            raise ValueError(f"sizes must be multiples of {STRIDE}, got {wrong or 'none'}")
        for name in ("batch", "threads", "rounds", "seconds_per_cell", "max_seconds_per_pass"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        onnxruntime_takes = self.precision == "fp32" or (self.precision, self.device) == ("fp16", "cuda")
        if self.runtime == "onnxruntime" and not onnxruntime_takes:
            raise ValueError(f"ONNX Runtime takes fp32, and fp16 on CUDA, not {self.precision} on {self.device}")
        if self.clock == "processor" and (self.device, self.threads) != ("cpu", 1):
            raise ValueError("the processor's clock says the latency of one thread on the CPU only; take --clock wall")

    def forms_among(self, existing: Collection[Form]) -> list[Form]:
        """The chosen forms of a model that has the `existing` ones; for one that changes nothing, the one before it."""
        every = list(FORMS)
        chosen = self.forms or (every if self.runtime == "torch" else every[:-1])
        known = [[form for form in every[: every.index(one) + 1] if form in existing] for one in chosen]
        return [form for form in every if form in {forms[-1] for forms in known}]


def family_of(name: str) -> str:
    """The family that a backbone of `FAMILIES` belongs to."""
    return next(family for family, names in FAMILIES.items() if name in names)


def select(chosen: Sequence[str]) -> list[str]:
    """The backbones meant by names of backbones and families (in any case); all of them by none.

    Raises ValueError for a name that is neither.
    """
    families = {family.lower(): names for family, names in FAMILIES.items()}
    every = [name for names in FAMILIES.values() for name in names]
    unknown = [word for word in chosen if word.lower() not in families and word not in every]
    if unknown:
        raise ValueError(f"unknown model '{unknown[0]}'; choose from {', '.join([*families, *every])}")
    wanted = {name for word in chosen for name in families.get(word.lower(), (word,))}
    return [name for name in every if not chosen or name in wanted]


# What was measured.

FORMAT = 1


class Setting(NamedTuple):
    """What all metrics of one file have in common; with another of these, they cannot be compared."""

    machine: str
    device: str
    runtime: str
    torch: str
    timm: str
    precision: str
    layout: str
    batch: int
    threads: int
    clock: str


class Start(NamedTuple):
    """When measuring began, and how busy the machine was before."""

    date: str
    load: float | None  # average number of jobs over the last minute, None where the system does not tell


@dataclass
class Model:
    """What is known of a backbone without running it."""

    family: str
    parameters: dict[Form, int]  # by the forms that differ
    macs: dict[int, int]  # by size, of a whole batch, in the last form
    activation_bytes: dict[int, int]  # by size, the most that live at once, in the last form and fp32


@dataclass
class Cell:
    """One backbone in one form at one size."""

    model: str
    form: Form
    size: int
    rounds_ms: list[list[float]] = field(default_factory=list)  # the passes of each round
    skipped: str = ""  # why it was not measured

    @property
    def passes_ms(self) -> list[float]:
        return [ms for one in self.rounds_ms for ms in one]

    @property
    def median_ms(self) -> float:
        """Over all passes of all rounds; not a number where there is none."""
        return float(np.median(self.passes_ms)) if self.rounds_ms else math.nan

    @property
    def p90_ms(self) -> float:
        """The 90th percentile; there must be a pass."""
        return float(np.percentile(self.passes_ms, 90))


@dataclass
class Results:
    """All that was measured in one setting."""

    path: Path
    setting: Setting
    starts: list[Start] = field(default_factory=list)
    models: dict[str, Model] = field(default_factory=dict)
    cells: dict[tuple[str, Form, int], Cell] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, setting: Setting) -> Results:
        """The results of the file at `path`, or empty ones where there is none.

        Raises ValueError for a file that was measured in another setting, or is no such file.
        """
        if not path.exists():
            return cls(path, setting)
        results = read_results(path)
        names = [name for name in Setting._fields if getattr(results.setting, name) != getattr(setting, name)]
        if names:
            was, now = ([f"{name} {getattr(one, name)}" for name in names] for one in (results.setting, setting))
            raise ValueError(
                f"{path} was measured with {', '.join(was)}, not {', '.join(now)}: choose another --output"
            )
        return results

    def cell(self, model: str, form: Form, size: int) -> Cell:
        """The cell of that place, which is made where there is none."""
        return self.cells.setdefault((model, form, size), Cell(model, form, size))

    def median_ms(self, model: str, form: Form, size: int) -> float:
        """Not a number where it was not measured."""
        cell = self.cells.get((model, form, size))
        return cell.median_ms if cell else math.nan

    def names(self, *families: str) -> list[str]:
        """The backbones that something was measured of, in the order of `FAMILIES`; of some families if given."""
        measured = {name for name, _, _ in self.cells}
        every = [name for names in FAMILIES.values() for name in names if name in measured]
        return [name for name in every if not families or family_of(name) in families]

    def sizes(self) -> list[int]:
        """The sizes that something is said of, ascending."""
        return sorted({size for _, _, size in self.cells})

    def forms(self, model: str) -> list[Form]:
        """The forms that something was measured in, as trained first."""
        measured = {form for name, form, _ in self.cells if name == model}
        return [form for form in self.models[model].parameters if form in measured]

    def deployed(self, model: str) -> Form:
        """The last of the measured forms, in which the model is used."""
        return self.forms(model)[-1]

    def ordered(self) -> Iterator[Cell]:
        """The cells by model, form and size."""
        for name in self.names():
            for form in self.forms(name):
                yield from (self.cells[name, form, size] for size in self.sizes() if (name, form, size) in self.cells)

    def save(self) -> None:
        """Replace the file in one step."""
        content = {
            "format": FORMAT,
            "setting": self.setting._asdict(),
            "starts": [start._asdict() for start in self.starts],
            "models": {name: asdict(model) for name, model in self.models.items()},
            "cells": [
                asdict(cell)
                | ({"median_ms": round(cell.median_ms, 4), "p90_ms": round(cell.p90_ms, 4)} if cell.rounds_ms else {})
                for cell in self.ordered()
            ],
        }
        write_json(self.path, content, indent=None)


def read_results(path: Path) -> Results:
    """Read a file that `Results.save` wrote. Raises ValueError for another."""
    try:
        content = parsed_json(path.read_bytes(), path)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
        known = [one.name for one in fields(Cell)]
        cells = [Cell(**{name: cell[name] for name in known}) for cell in content["cells"]]
        models = {}
        for name, model in content["models"].items():
            by_size = [{int(size): n for size, n in model[key].items()} for key in ("macs", "activation_bytes")]
            models[name] = Model(model["family"], model["parameters"], *by_size)
        return Results(
            path,
            Setting(**content["setting"]),
            [Start(**start) for start in content["starts"]],
            models,
            {(cell.model, cell.form, cell.size): cell for cell in cells},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no results of this benchmark ({error}): choose another --output") from error


# The report: tables, curves, and both with what they have in common.


def header(results: Results) -> dict[str, str]:
    """What all numbers have in common."""
    s = results.setting
    cores = f"{s.threads} thread{'s' if s.threads > 1 else ''}, {s.clock} time"
    loads = [f"{start.load}" for start in results.starts if start.load is not None]
    dates = list(dict.fromkeys([results.starts[0].date, results.starts[-1].date] if results.starts else []))
    return {
        "machine": f"{s.machine}; {s.device}",
        "runtime": f"{s.runtime}; torch {s.torch}, timm {s.timm}",
        "pass": f"batch {s.batch}, {s.precision}, {s.layout}, {cores}",
        "begun": f"{' and '.join(dates) or 'never'}; jobs on the machine then: {', '.join(loads) or 'unknown'}",
        "models": "random weights, on which latency does not depend; whole classifiers; models took turns",
    }


def tables(results: Results) -> list[Table]:
    """The tables that there is something to say in."""
    every = [_latencies(results), _gains(results), _mixers(results), _skipped(results)]
    return [table for table in every if table.rows]


def _latencies(results: Results) -> Table:
    sizes, names, rows = results.sizes(), results.names(), []
    for name in names:
        form, model = results.deployed(name), results.models[name]
        cells = [results.cells.get((name, form, size)) for size in sizes]
        latencies = [f"{short(c.median_ms)} ({short(c.p90_ms)})" if c and c.rounds_ms else UNKNOWN for c in cells]
        macs = model.macs[min(model.macs)] / results.setting.batch
        rows.append((name, f"{model.parameters[form] / 1e6:.1f}", f"{macs / 1e9:.2f}", *latencies))
    smallest = min((min(results.models[name].macs) for name in names), default=0)
    note = f"Each in the last of its forms; MACs of one image of {smallest} px."
    noise = [cell.p90_ms / cell.median_ms for cell in results.cells.values() if cell.rounds_ms]
    if noise:
        note += f" 90th percentile over median: {np.median(noise):.2f} in most cells, {max(noise):.2f} at worst."
    heads = ("model", "params, M", "MACs, G", *map(_px, sizes))
    return Table("Latency as deployed, median (90th percentile), ms", heads, rows, note=note)


def short(number: float) -> str:
    """Three digits or so; '-' for what is not a number."""
    return UNKNOWN if math.isnan(number) else f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _gains(results: Results) -> Table:
    measured = {form for _, form, _ in results.cells}
    rows = [
        (name, f"{before} / {after}", *_ratios(results, (name, before), (name, after)))
        for name in results.names()
        for before, after in pairwise(results.forms(name))
    ]
    note = "; ".join(f"{form}: {meaning}" for form, meaning in FORMS.items() if form in measured)
    note += ". A step that changes nothing in a model is left out."
    heads = ("model", "step", *map(_px, results.sizes()))
    return Table("What fusing saves: time before / after", heads, rows, words=2, note=note)


def _ratios(results: Results, one: tuple[str, Form], other: tuple[str, Form]) -> list[str]:
    values = [ratio(results, one, other, size) for size in results.sizes()]
    return [UNKNOWN if math.isnan(value) else f"{value:.2f}" for value in values]


def ratio(results: Results, one: tuple[str, Form], other: tuple[str, Form], size: int) -> float:
    """Median time of one model and form over that of another; not a number where one was not measured."""
    return results.median_ms(*one, size) / results.median_ms(*other, size)


def _mixers(results: Results) -> Table:
    first, *others = FAMILIES[MIXERS]
    names = results.names(MIXERS)
    rows = [
        (name.removeprefix(MIXER), *_ratios(results, *((one, results.deployed(one)) for one in (name, first))))
        for name in others
        if name in names and first in names
    ]
    return Table(
        "Token mixing: time over that of RepMixer, all else equal (FastViT-S12)",
        ("mixer", *map(_px, results.sizes())),
        rows,
        note="attention_last: RepMixer in three stages, attention in the last. As deployed.",
    )


def _skipped(results: Results) -> Table:
    rows = [(cell.model, cell.form, _px(cell.size), cell.skipped) for cell in results.ordered() if cell.skipped]
    return Table("Not measured", ("model", "form", "size", "why"), rows, words=4)


def _px(size: int) -> str:
    return f"{size} px"


def csv_columns(results: Results) -> dict[str, list[object]]:
    """A row for each model, form and size. Parameters are of the form, MACs and activations of the last form."""
    rows = []
    for cell in results.ordered():
        model, median_ms, p90_ms = results.models[cell.model], "", ""
        if cell.rounds_ms:
            median_ms, p90_ms = f"{cell.median_ms:.4f}", f"{cell.p90_ms:.4f}"
        rows.append(
            (cell.model, family_of(cell.model), cell.form, cell.size, results.setting.batch,
             model.parameters[cell.form], model.macs[cell.size], model.activation_bytes[cell.size],
             median_ms, p90_ms, len(cell.passes_ms), len(cell.rounds_ms), cell.skipped)
        )  # fmt: skip
    names = ("model", "family", "form", "size", "batch", "parameters", "macs", "activation_bytes", "median_ms",
             "p90_ms", "passes", "rounds", "note")  # fmt: skip
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}


# Okabe and Ito's colours, which readers with any colour vision tell apart; shapes say the same again.
_STYLE = {
    "FastViT": ("#D55E00", "o"),
    "RepViT": ("#0072B2", "s"),
    "ConvNeXt": ("#009E73", "^"),
    "EfficientNet": ("#CC79A7", "D"),
    "MobileOne": ("#E69F00", "v"),
    "MobileNet": ("#56B4E9", "P"),
}
_MIXER_STYLES = (_STYLE["FastViT"], _STYLE["RepViT"], _STYLE["MobileOne"], ("#000000", "X"))


def draw(results: Results) -> Figure:
    """Latency by resolution of families and of token mixers, and what fusing saves; panels may be left empty."""
    figure = Figure(figsize=(15, 15.5), layout="constrained")
    grid = figure.add_gridspec(3, 6)
    shared: Axes | None = None
    for i, family in enumerate(_STYLE):
        row, column = divmod(i, 3)
        axes = figure.add_subplot(grid[row, 2 * column : 2 * column + 2], sharex=shared, sharey=shared)
        _draw_family(axes, results, family)
        shared = shared or axes
    _draw_mixers(figure.add_subplot(grid[2, :2]), results)
    _draw_gains(figure.add_subplot(grid[2, 2:]), results)
    figure.suptitle("\n".join(list(header(results).values())[:4]), fontsize=10)
    return figure


def _curve(results: Results, name: str) -> dict[int, float]:
    """Median times as deployed by size, of what was measured."""
    times_ms = {size: results.median_ms(name, results.deployed(name), size) for size in results.sizes()}
    return {size: ms for size, ms in times_ms.items() if not math.isnan(ms)}


def _draw_family(axes: Axes, results: Results, family: str) -> None:
    """One family in its colour before all others in grey; names beside the ends, apart where these are close."""
    for name in results.names(*(other for other in _STYLE if other != family)):
        curve = _curve(results, name)
        axes.plot(curve.keys(), curve.values(), color="#BBBBBB", linewidth=0.8, zorder=1)
    colour, marker = _STYLE[family]
    labels = []
    for name in results.names(family):
        curve = _curve(results, name)
        if curve:
            axes.plot(curve.keys(), curve.values(), color=colour, marker=marker, markersize=5, linewidth=1.6, zorder=2)
            labels.append((*list(curve.items())[-1], name.partition("_")[2] or name))
    _latency_axes(axes, results, family)
    lowest: dict[float, float] = {}
    for x, y, text in sorted(labels):
        height = max(y, lowest.get(x, 0))
        axes.text(1.05 * x, height, text, fontsize=8, va="center", bbox={"color": "white", "pad": 0.5, "alpha": 0.8})
        lowest[x] = 1.2 * height


def _latency_axes(axes: Axes, results: Results, title: str) -> None:
    axes.set(title=title, xscale="log", yscale="log", xlabel="image side, px", ylabel="median latency as deployed, ms")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(results.sizes(), [str(size) for size in results.sizes()], rotation=45)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: short(ms)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(True, color="#EEEEEE")
    if results.sizes():
        axes.set_xlim(0.93 * results.sizes()[0], 1.6 * results.sizes()[-1])  # room for the names


def _draw_mixers(axes: Axes, results: Results) -> None:
    """How much longer each takes than the first is said at the largest size that both were measured at."""
    curves = {name: _curve(results, name) for name in results.names(MIXERS)}
    first = curves.get(FAMILIES[MIXERS][0], {})
    for name, (colour, marker) in zip(FAMILIES[MIXERS], _MIXER_STYLES, strict=True):
        if name in curves:
            curve, label = curves[name], name.removeprefix(MIXER)
            common = [size for size in curve if size in first and curve is not first]
            label += f", {curve[common[-1]] / first[common[-1]]:.2f} times at {common[-1]} px" if common else ""
            axes.plot(curve.keys(), curve.values(), color=colour, marker=marker, linewidth=1.6, label=label)
    _latency_axes(axes, results, "Token mixing: FastViT-S12 with its mixer exchanged")
    if axes.lines:
        axes.legend(loc="lower right", fontsize=8)
        axes.set_ylim(bottom=0.5 * axes.get_ylim()[0])  # room for the legend
        axes.set_xlim(0.93 * results.sizes()[0], 1.08 * results.sizes()[-1])


def _draw_gains(axes: Axes, results: Results) -> None:
    """Bars: how much faster each model becomes by merging its branches, and by folding its norms as well.

    At the size at which most was measured, the smallest of these.
    """
    sizes = [cell.size for cell in results.cells.values() if cell.rounds_ms]
    size = max(results.sizes(), key=sizes.count, default=0)
    names = [name for name in results.names() if len(results.forms(name)) > 1 and not name.startswith(MIXER)]
    positions = np.arange(len(names))
    for form, offset, colour, hatch in (("fused", -0.2, "#0072B2", ""), ("folded", 0.2, "#E69F00", "//")):
        gains = np.nan_to_num([ratio(results, (name, "unfused"), (name, form), size) for name in names])
        axes.bar(positions + offset, gains, 0.4, color=colour, hatch=hatch, edgecolor="white", label=form)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(positions, names, rotation=60, ha="right", fontsize=8)
    title = f"What fusing saves at {size} px (no bar: the step changes nothing or was not measured)"
    axes.set(ylabel="time unfused / time", title=title, axisbelow=True)
    axes.grid(True, axis="y", color="#EEEEEE")
    axes.legend()


def report_of(results: Results) -> Report:
    """Tables and curves."""
    return Report(
        title="Backbones",
        subtitle="parameters, multiply-accumulates and latency by resolution, as trained and as deployed",
        setting=header(results),
        sections=[
            Section("Tables", tables(results)),
            Section("Curves", (), [Image.of_figure("backbones", draw(results))]),
        ],
    )


def write_files(results: Results, report: Report) -> list[Path]:
    """Write the report, a table of all cells and the curves beside the results' own file; gives the paths of all."""
    folder, name = results.path.parent, results.path.stem
    return [results.path, *report.write(folder, {f"{name}.csv": csv_columns(results)}, name)]


def run(options: Options) -> None:
    """`handmesh benchmark backbones`: measure, print and write; what is measured there already is kept."""
    from handmesh.benchmark.backbone_runs import measure, open_results

    results, console = open_results(options), Console()
    try:
        measure(options, results)
    finally:
        if results.cells:
            report = report_of(results)
            report.print(console)
            console.print("wrote", *map(str, write_files(results, report)), highlight=False)
