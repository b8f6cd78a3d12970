"""What to measure of backbones, and what was measured, kept in one JSON file that grows while measuring. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from handmesh.files import write_text

# What to measure, and how: the options of `handmesh benchmark backbones`. It needs no torch.


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
        if self.runtime == "onnxruntime" and not _onnxruntime_takes(self.precision, self.device):
            raise ValueError(f"ONNX Runtime takes fp32, and fp16 on CUDA, not {self.precision} on {self.device}")
        if self.clock == "processor" and (self.device, self.threads) != ("cpu", 1):
            raise ValueError("the processor's clock says the latency of one thread on the CPU only; take --clock wall")

    def forms_among(self, existing: Collection[Form]) -> list[Form]:
        """The chosen forms of a model that has the `existing` ones; for one that changes nothing, the one before it."""
        every = list(FORMS)
        chosen = self.forms or (every if self.runtime == "torch" else every[:-1])
        known = [[form for form in every[: every.index(one) + 1] if form in existing] for one in chosen]
        return [form for form in every if form in {forms[-1] for forms in known}]

    @property
    def names(self) -> list[str]:
        """The chosen backbones, in the order of `FAMILIES`."""
        return select(self.models)


def _onnxruntime_takes(precision: Precision, device: Device) -> bool:
    return precision == "fp32" or (precision, device) == ("fp16", "cuda")


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


# What was measured, kept in one JSON file that grows while measuring.


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


def _percentile(values: list[float], fraction: float) -> float:
    return float(np.percentile(values, fraction)) if values else math.nan


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
        write_text(self.path, text)


def _as_json(cell: Cell) -> dict[str, object]:
    metrics = {"median_ms": round(cell.median_ms, 4), "p90_ms": round(cell.p90_ms, 4)} if cell.rounds_ms else {}
    return asdict(cell) | metrics


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
