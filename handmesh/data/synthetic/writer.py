"""Synthetic data sets on disk: tar shards or FreiHAND's layout, resumable, the same for any number of workers."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from handmesh.assets import OPEN_HAND
from handmesh.data.synthetic.backgrounds import Split
from handmesh.data.synthetic.freihand_layout import FreihandWriter
from handmesh.data.synthetic.generator import Generator, Sample, Sources

VERSION = 1
"""Of the generator: a change of what a seed gives raises it, so that old and new are not mixed."""

BATCH = 50  # samples whose hands are posed in one pass; part of what makes files reproducible
SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class Order:
    """Make synthetic pictures of right hands with exact labels.

    Whatever ingredient is not given is made procedurally. An interrupted run is taken up again by
    the same command; finished shards are kept.
    """

    out: Path
    """Folder to write to."""
    count: int = 10_000
    """How many samples."""
    size: int = 160
    """Width and height of each picture, in pixels."""
    layout: Literal["shards", "freihand"] = "shards"
    """`shards`: WebDataset tars of .jpg, .png mask and .json. `freihand`: FreiHAND's folders and lists."""
    seed: int = 0
    """Equal seeds give equal samples, whatever the number of workers."""
    workers: int = 1
    """Processes."""
    shard_size: int = 1000
    """Samples in a shard, and the grain at which a run is resumed."""
    skins: Path | None = None
    """Folder of skin textures (.png, .jpg) for the hand's UVs."""
    painted_skins: int = 16
    """How many skins to paint; with a folder of skins, about as often used as those."""
    backgrounds: Path | None = None
    """Folder of photographs without hands."""
    backgrounds_split: Split = "all"
    """`val` takes the files whose name's SHA-1 is divisible by 10, `train` the others."""
    environments: Path | None = None
    """Folder of equirectangular .hdr panoramas to light with."""
    hand_model: Path | None = None
    """Hand model in MANO's layout (.npz); the bundled open hand without one."""

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("size", 16), ("workers", 1), ("shard_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(self, name)}")

    @property
    def sources(self) -> Sources:
        """Where the generator takes its ingredients from."""
        folders = self.skins, self.backgrounds, self.backgrounds_split, self.environments
        return Sources(self.hand_model, *folders, self.painted_skins)

    def settings(self) -> dict[str, object]:
        """What the files depend on: not the workers, nor where the ingredients lie."""
        folders = {name: _contents(getattr(self, name)) for name in ("skins", "backgrounds", "environments")}
        model = hashlib.sha1((self.hand_model or OPEN_HAND).read_bytes()).hexdigest()
        plain = {k: v for k, v in asdict(self).items() if k not in ("out", "workers")}
        return {**plain, **folders, "hand_model": model, "version": VERSION}


def _contents(folder: Path | None) -> str | None:
    """A hash of the names and sizes of the files in a folder."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    listing = sorted((path.name, path.stat().st_size) for path in folder.iterdir() if path.is_file())
    return hashlib.sha1(json.dumps(listing).encode()).hexdigest()


class SettingsMismatchError(ValueError):
    """A folder holds samples made with other settings."""


def write(order: Order) -> None:
    """Carry out `order`, or what is left of it.

    Raises SettingsMismatchError where the folder was begun with other settings, FileNotFoundError
    where a folder of ingredients is missing or empty.
    """
    order.out.mkdir(parents=True, exist_ok=True)
    _check_settings(order)
    spans = [
        range(start, min(start + order.shard_size, order.count)) for start in range(0, order.count, order.shard_size)
    ]
    missing = [k for k, span in enumerate(spans) if not _is_done(order, k)]
    with _progress() as progress:
        done = order.count - sum(len(spans[k]) for k in missing)
        task = progress.add_task(order.out.name, total=order.count, completed=done, begun_at=done)
        for size in _make_all(order, [(k, spans[k]) for k in missing]):
            progress.update(task, advance=size)
    if order.layout == "freihand":
        FreihandWriter(order.out).merge(len(spans))


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())


class _Rate(ProgressColumn):
    """Samples a second since the start of this run."""

    def render(self, task: Task) -> Text:
        made = task.completed - task.fields["begun_at"]
        return Text(f"{made / max(task.elapsed or 0, 1e-3):.0f} samples/s")


def _check_settings(order: Order) -> None:
    """Write the settings, or compare with those the folder was begun with."""
    file, settings = order.out / SETTINGS_FILE, order.settings()
    if not file.exists():
        file.write_text(json.dumps(settings, indent=1))
        return
    begun = json.loads(file.read_text())
    differ = [name for name in settings if begun.get(name) != settings[name]]
    if differ:
        details = ", ".join(f"{name} {begun.get(name)} there, {settings[name]} now" for name in differ)
        raise SettingsMismatchError(f"{order.out} was begun with other settings ({details}); choose another --out")


def _is_done(order: Order, shard: int) -> bool:
    if order.layout == "freihand":
        return FreihandWriter(order.out).is_done(shard)
    return shard_path(order.out, shard).exists()


def shard_path(folder: Path, shard: int) -> Path:
    """Where shard number `shard` lies."""
    return folder / f"shard-{shard:05d}.tar"


def _make_all(order: Order, jobs: list[tuple[int, range]]) -> Iterator[int]:
    """Make the missing shards; yields the size of each as it is done."""
    if not jobs:
        return
    if order.workers == 1 or len(jobs) == 1:
        _start_worker(order)
        yield from (_make_shard(*job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(order.workers, len(jobs)), context, _start_worker, (order,)) as pool:
        for future in as_completed([pool.submit(_make_shard, *job) for job in jobs]):
            yield future.result()


_worker: tuple[Order, Generator] | None = None


def _start_worker(order: Order) -> None:
    """Load the ingredients once in each process, which keeps to one thread."""
    import torch

    global _worker
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    _worker = order, _generator(order.sources)


@lru_cache(maxsize=1)
def _generator(sources: Sources) -> Generator:
    """A process makes one generator, however many orders it carries out with the same ingredients."""
    return Generator(sources)


def _make_shard(shard: int, span: range) -> int:
    order, generator = _worker
    samples = _samples(order, generator, span)
    if order.layout == "freihand":
        FreihandWriter(order.out).write(shard, samples, generator.stage.arm.model)
    else:
        write_shard(shard_path(order.out, shard), samples)
    return len(span)


def _samples(order: Order, generator: Generator, span: range) -> Iterator[Sample]:
    for start in range(span.start, span.stop, BATCH):
        yield from generator.samples(order.seed, range(start, min(start + BATCH, span.stop)), order.size)


def write_shard(path: Path, samples: Iterator[Sample]) -> None:
    """Write a tar of `samples` under a temporary name, then rename it: a shard is whole or not there."""
    partial = path.with_suffix(".tar.tmp")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for suffix, data in encode(sample).items():
                member = tarfile.TarInfo(f"{sample.seed:08d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    os.replace(partial, path)


def encode(sample: Sample) -> dict[str, bytes]:
    """The files of one sample by suffix: jpg, png, json."""
    bgr = cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
    jpg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    png = cv2.imencode(".png", sample.mask, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
    return {"jpg": jpg.tobytes(), "png": png.tobytes(), "json": json.dumps(label(sample)).encode()}


def label(sample: Sample) -> dict[str, object]:
    """The labels of one sample as plain numbers; metres and radians to a millionth."""
    arrays = {
        name: np.round(np.asarray(getattr(sample, name), np.float64), digits).tolist()
        for name, digits in (("pose", 6), ("shape", 6), ("joints_m", 6), ("joints_px", 3), ("translation_m", 6))
    }
    return {**arrays, "camera": asdict(sample.camera), "seed": sample.seed}
