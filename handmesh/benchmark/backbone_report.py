"""What was measured of backbones: tables, curves, and a report with both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from rich.console import Console

from handmesh.benchmark.backbones import FAMILIES, FORMS, MIXER, MIXERS, Cell, Form, Options, Results, family_of
from handmesh.evaluation.report import UNKNOWN, Image, Report, Section, Table

# The results as tables.


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
    sizes = results.sizes()
    rows = []
    for name in results.names():
        form, model = results.deployed(name), results.models[name]
        cells = [results.cells.get((name, form, size)) for size in sizes]
        macs = f"{model.macs[min(model.macs)] / results.setting.batch / 1e9:.2f}"
        latencies = [_latency(cell) for cell in cells]
        rows.append((name, f"{model.parameters[form] / 1e6:.1f}", macs, *latencies))
    smallest = min((min(results.models[name].macs) for name in results.names()), default=0)
    return Table(
        "Latency as deployed, median (90th percentile), ms",
        ("model", "params, M", "MACs, G", *map(_px, sizes)),
        rows,
        note=f"Each in the last of its forms; MACs of one image of {smallest} px. {_spread(results)}",
    )


def _latency(cell: Cell | None) -> str:
    if cell is None or not cell.rounds_ms:
        return UNKNOWN
    return f"{short(cell.median_ms)} ({short(cell.p90_ms)})"


def _spread(results: Results) -> str:
    """How noisy the metrics are."""
    ratios = [cell.p90_ms / cell.median_ms for cell in results.cells.values() if cell.rounds_ms]
    if not ratios:
        return ""
    return f"90th percentile over median: {np.median(ratios):.2f} in most cells, {max(ratios):.2f} at worst."


def short(number: float) -> str:
    """Three digits or so; '-' for what is not a number."""
    return UNKNOWN if math.isnan(number) else f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _gains(results: Results) -> Table:
    sizes = results.sizes()
    measured = {form for _, form, _ in results.cells}
    rows = []
    for name in results.names():
        for before, after in pairwise(results.forms(name)):
            ratios = [ratio(results, (name, before), (name, after), size) for size in sizes]
            rows.append((name, f"{before} / {after}", *map(_times, ratios)))
    return Table(
        "What fusing saves: time before / after",
        ("model", "step", *map(_px, sizes)),
        rows,
        words=2,
        note="; ".join(f"{form}: {meaning}" for form, meaning in FORMS.items() if form in measured)
        + ". A step that changes nothing in a model is left out.",
    )


def ratio(results: Results, one: tuple[str, Form], other: tuple[str, Form], size: int) -> float:
    """Median time of one model and form over that of another; not a number where one was not measured."""
    return results.median_ms(*one, size) / results.median_ms(*other, size)


def _times(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:.2f}"


def _mixers(results: Results) -> Table:
    sizes = results.sizes()
    reference = FAMILIES[MIXERS][0]
    rows = []
    for name in results.names(MIXERS):
        if reference in results.names() and name != reference:
            forms = (name, results.deployed(name)), (reference, results.deployed(reference))
            rows.append((name.removeprefix(MIXER), *(_times(ratio(results, *forms, size)) for size in sizes)))
    return Table(
        "Token mixing: time over that of RepMixer, all else equal (FastViT-S12)",
        ("mixer", *map(_px, sizes)),
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
    cells = list(results.ordered())
    pairs = [(cell, results.models[cell.model]) for cell in cells]
    return {
        "model": [cell.model for cell in cells],
        "family": [family_of(cell.model) for cell in cells],
        "form": [cell.form for cell in cells],
        "size": [cell.size for cell in cells],
        "batch": [results.setting.batch] * len(cells),
        "parameters": [model.parameters[cell.form] for cell, model in pairs],
        "macs": [model.macs[cell.size] for cell, model in pairs],
        "activation_bytes": [model.activation_bytes[cell.size] for cell, model in pairs],
        "median_ms": [f"{cell.median_ms:.4f}" if cell.rounds_ms else "" for cell in cells],
        "p90_ms": [f"{cell.p90_ms:.4f}" if cell.rounds_ms else "" for cell in cells],
        "passes": [len(cell.passes_ms) for cell in cells],
        "rounds": [len(cell.rounds_ms) for cell in cells],
        "note": [cell.skipped for cell in cells],
    }


# The results as an image: latency by resolution for each family, the token mixers, and what fusing saves.


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
_GREY = "#BBBBBB"


def draw(results: Results) -> Figure:
    """All panels; those without anything measured are left empty."""
    figure = Figure(figsize=(15, 15.5), layout="constrained")
    grid = figure.add_gridspec(3, 6)
    families: list[Axes] = []
    for i, family in enumerate(_STYLE):
        row, column = divmod(i, 3)
        shared = families[0] if families else None
        axes = figure.add_subplot(grid[row, 2 * column : 2 * column + 2], sharex=shared, sharey=shared)
        _draw_family(axes, results, family)
        families.append(axes)
    _draw_mixers(figure.add_subplot(grid[2, :2]), results)
    _draw_gains(figure.add_subplot(grid[2, 2:]), results)
    figure.suptitle("\n".join(list(header(results).values())[:4]), fontsize=10)
    return figure


def _curve(results: Results, name: str) -> tuple[list[int], list[float]]:
    """Sizes and median times, as deployed, of what was measured."""
    form = results.deployed(name)
    points = [(size, results.median_ms(name, form, size)) for size in results.sizes()]
    points = [(size, ms) for size, ms in points if not math.isnan(ms)]
    return [size for size, _ in points], [ms for _, ms in points]


def _draw_family(axes: Axes, results: Results, family: str) -> None:
    """One family in its colour before all others in grey."""
    for name in results.names(*(other for other in _STYLE if other != family)):
        axes.plot(*_curve(results, name), color=_GREY, linewidth=0.8, zorder=1)
    colour, marker = _STYLE[family]
    labels = []
    for name in results.names(family):
        sizes, times = _curve(results, name)
        if sizes:
            axes.plot(sizes, times, color=colour, marker=marker, markersize=5, linewidth=1.6, zorder=2)
            labels.append((sizes[-1], times[-1], name.partition("_")[2] or name))
    _latency_axes(axes, results, family)
    _label_ends(axes, labels)


def _latency_axes(axes: Axes, results: Results, title: str) -> None:
    axes.set_title(title)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(results.sizes(), [str(size) for size in results.sizes()], rotation=45)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: short(ms)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("image side, px")
    axes.set_ylabel("median latency as deployed, ms")
    axes.grid(True, color="#EEEEEE")
    if results.sizes():
        axes.set_xlim(0.93 * results.sizes()[0], 1.6 * results.sizes()[-1])  # room for the names


def _label_ends(axes: Axes, labels: Sequence[tuple[float, float, str]]) -> None:
    """Write each curve's name beside its end, moved apart where ends are close."""
    lowest: dict[float, float] = {}
    for x, y, text in sorted(labels):
        height = max(y, lowest.get(x, 0))
        axes.text(1.05 * x, height, text, fontsize=8, va="center", bbox={"color": "white", "pad": 0.5, "alpha": 0.8})
        lowest[x] = 1.2 * height


def _draw_mixers(axes: Axes, results: Results) -> None:
    for name, (colour, marker) in zip(FAMILIES[MIXERS], _MIXER_STYLES, strict=True):
        if name in results.names():
            label = name.removeprefix(MIXER) + _over_first(results, name)
            axes.plot(*_curve(results, name), color=colour, marker=marker, linewidth=1.6, label=label)
    _latency_axes(axes, results, "Token mixing: FastViT-S12 with its mixer exchanged")
    if axes.lines:
        axes.legend(loc="lower right", fontsize=8)
        axes.set_ylim(bottom=0.5 * axes.get_ylim()[0])  # room for the legend
        axes.set_xlim(0.93 * results.sizes()[0], 1.08 * results.sizes()[-1])


def _over_first(results: Results, name: str) -> str:
    """How much longer it takes than the first mixer, in words, at the largest size that both were measured at."""
    first = FAMILIES[MIXERS][0]
    if name == first or first not in results.names():
        return ""
    mine, reference = (dict(zip(*_curve(results, one), strict=True)) for one in (name, first))
    common = [size for size in mine if size in reference]
    return f", {mine[common[-1]] / reference[common[-1]]:.2f} times at {common[-1]} px" if common else ""


def _draw_gains(axes: Axes, results: Results) -> None:
    """Bars: how much faster each model becomes by merging its branches, and by folding its norms as well."""
    size = _common_size(results)
    names = [name for name in results.names() if len(results.forms(name)) > 1 and not name.startswith(MIXER)]
    positions = np.arange(len(names))
    styles = {"fused": ("#0072B2", ""), "folded": ("#E69F00", "//")}
    for offset, (form, (colour, hatch)) in zip((-0.2, 0.2), styles.items(), strict=True):
        gains = [ratio(results, (name, "unfused"), (name, form), size) for name in names]
        axes.bar(
            positions + offset, np.nan_to_num(gains), 0.4, color=colour, hatch=hatch, edgecolor="white", label=form
        )
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(positions, names, rotation=60, ha="right", fontsize=8)
    axes.set_ylabel("time unfused / time")
    axes.set_title(f"What fusing saves at {size} px (no bar: the step changes nothing or was not measured)")
    axes.grid(True, axis="y", color="#EEEEEE")
    axes.set_axisbelow(True)
    axes.legend()


def _common_size(results: Results) -> int:
    """The size at which most was measured, the smallest of these."""
    sizes = [cell.size for cell in results.cells.values() if cell.rounds_ms]
    return max(results.sizes(), key=sizes.count, default=0)


# The report.


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


def print_report(console: Console, results: Results) -> None:
    """All tables, and what they have in common."""
    Report("", "", header(results), [Section("", tables(results))]).print(console)


def write_files(results: Results) -> list[Path]:
    """Write the report, a table of all cells and the curves beside the results' own file; gives the paths of all."""
    folder, name = results.path.parent, results.path.stem
    return [results.path, *report_of(results).write(folder, {f"{name}.csv": csv_columns(results)}, name)]


def run(options: Options) -> None:
    """`handmesh benchmark backbones`: measure, print and write; what is measured there already is kept."""
    from handmesh.benchmark.backbone_runs import measure, open_results

    results, console = open_results(options), Console()
    try:
        measure(options, results)
    finally:
        if results.cells:
            print_report(console, results)
            console.print("wrote", *map(str, write_files(results)), highlight=False)
