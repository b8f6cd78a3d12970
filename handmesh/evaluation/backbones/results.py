"""What was measured, kept in one JSON file that grows while measuring."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handmesh.checkpoint import write_atomically
from handmesh.evaluation.backbones.options import FAMILIES, Form, family_of

FORMAT = 1


class Setting(NamedTuple):
    """What all figures of one file have in common; with another of these, they cannot be compared."""

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

    @property
    def forms(self) -> list[Form]:
        return list(self.parameters)


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
        return _percentile(self.passes_ms, 50)

    @property
    def p90_ms(self) -> float:
        return _percentile(self.passes_ms, 90)


def _percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else math.nan


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
        return [form for form in self.models[model].forms if form in measured]

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
        }
        cells = ",\n  ".join(json.dumps(_as_json(cell), allow_nan=False) for cell in self.ordered())
        text = json.dumps(content, indent=1).removesuffix("\n}") + f',\n "cells": [\n  {cells}\n ]\n}}\n'
        write_atomically(self.path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _as_json(cell: Cell) -> dict[str, object]:
    figures = {"median_ms": round(cell.median_ms, 4), "p90_ms": round(cell.p90_ms, 4)} if cell.rounds_ms else {}
    return asdict(cell) | figures


def read_results(path: Path) -> Results:
    """Read a file that `Results.save` wrote. Raises ValueError for another."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
        known = {one.name for one in fields(Cell)}
        cells = [Cell(**{name: cell[name] for name in known}) for cell in content["cells"]]
        return Results(
            path,
            Setting(**content["setting"]),
            [Start(**start) for start in content["starts"]],
            {name: _model(model) for name, model in content["models"].items()},
            {(cell.model, cell.form, cell.size): cell for cell in cells},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no results of this benchmark ({error}): choose another --output") from error


def _model(content: dict[str, dict[str, int]]) -> Model:
    by_size = {key: {int(size): n for size, n in content[key].items()} for key in ("macs", "activation_bytes")}
    return Model(content["family"], content["parameters"], **by_size)
