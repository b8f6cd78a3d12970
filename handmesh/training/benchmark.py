"""Training crops a second, loader and optimiser included, of several presets in turns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.progress import track
from rich.table import Table

from handmesh.losses import Batch
from handmesh.training.config import MeshConfig
from handmesh.training.loop import prepare, take_step
from handmesh.training.mesh import MeshTask

WARM_UP = 3
"""Steps that are not timed: the first choose algorithms and fill the loader's queue."""


class StepCost(NamedTuple):
    """What a preset's steps cost: medians over the rounds."""

    crop_size: int
    batch: int
    precision: str
    crops_per_s: float  # on the wall, loader included
    crops_per_core_s: float  # of the training process's own processor time
    teaching: float  # share of the crops whose pose is labelled

    @property
    def teaching_per_s(self) -> float:
        """Crops a second that teach a pose."""
        return self.crops_per_s * self.teaching


@dataclass
class _Run:
    fabric: Fabric
    task: MeshTask
    batches: Iterator[Batch]
    prepared: tuple
    crops_per_s: list[float]
    crops_per_core_s: list[float]
    teaching: list[float]


def measure_training(configs: Mapping[str, MeshConfig], steps: int, rounds: int, folder: Path) -> dict[str, StepCost]:
    """Real steps on real batches of each preset's first stage: `rounds` turns of `steps` steps each.

    folder: where a batch goes whose loss is not finite. Nothing else is written.
    """
    runs = {name: _begin(config, folder) for name, config in configs.items()}
    for _ in track(range(rounds), "training in turns"):
        for run in runs.values():
            _turn(run, steps, folder)
    return {name: _pace(run) for name, run in runs.items()}


def _begin(config: MeshConfig, folder: Path) -> _Run:
    fabric = Fabric(accelerator=config.run.accelerator, devices=1, precision=config.run.precision)
    fabric.launch()
    task = MeshTask(config)
    run = _Run(
        fabric, task, iter(task.batches(0, 0, 1)), prepare(fabric, task, config.run, config.optimiser), [], [], []
    )
    _turn(run, WARM_UP, folder)
    for values in (run.crops_per_s, run.crops_per_core_s, run.teaching):
        values.clear()
    return run


def _turn(run: _Run, steps: int, folder: Path) -> None:
    _, model, optimiser = run.prepared
    crops = taught = 0.0
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(steps):
        batch = run.fabric.to_device(next(run.batches))
        take_step(run.fabric, run.task, model, optimiser, batch, run.task.config.optimiser, folder)
        crops += len(batch.image)
        taught += float(torch.maximum(batch.has_parameters, batch.has_rough_3d).sum())
    run.crops_per_s.append(crops / (time.perf_counter() - wall))
    run.crops_per_core_s.append(crops / (time.process_time() - processor))
    run.teaching.append(taught / crops)


def _pace(run: _Run) -> StepCost:
    stage, precision = run.task.config.run.stages[0], run.task.config.run.precision
    medians = (float(np.median(values)) for values in (run.crops_per_s, run.crops_per_core_s, run.teaching))
    return StepCost(stage.crop_size, stage.batch, precision, *medians)


def pace_table(paces: Mapping[str, StepCost]) -> Table:
    """A row a preset, the last column against the first preset."""
    table = Table("preset", "crop, px", "batch", "precision", "crops/s", "crops a core-second", "teach a pose, %")
    table.add_column("that teach a pose, /s", justify="right")
    table.add_column("against the first", justify="right")
    first = next(iter(paces.values())).teaching_per_s
    for name, pace in paces.items():
        table.add_row(
            name, str(pace.crop_size), str(pace.batch), pace.precision, f"{pace.crops_per_s:.1f}",
            f"{pace.crops_per_core_s:.1f}", f"{100 * pace.teaching:.0f}", f"{pace.teaching_per_s:.1f}",
            f"{pace.teaching_per_s / first:.2f}",
        )  # fmt: skip
    return table
