"""Training images a second: of the loader alone, and of whole training steps."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import tyro
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import track

from handmesh.benchmark.latency import stage
from handmesh.data.freihand import FreihandSource, read_freihand
from handmesh.data.loader import Stage, TrainingBatches, batches_from
from handmesh.data.samples import AugmentConfig, collate, make_crop_sample
from handmesh.evaluation.report import Report, Section, Table
from handmesh.hand.model import HandModel
from handmesh.machine import machine
from handmesh.training.config import MeshConfig, read_config
from handmesh.training.engine import prepare, take_step
from handmesh.training.mesh import MeshTask

# What the real loader makes of a FreiHAND folder, and what each crop costs.

BATCH, BOX_SCALE, SEED = 32, 1.5, 0
STAGE_IMAGES = 256


@dataclass(frozen=True)
class LoaderReport:
    """Measured metrics and under what they were measured."""

    images_per_s: float
    """What the loader delivered, other jobs on the machine included."""
    stages_ms: dict[str, float]
    """Processor time of each stage for one image, in one process with one thread."""
    size: int
    workers: int
    images: int
    seconds: float
    load: float
    """Processes that wanted a core before the measurement began, mean of the last minute."""

    @property
    def cpu_ms(self) -> float:
        """Processor time of one image: a core makes 1000 / `cpu_ms` images a second at most."""
        return sum(self.stages_ms.values())

    def table(self) -> Table:
        """The stages, and beneath them what follows for a number of cores."""
        rows = [(name, f"{ms:.2f}") for name, ms in self.stages_ms.items()]
        ends = (len(rows) - 1, len(rows))
        rows.append(("all", f"{self.cpu_ms:.2f}"))
        rows.append(("images/s that a free core makes", f"{1000 / self.cpu_ms:.0f}"))
        rows.append((f"images/s delivered by {self.workers} workers", f"{self.images_per_s:.0f}"))
        return Table(f"one crop of {self.size} x {self.size}, processor time", ("stage", "ms"), rows, ends=ends)

    def print(self, console: Console) -> None:
        """The table, and under what it was measured."""
        setting = {
            "machine": machine(),
            "versions": f"torch {torch.__version__}, OpenCV {cv2.__version__}",
            "loader": f"batches of {BATCH}, {self.workers} workers, {self.images} images in {self.seconds:.1f} s",
            "load": f"{self.load:.1f} on {os.cpu_count()} cores before the start",
        }
        Report("", "", setting, [Section("", [self.table()])]).print(console)


@dataclass(frozen=True)
class LoaderOptions:
    """Count the training images a second that are read, augmented and cropped from a FreiHAND folder."""

    root: Path
    """The folder that holds training/rgb and the JSON files, or one made in the same layout."""
    size: int = 224
    """Side of the crops in pixels."""
    workers: int = 2
    """Processes that load; 0 loads in this one."""
    seconds: float = 20.0
    """For how long to count."""
    hand_model: Path | None = None
    """The set's own hand as .npz, so that its vertices are read too. Default: the bundled one."""


def time_loader(options: LoaderOptions) -> None:
    """`handmesh benchmark loader`: measure and print."""
    report = measure_loader(options.root, options.size, options.workers, options.seconds, options.hand_model)
    report.print(Console(soft_wrap=True))


def measure_loader(
    root: Path, size: int = 224, workers: int = 2, seconds: float = 20.0, hand_model: Path | None = None
) -> LoaderReport:
    """Time the training loader with full augmentation over the training split in `root`.

    size: of the crops, in pixels. workers: processes that make batches; 0 is this one. seconds: how
    long to draw batches, after a first one that warms up. hand_model: the set's own hand as .npz, so
    that batches have vertices; by default the bundled open hand. Raises FreihandError where `root` is
    not the set.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    source = FreihandSource(read_freihand(root, "training"), HandModel.load(hand_model))
    stages_ms = measure_stages(source, size)
    batches = TrainingBatches([(1.0, source)], [Stage(1_000_000, size, BATCH)], AugmentConfig(), BOX_SCALE, SEED)
    loader = iter(batches_from(batches, 0, workers))
    next(loader)
    images, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        images += len(next(loader).image)
    return LoaderReport(images / passed, stages_ms, size, workers, images, passed, load)


def measure_stages(source: FreihandSource, size: int, images: int = STAGE_IMAGES) -> dict[str, float]:
    """Processor milliseconds of an image for each stage of a training crop, by the functions that training calls."""
    rngs = [[np.random.default_rng([SEED, k]) for k in range(images)] for _ in range(3)]
    augment, clock, ms = AugmentConfig(), time.process_time, {}
    uncoloured = replace(augment, colour=False)
    with _one_thread():
        item = source.draw(np.random.default_rng(SEED))
        make_crop_sample(item, size, BOX_SCALE, augment, np.random.default_rng(SEED))  # warms up
        with stage(ms, "draw", clock):
            items = [source.draw(rng) for rng in rngs[0]]
        with stage(ms, "geometry", clock):
            for item, rng in zip(items, rngs[1], strict=True):
                make_crop_sample(item, size, BOX_SCALE, uncoloured, rng)
        with stage(ms, "whole", clock):
            crops = zip(items, rngs[2], strict=True)
            samples = [make_crop_sample(item, size, BOX_SCALE, augment, rng) for item, rng in crops]
        with stage(ms, "collate", clock):
            for k in range(0, images, BATCH):
                collate(samples[k : k + BATCH])
    stages = {"decode and read labels": ms["draw"], "crop and its labels": ms["geometry"]}
    stages |= {"colour, blur, noise, JPEG, cover": ms["whole"] - ms["geometry"], "collate": ms["collate"]}
    return {name: spent / images for name, spent in stages.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker of the loader: torch and OpenCV keep to one thread."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1), cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0]), cv2.setNumThreads(before[1])


# Training crops a second, loader and optimiser included, of several presets in turns.

WARM_UP = 3
"""Steps that are not timed: the first choose algorithms and fill the loader's queue."""


class StepCost(NamedTuple):
    """What a preset's steps cost: medians over the rounds."""

    crop_size: int
    batch: int
    precision: str
    crops_per_s: float  # on the wall, loader included
    crops_per_core_s: float  # of the training process's own processor time
    teaching: float  # fraction of the crops whose pose is labelled

    @property
    def teaching_per_s(self) -> float:
        """Crops a second that teach a pose."""
        return self.crops_per_s * self.teaching


class _Run:
    """A preset's training, at its beginning."""

    def __init__(self, config: MeshConfig, folder: Path) -> None:
        self._fabric = Fabric(accelerator=config.run.accelerator, devices=1, precision=config.run.precision)
        self._fabric.launch()
        self._task, self._folder = MeshTask(config), folder
        self._batches = iter(self._task.batches(0, 0, 1))
        _, self._model, self._optimiser = prepare(self._fabric, self._task, config.run, config.optimiser)

    def turn(self, steps: int) -> tuple[float, float, float]:
        """Crops a second on the wall and a second of the processor, and the fraction of them that teach a pose."""
        crops = taught = 0.0
        ms: dict[str, float] = {}
        with stage(ms, "wall"), stage(ms, "processor", time.process_time):
            for _ in range(steps):
                parts = list(islice(self._batches, self._task.config.run.accumulate))
                optimiser_config = self._task.config.optimiser
                take_step(self._fabric, self._task, self._model, self._optimiser, parts, optimiser_config, self._folder)
                crops += sum(len(part.image) for part in parts)
                taught += sum(float(torch.maximum(part.has_parameters, part.has_weak_3d).sum()) for part in parts)
        return 1000 * crops / ms["wall"], 1000 * crops / ms["processor"], taught / crops


def measure_training(configs: Mapping[str, MeshConfig], steps: int, rounds: int, folder: Path) -> dict[str, StepCost]:
    """Real steps on real batches of each preset's first stage: `rounds` turns of `steps` steps each.

    folder: where a batch goes whose loss is not finite. Nothing else is written.
    """
    runs = {name: _Run(config, folder) for name, config in configs.items()}
    for run in runs.values():
        run.turn(WARM_UP)
    turns = [{name: run.turn(steps) for name, run in runs.items()} for _ in track(range(rounds), "training in turns")]
    costs = {}
    for name, config in configs.items():
        first, medians = config.run.stages[0], np.median([turn[name] for turn in turns], axis=0).tolist()
        costs[name] = StepCost(first.crop_size, first.batch, config.run.precision, *medians)
    return costs


def pace_table(paces: Mapping[str, StepCost]) -> Table:
    """A row a preset, the last column against the first preset."""
    columns = ("preset", "precision", "crop, px", "batch", "crops/s", "crops a core-second", "teach a pose, %",
               "that teach a pose, /s", "against the first")  # fmt: skip
    first = next(iter(paces.values())).teaching_per_s
    rows = [
        (name, pace.precision, str(pace.crop_size), str(pace.batch), f"{pace.crops_per_s:.1f}",
         f"{pace.crops_per_core_s:.1f}", f"{100 * pace.teaching:.0f}", f"{pace.teaching_per_s:.1f}",
         f"{pace.teaching_per_s / first:.2f}")
        for name, pace in paces.items()
    ]  # fmt: skip
    return Table("", columns, rows, words=2)


@dataclass(frozen=True)
class TrainingOptions:
    """Time whole training steps of the mesh network, loader included, presets in turns.

    Their data must be there. OMP_NUM_THREADS says how many threads a step takes; 1 is best on a shared machine.
    """

    presets: tyro.conf.Positional[tuple[Path, ...]]
    """Configs to compare; the first is what the others are related to."""
    steps: int = 8
    """Steps of each preset in a round."""
    rounds: int = 5
    """Turns; medians over them are given."""


def time_training(options: TrainingOptions) -> None:
    """`handmesh benchmark training`: measure and print."""
    if not options.presets:
        raise ValueError("no preset: name at least one, as in `handmesh benchmark training configs/mesh.yaml`")
    configs = {preset.stem: read_config(MeshConfig, preset) for preset in options.presets}
    with tempfile.TemporaryDirectory() as folder:
        paces = measure_training(configs, options.steps, options.rounds, Path(folder))
    setting = {"machine": machine(), "runtime": f"torch {torch.__version__}, {torch.get_num_threads()} threads"}
    Report("", "", setting, [Section("", [pace_table(paces)])]).print(Console(soft_wrap=True))
