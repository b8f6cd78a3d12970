"""One report for all evaluations: title, setting, tables, images and notes, written as Markdown, HTML and files.

Without torch, and with a template library and matplotlib only where they are used: benchmarks of the tracker take
their tables from here.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from handmesh.assets import detector_path
from handmesh.files import sha256_of, write_bytes, write_csv, write_json, write_text
from handmesh.machine import import_onnxruntime, machine
from handmesh.tracking.backends import Session, default_threads

onnxruntime = import_onnxruntime()

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
"""Okabe and Ito's colour-blind-safe palette (2008), the ones that show on white."""

UNKNOWN = "-"


class Table(NamedTuple):
    """Rows of text: first columns of words, then columns of numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    note: str = ""
    marked: Sequence[int] = ()  # rows that stand out
    ends: Sequence[int] = ()  # rows below which there is a line on the screen
    on_screen: bool = True

    def __rich__(self) -> RichTable:
        """For the screen, as rich prints it."""
        table = RichTable(title=self.title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for k, column in enumerate(self.columns):
            table.add_column(column, justify="left" if k < self.words else "right", no_wrap=True)
        for k, row in enumerate(self.rows):
            table.add_row(*map(Text, row), style="bold" if k in self.marked else None, end_section=k in self.ends)
        return table

    def markdown(self) -> str:
        """With its note, but without its title."""
        marks = ["---" if k < self.words else "---:" for k in range(len(self.columns))]
        rows = [[f"**{cell}**" if k in self.marked and cell else cell for cell in r] for k, r in enumerate(self.rows)]
        lines = [f"| {' | '.join(' '.join(cell.split()) for cell in row)} |" for row in (self.columns, marks, *rows)]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


class Image(NamedTuple):
    """An image of a report, which becomes a file of its own."""

    name: str  # of the file, without its suffix
    png: bytes
    caption: str = ""

    @staticmethod
    def of_image(name: str, image_rgb: np.ndarray, caption: str = "") -> Image:
        """From (H, W, 3) uint8 RGB pixels."""
        return Image(name, cv2.imencode(".png", image_rgb[..., ::-1])[1].tobytes(), caption)

    @staticmethod
    def of_figure(name: str, figure: Figure, caption: str = "") -> Image:
        """From matplotlib."""
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=110)
        return Image(name, data.getvalue(), caption)

    @property
    def base64(self) -> str:
        """The file's bytes as text."""
        return base64.b64encode(self.png).decode()


class Section(NamedTuple):
    """A heading and what belongs under it, in this order."""

    heading: str
    tables: Sequence[Table] = ()
    images: Sequence[Image] = ()
    text: str = ""


class Headline(NamedTuple):
    """One of the few metrics that matter most."""

    name: str
    value: str
    unit: str = ""


@dataclass(frozen=True)
class Report:
    """All that is told of one evaluation or benchmark."""

    title: str
    subtitle: str
    setting: Mapping[str, object]  # machine, model with its hash, threads and whatever else the numbers depend on
    sections: Sequence[Section]
    headline: Sequence[Headline] = ()
    warnings: Sequence[str] = ()  # what a reader must know before the numbers
    notes: Sequence[str] = ()  # what the numbers mean

    @property
    def images(self) -> list[Image]:
        """The images of all sections."""
        return [image for section in self.sections for image in section.images]

    def markdown(self) -> str:
        """The report as Markdown, which refers to the images beside it."""
        parts = [f"# {self.title}", self.subtitle, *(f"> {warning}" for warning in self.warnings)]
        parts.append("\n".join(f"- {name}: **{value}** {unit}".rstrip() for name, value, unit in self.headline))
        for section in self.sections:
            parts += [f"## {section.heading}", section.text]
            for table in section.tables:
                parts += [f"**{table.title}**" if table.title else "", table.markdown()]
            parts += [f"![{one.caption or one.name}]({one.name.replace(' ', '%20')}.png)" for one in section.images]
        parts += ["## How this was measured", *self.notes]
        parts.append("\n".join(f"- {name}: {value}" for name, value in self.setting.items()))
        return "\n\n".join(part for part in parts if part) + "\n"

    def html(self) -> str:
        """The report as one HTML page with all images inside. ImportError where jinja2 is missing."""
        return _template().render(report=self)

    def write(self, folder: Path, files: Mapping[str, object] | None = None, name: str = "report") -> list[Path]:
        """Write `files`, the images, and the report as `name`.md and `name`.html; gives all paths.

        files: by name; as .json whatever JSON can hold, as .csv named columns of one length, else text.
        """
        paths = [folder / file for file in files or {}]
        for path, content in zip(paths, (files or {}).values(), strict=True):
            {".json": write_json, ".csv": write_csv}.get(path.suffix, write_text)(path, content)
        for image in self.images:
            paths.append(folder / f"{image.name}.png")
            write_bytes(paths[-1], image.png)
        paths += [folder / f"{name}.md", folder / f"{name}.html"]
        write_text(paths[-2], self.markdown())
        write_text(paths[-1], self.html())
        return paths

    def publish(self, folder: Path, files: Mapping[str, object] | None = None) -> None:
        """Write everything as `write` does, print it, and say where it lies."""
        self.write(folder, files)
        self.print(Console())
        count = len(self.images)
        images = [f"{count} image{'' if count == 1 else 's'}"] if count else []
        written = ", ".join(["report.html", "report.md", *(files or {}), *images])
        Console().print(f"written to {folder}: {written}", highlight=False, markup=False)

    def print(self, console: Console) -> None:
        """Tables as wide as they are, then warnings, notes and setting."""
        tables = [table for section in self.sections for table in section.tables if table.on_screen]
        for table in tables:
            needed = console.measure(table, options=console.options.update(max_width=400)).maximum
            Console(file=console.file, width=max(console.width, needed)).print(table)
            if table.note:
                console.print(table.note, highlight=False, markup=False)
        for warning in self.warnings:
            console.print(warning, style="yellow", highlight=False, markup=False)
        for note in self.notes:
            console.print(note, highlight=False, markup=False)
        for name, value in self.setting.items():
            console.print(f"{name}: {value}", highlight=False, markup=False)


@cache
def _template() -> Template:
    try:
        from jinja2 import Environment, PackageLoader
    except ImportError as error:
        raise ImportError(f"HTML reports need the training extra: pip install 'handmesh[train]' ({error})") from None
    environment = Environment(loader=PackageLoader("handmesh.evaluation", "."), autoescape=True, trim_blocks=True)
    return environment.get_template("report.html.jinja")


def panels(rows: int, columns: int, size: tuple[float, float], **layout: Any) -> tuple[Figure, np.ndarray]:
    """An empty figure, `size` in inches, and its (rows, columns) axes with light grids.

    layout: for matplotlib's `Figure.subplots`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **layout)
    for one in axes.flat:
        one.grid(color="#eeeeee")
    return figure, axes


def heat_map(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], titles: Sequence[str], unit: str
) -> Figure:
    """(M, R, C) values as M maps side by side, each with its title and its own range, and the numbers written in."""
    figure, maps = panels(1, len(values), (3.1 * len(values), 0.5 + 0.42 * len(rows)))
    for axes, grid, title in zip(maps[0], values, titles, strict=True):
        axes.grid(False)
        axes.imshow(grid, cmap="Oranges", aspect="auto", vmin=np.nanmin(grid), vmax=1.6 * np.nanmax(grid))
        axes.set_xticks(range(len(columns)), columns, fontsize=8)
        axes.set_yticks(range(len(rows)), rows, fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for (i, k), value in np.ndenumerate(grid):
            axes.text(k, i, f"{value:.1f}", ha="center", va="center", fontsize=8)
    figure.supxlabel(unit, fontsize=8)
    return figure


@dataclass(frozen=True)
class Setting:
    """What was scored, and on what."""

    model: str
    model_sha256: str
    detector: str
    detector_sha256: str
    box_scale: float
    input_size: tuple[int, int]
    machine: str
    threads: int
    onnxruntime: str

    def described(self) -> dict[str, str]:
        """For people."""
        height, width = self.input_size
        return {
            "model": f"{Path(self.model).name} (SHA-256 {self.model_sha256[:12]}), crops {width}x{height}",
            "detector": f"{Path(self.detector).name} (SHA-256 {self.detector_sha256[:12]})",
            "runtime": f"ONNX Runtime {self.onnxruntime}, {self.threads} threads",
            "machine": self.machine,
        }

    def as_json(self) -> dict[str, object]:
        """For metrics.json."""
        return asdict(self)


def setting_of(model: Path, session: Session, threads: int | None, detector: Path | None = None) -> Setting:
    """The setting of a run of the file `model`, opened as `session`, on this machine; with the bundled detector."""
    detector = detector or detector_path()
    return Setting(
        model=str(model),
        model_sha256=sha256_of(model),
        detector=str(detector),
        detector_sha256=sha256_of(detector),
        box_scale=float(session.metadata["box_scale"]),
        input_size=session.input_size,
        machine=machine(),
        threads=default_threads() if threads is None else threads,
        onnxruntime=onnxruntime.__version__,
    )
