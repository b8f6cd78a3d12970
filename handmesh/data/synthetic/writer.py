"""Synthetic data sets on disk: tar shards or FreiHAND's layout, resumable, the same for any number of workers."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from handmesh.data.freihand import FreihandSplit
from handmesh.data.shards import write_tar
from handmesh.data.synthetic.challenges import FREIHAND_CHANCES
from handmesh.data.synthetic.freihand_layout import SPLITS, FreihandWriter
from handmesh.data.synthetic.freihand_versions import develop_versions
from handmesh.data.synthetic.generator import Develop, Generator, Sample, Sources
from handmesh.data.synthetic.order import Layout, Order, check_settings
from handmesh.hand_model import HandModel

BATCH = 50  # samples whose hands are posed in one pass; part of what makes files reproducible
EVALUATION_SEED = 2**40
"""Added to the seed for FreiHAND's evaluation set, which so shares no sample with any training set."""


class Job(NamedTuple):
    """A shard, or a chunk of one split in FreiHAND's layout."""

    split: FreihandSplit
    number: int
    span: range  # the samples' indices


def write(order: Order) -> None:
    """Carry out `order`, or what is left of it.

    Raises SettingsMismatchError where the folder was begun with other settings, FileNotFoundError
    where a folder of ingredients is missing or empty, and as `HandModel.load` for the hand model.
    """
    HandModel.load(order.hand_model)  # a wrong file is named here, before anything is written or started
    order.out.mkdir(parents=True, exist_ok=True)
    check_settings(order)
    jobs = _jobs(order)
    missing = [job for job in jobs if not _is_done(order, job)]
    with _progress() as progress:
        total, left = (sum(len(job.span) for job in some) for some in (jobs, missing))
        task = progress.add_task(order.out.name, total=total, completed=total - left, begun_at=total - left)
        for size in _make_all(order, missing):
            progress.update(task, advance=size)
    if order.layout == "freihand":
        _merge(order, jobs)


def _jobs(order: Order) -> list[Job]:
    counts: dict[FreihandSplit, int] = {"training": order.count, "evaluation": order.evaluation_count}
    return [
        Job(split, number, range(start, min(start + order.shard_size, count)))
        for split, count in counts.items()
        for number, start in enumerate(range(0, count, order.shard_size))
    ]


def _merge(order: Order, jobs: list[Job]) -> None:
    """The chunks' labels to FreiHAND's lists; the chunks' own go last, so that a kill loses nothing."""
    for split in SPLITS:
        if chunks := sum(job.split == split for job in jobs):
            _freihand(order, split).merge(chunks)
    _freihand(order, "training").tidy()


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())


class _Rate(ProgressColumn):
    """Samples a second since the start of this run."""

    def render(self, task: Task) -> Text:
        made = task.completed - task.fields["begun_at"]
        return Text(f"{made / max(task.elapsed or 0, 1e-3):.0f} samples/s")


def _freihand(order: Order, split: FreihandSplit) -> FreihandWriter:
    return FreihandWriter(order.out, split, order.count if split == "training" else order.evaluation_count)


def _is_done(order: Order, job: Job) -> bool:
    if order.layout == "freihand":
        return _freihand(order, job.split).is_done(job.number)
    return shard_path(order.out, job.number).exists()


def shard_path(folder: Path, shard: int) -> Path:
    """Where shard number `shard` lies."""
    return folder / f"shard-{shard:05d}.tar"


def _make_all(order: Order, jobs: list[Job]) -> Iterator[int]:
    """Make the missing shards; yields the size of each as it is done."""
    if not jobs:
        return
    if order.workers == 1 or len(jobs) == 1:
        _start_worker(order)
        yield from map(_make, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(order.workers, len(jobs)), context, _start_worker, (order,)) as pool:
        for future in as_completed([pool.submit(_make, job) for job in jobs]):
            yield future.result()


_worker: tuple[Order, Generator] | None = None


def _start_worker(order: Order) -> None:
    """Load the ingredients once in each process, which keeps to one thread."""
    import torch

    global _worker
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    _worker = order, _generator(order.sources, order.layout)


@lru_cache(maxsize=1)
def _generator(sources: Sources, layout: Layout) -> Generator:
    """A process makes one generator, however many orders it carries out with the same ingredients."""
    return Generator(sources, FREIHAND_CHANCES if layout == "freihand" else None)


def _make(job: Job) -> int:
    order, generator = _worker
    if order.layout == "freihand":
        samples = _freihand_samples(order, generator, job)
        _freihand(order, job.split).write(job.number, samples, generator.stage.arm.model)
    else:
        write_shard(shard_path(order.out, job.number), _samples(order, generator, job.span, order.seed))
    return len(job.span)


def _freihand_samples(order: Order, generator: Generator, job: Job) -> Iterator[Sample]:
    """Four versions of each training row, one ordinary picture of each evaluation row."""
    if job.split == "evaluation":
        return _samples(order, generator, job.span, order.seed + EVALUATION_SEED)
    versions = partial(develop_versions, backgrounds=generator.backgrounds)
    return _samples(order, generator, job.span, order.seed, versions)


def _samples(
    order: Order, generator: Generator, span: range, seed: int, develop: Develop | None = None
) -> Iterator[Sample]:
    for start in range(span.start, span.stop, BATCH):
        indices = range(start, min(start + BATCH, span.stop))
        yield from generator.samples(seed, indices, order.picture_size, develop)


def write_shard(path: Path, samples: Iterator[Sample]) -> None:
    """Write a tar of `samples`, whole or not at all."""
    write_tar(path, ((f"{sample.seed:08d}", encode(sample)) for sample in samples))


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
    challenge = {} if sample.challenge is None else {"challenge": sample.challenge}
    return {**arrays, "camera": asdict(sample.camera), "seed": sample.seed, **challenge}
