"""The results as tables: on the screen, in Markdown and as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TextIO

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from handmesh.evaluation.backbones.options import FAMILIES, FORMS, MIXER, MIXERS, Form, family_of
from handmesh.evaluation.backbones.results import Cell, Results

COLUMNS = ("model", "family", "form", "size", "batch", "parameters", "macs", "activation_bytes",
           "median_ms", "p90_ms", "passes", "rounds", "note")  # fmt: skip

UNKNOWN = "-"


class Sheet(NamedTuple):
    """A table with its title and a line below it."""

    title: str
    words: tuple[str, ...]  # titles of the columns of words,
    numbers: tuple[str, ...]  # and of those of numbers after them
    rows: list[tuple[str, ...]]
    note: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        return self.words + self.numbers


def header(results: Results) -> list[str]:
    """What all figures have in common, in lines."""
    s = results.setting
    cores = f"{s.threads} thread{'s' if s.threads > 1 else ''}, {s.clock} time"
    loads = [f"{start.load}" for start in results.starts if start.load is not None]
    dates = list(dict.fromkeys([results.starts[0].date, results.starts[-1].date] if results.starts else []))
    return [
        f"{s.machine}; {s.device}",
        f"{s.runtime}; torch {s.torch}, timm {s.timm}",
        f"batch {s.batch}, {s.precision}, {s.layout}, {cores}",
        f"begun {' and '.join(dates) or 'never'}; jobs on the machine then: {', '.join(loads) or 'unknown'}",
        "random weights, on which latency does not depend; whole classifiers; models took turns",
    ]


def sheets(results: Results, percentiles: bool = True) -> list[Sheet]:
    """The tables that there is something to say in; with 90th percentiles beside the medians if there is room."""
    every = [_latencies(results, percentiles), _gains(results), _mixers(results), _skipped(results)]
    return [sheet for sheet in every if sheet.rows]


def _latencies(results: Results, percentiles: bool) -> Sheet:
    sizes = results.sizes()
    rows = []
    for name in results.names():
        form, model = results.deployed(name), results.models[name]
        cells = [results.cells.get((name, form, size)) for size in sizes]
        macs = f"{model.macs[min(model.macs)] / results.setting.batch / 1e9:.2f}"
        latencies = [_latency(cell, percentiles) for cell in cells]
        rows.append((name, f"{model.parameters[form] / 1e6:.1f}", macs, *latencies))
    smallest = min((min(results.models[name].macs) for name in results.names()), default=0)
    return Sheet(
        f"Latency as deployed, median{' (90th percentile)' if percentiles else ''}, ms",
        ("model",),
        ("params, M", "MACs, G", *map(_px, sizes)),
        rows,
        f"Each in the last of its forms; MACs of one picture of {smallest} px. {_spread(results)}",
    )


def _latency(cell: Cell | None, percentiles: bool) -> str:
    if cell is None or not cell.rounds_ms:
        return UNKNOWN
    return short(cell.median_ms) + (f" ({short(cell.p90_ms)})" if percentiles else "")


def _spread(results: Results) -> str:
    """How noisy the figures are."""
    ratios = [cell.p90_ms / cell.median_ms for cell in results.cells.values() if cell.rounds_ms]
    if not ratios:
        return ""
    return f"90th percentile over median: {np.median(ratios):.2f} in most cells, {max(ratios):.2f} at worst."


def short(number: float) -> str:
    """Three digits or so; '-' for what is not a number."""
    return UNKNOWN if math.isnan(number) else f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _gains(results: Results) -> Sheet:
    sizes = results.sizes()
    measured = {form for _, form, _ in results.cells}
    rows = []
    for name in results.names():
        for before, after in pairwise(results.forms(name)):
            ratios = [ratio(results, (name, before), (name, after), size) for size in sizes]
            rows.append((name, f"{before} / {after}", *map(_times, ratios)))
    return Sheet(
        "What fusing saves: time before / after",
        ("model", "step"),
        tuple(map(_px, sizes)),
        rows,
        "; ".join(f"{form}: {meaning}" for form, meaning in FORMS.items() if form in measured)
        + ". A step that changes nothing in a model is left out.",
    )


def ratio(results: Results, one: tuple[str, Form], other: tuple[str, Form], size: int) -> float:
    """Median time of one model and form over that of another; not a number where one was not measured."""
    return results.median_ms(*one, size) / results.median_ms(*other, size)


def _times(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:.2f}"


def _mixers(results: Results) -> Sheet:
    sizes = results.sizes()
    reference = FAMILIES[MIXERS][0]
    rows = []
    for name in results.names(MIXERS):
        if reference in results.names() and name != reference:
            forms = (name, results.deployed(name)), (reference, results.deployed(reference))
            rows.append((name.removeprefix(MIXER), *(_times(ratio(results, *forms, size)) for size in sizes)))
    return Sheet(
        "Token mixing: time over that of RepMixer, all else equal (FastViT-S12)",
        ("mixer",),
        tuple(map(_px, sizes)),
        rows,
        "attention_last: RepMixer in three stages, attention in the last. As deployed.",
    )


def _skipped(results: Results) -> Sheet:
    rows = [(cell.model, cell.form, _px(cell.size), cell.skipped) for cell in results.ordered() if cell.skipped]
    return Sheet("Not measured", ("model", "form", "size", "why"), (), rows)


def _px(size: int) -> str:
    return f"{size} px"


def print_report(console: Console, results: Results) -> None:
    """The header and all tables."""
    for line in header(results):
        console.print(line, highlight=False)
    for sheet in sheets(results, percentiles=False):
        table = Table(title=sheet.title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for column in sheet.columns:
            word = column in sheet.words
            table.add_column(column, justify="left" if word else "right", no_wrap=word and column != "why")
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
        console.print(sheet.note, highlight=False)


def markdown(results: Results) -> str:
    """The header and all tables."""
    lines = ["# Backbones", "", *(f"- {line}" for line in header(results))]
    for sheet in sheets(results):
        marks = ["---"] * len(sheet.words) + ["---:"] * len(sheet.numbers)
        table = [_row(sheet.columns), _row(marks), *map(_row, sheet.rows)]
        lines += ["", f"**{sheet.title}**", "", *table, *(["", sheet.note] if sheet.note else [])]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_csv(file: TextIO, results: Results) -> None:
    """A row for each model, form and size. Parameters are of the form, MACs and activations of the last form."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for cell in results.ordered():
        model = results.models[cell.model]
        measured = bool(cell.rounds_ms)
        writer.writerow([
            cell.model, family_of(cell.model), cell.form, cell.size, results.setting.batch,
            model.parameters[cell.form], model.macs[cell.size], model.activation_bytes[cell.size],
            f"{cell.median_ms:.4f}" if measured else "", f"{cell.p90_ms:.4f}" if measured else "",
            len(cell.passes_ms), len(cell.rounds_ms), cell.skipped,
        ])  # fmt: skip
