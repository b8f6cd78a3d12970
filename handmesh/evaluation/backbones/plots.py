"""The results as a picture: latency by resolution for each family, the token mixers, and what fusing saves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from handmesh.evaluation.backbones.options import FAMILIES, MIXER, MIXERS
from handmesh.evaluation.backbones.report import header, ratio, short
from handmesh.evaluation.backbones.results import Results

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


def write_plots(paths: Sequence[Path], results: Results) -> None:
    """Draw the results into files, whose endings say the format."""
    figure = draw(results)
    for path in paths:
        figure.savefig(path, dpi=110)


def draw(results: Results) -> Figure:
    """All panels; those without anything measured are left empty."""
    matplotlib.rcParams["svg.hashsalt"] = "handmesh"  # the same picture gives the same file
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
    figure.suptitle("\n".join(header(results)[:4]), fontsize=10)
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
    axes.set_xlabel("picture side, px")
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
    places = np.arange(len(names))
    styles = {"fused": ("#0072B2", ""), "folded": ("#E69F00", "//")}
    for offset, (form, (colour, hatch)) in zip((-0.2, 0.2), styles.items(), strict=True):
        gains = [ratio(results, (name, "unfused"), (name, form), size) for name in names]
        axes.bar(places + offset, np.nan_to_num(gains), 0.4, color=colour, hatch=hatch, edgecolor="white", label=form)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(places, names, rotation=60, ha="right", fontsize=8)
    axes.set_ylabel("time unfused / time")
    axes.set_title(f"What fusing saves at {size} px (no bar: the step changes nothing or was not measured)")
    axes.grid(True, axis="y", color="#EEEEEE")
    axes.set_axisbelow(True)
    axes.legend()


def _common_size(results: Results) -> int:
    """The size at which most was measured, the smallest of these."""
    sizes = [cell.size for cell in results.cells.values() if cell.rounds_ms]
    return max(results.sizes(), key=sizes.count, default=0)
