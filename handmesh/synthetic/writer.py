"""Writes synthetic data sets, resumable and the same for any number of workers: tar shards, FreiHAND's layout, a
contact sheet.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, get_args

import cv2
import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.crop import crop_affine, warp
from handmesh.data.freihand import SHAPE, VERSIONS, FreihandSplit, rotations_from_mano
from handmesh.data.freihand_check import roots_m
from handmesh.data.shards import write_tar
from handmesh.files import atomic_write, write_image, write_npz
from handmesh.hand.model import HandModel
from handmesh.synthetic.config import FREIHAND_PROBABILITIES, GenerateConfig, Layout, Sources, check_settings
from handmesh.synthetic.generator import Generator, Sample, SimulateSensor
from handmesh.synthetic.sensor import Backgrounds, composite, photograph
from handmesh.types import Box

# Samples in FreiHAND's layout: numbered images and masks, and one list of numbers for each kind of label.


SPLITS: tuple[FreihandSplit, ...] = get_args(FreihandSplit)

LISTS = ("K", "scale", "xyz", "verts", "mano")
"""The kinds of labels; `mano` is written last and so says that all are there."""

TOLERANCE_M = 1e-5
"""How well the stored parameters must reproduce the stored points."""

_DIGITS = 6  # a micrometre, a microradian
_MIDDLE1, _MIDDLE2 = skeleton.ROOT, skeleton.KEYPOINTS.index("middle2")


class FreihandWriter:
    """Writes one split chunk after chunk, then merges its labels into `{split}_*.json`."""

    def __init__(self, folder: Path, split: FreihandSplit, count: int) -> None:
        """count: rows of the split; the image of row r and version v has the number r + count * v."""
        self.folder, self.split, self.count = folder, split, count
        self._parts = folder / "parts"

    def is_done(self, chunk: int) -> bool:
        """Whether a chunk was written, in parts or in the merged lists."""
        return self._part(chunk).exists() or self._list("mano").exists()

    def write(self, chunk: int, samples: Iterable[Sample], model: HandModel) -> None:
        """Write images and masks, then the chunk's labels, which mark it as whole."""
        for name in ("rgb", "mask") if self.split == "training" else ("rgb",):
            (self.folder / self.split / name).mkdir(parents=True, exist_ok=True)
        self._parts.mkdir(exist_ok=True)
        mean = Rotation.from_matrix(model.mean_pose.numpy()).as_rotvec()
        rows = []
        for sample in samples:
            self._write_images(sample)
            rows.append(labels(sample, mean))
        columns = {name: np.stack([row[name] for row in rows]) for name in LISTS}
        columns["errors"] = reproduction_errors(columns, model)
        write_npz(self._part(chunk), **columns)

    def merge(self, chunks: int) -> None:
        """Write the lists from the chunks, in order; `evaluation_errors.json` too, which training has not."""
        if self._list("mano").exists():
            return
        for name in LISTS if self.split == "training" else ("errors", *LISTS):
            with atomic_write(self._list(name)) as part, part.open("w") as file:
                rows = (json.dumps(row) for k in range(chunks) for row in np.load(self._part(k))[name].tolist())
                file.write("[" + next(rows))
                file.writelines(f", {row}" for row in rows)
                file.write("]")

    def tidy(self) -> None:
        """Remove the chunks' own labels, once every split is merged."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def _part(self, chunk: int) -> Path:
        return self._parts / f"{self.split}-{chunk:05d}.npz"

    def _list(self, name: str) -> Path:
        return self.folder / f"{self.split}_{name}.json"

    def _write_images(self, sample: Sample) -> None:
        size = sample.image.shape[-3:]
        for version, image in enumerate(sample.image.reshape(-1, *size)):
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            self._write_jpg("rgb", sample.seed + self.count * version, bgr)
        if self.split == "training":
            self._write_jpg("mask", sample.seed, sample.mask)

    def _write_jpg(self, name: str, number: int, image: np.ndarray) -> None:
        path = self.folder / self.split / name / f"{number:08d}.jpg"
        if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise OSError(f"cannot write {path}")


def labels(sample: Sample, mean_pose: np.ndarray) -> dict[str, np.ndarray]:
    """One sample's row in each list.

    mean_pose: (15, 3) axis-angle; FreiHAND's 48 pose numbers are relative to it. The last three of
    its 61 numbers are the root's pixel and focal length / depth.
    """
    camera, pose = sample.camera, sample.pose.copy()
    pose[1:] -= mean_pose
    focal = (camera.fx + camera.fy) / 2
    placed = [*sample.joints_px[_MIDDLE1], focal / sample.joints_m[_MIDDLE1, 2]]
    return {
        "K": camera.K.round(_DIGITS),
        "scale": np.linalg.norm(sample.joints_m[_MIDDLE1] - sample.joints_m[_MIDDLE2]).round(_DIGITS),
        "xyz": sample.joints_m.astype(np.float64).round(_DIGITS),
        "verts": sample.vertices_m.astype(np.float64).round(_DIGITS),
        "mano": np.concatenate([pose.ravel(), sample.shape, placed])[None].round(_DIGITS),
    }


def reproduction_errors(columns: dict[str, np.ndarray], model: HandModel) -> np.ndarray:
    """(N,) metres, the mean distance between the points of `xyz` and those that `mano` gives through the model.

    What the real archive's `evaluation_errors.json` holds is nowhere written down; this is what the
    name suggests. Raises ValueError where the parameters do not reproduce `xyz` and `verts`.
    """
    numbers = columns["mano"][:, 0]
    rotations = torch.from_numpy(rotations_from_mano(numbers, model))
    with torch.inference_mode():
        output = model(rotations, torch.from_numpy(numbers[:, SHAPE]).float())
    vertices, joints = (part.numpy().astype(np.float64) for part in output)
    shift = (roots_m(numbers, columns["K"]) - joints[:, _MIDDLE1])[:, None]
    distances = np.linalg.norm(joints + shift - columns["xyz"], axis=2)
    worst = max(distances.max(), np.linalg.norm(vertices + shift - columns["verts"], axis=2).max())
    if not worst < TOLERANCE_M:
        raise ValueError(f"stored parameters miss the stored points by {worst:.1e} m, not < {TOLERANCE_M:.0e} m")
    return distances.mean(1)


# FreiHAND's four versions of one image: a green screen, and three other backgrounds with colours of their own.
#
# The real set was filmed before a green screen (`gs`). Its other versions put a photograph behind the
# hand and treat the colours: the hand harmonised with the background (`hom`), or the whole image made
# grey and coloured anew, with hints of the true colours (`sample`) or without (`auto`). Here the same is
# done by simple means. Hand, pose and camera are the same in all four.


def simulate_versions(rgba: np.ndarray, rng: np.random.Generator, backgrounds: Backgrounds) -> np.ndarray:
    """(4, S, S, 3) uint8: a scene of (S, S, 4) RGBA in the order of `VERSIONS`."""
    size, blur = len(rgba), int(rng.integers(2**32))
    images = []
    for version in VERSIONS:
        background = _green_screen(rng, size) if version == "gs" else backgrounds.draw(rng, size)
        hand = _harmonise(rgba, background, rng) if version == "hom" else rgba
        image = composite(hand, background, np.random.default_rng(blur))  # one camera movement for all four
        if version in ("sample", "auto"):
            image = _recolour(image, rng, hints=version == "sample")
        images.append(photograph(image, rng))
    return np.stack(images)


def _green_screen(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) uint8 green cloth, lit unevenly and a little creased."""
    green = np.array([rng.uniform(20, 80), rng.uniform(120, 200), rng.uniform(40, 100)])
    corners = 1 + rng.normal(0, 0.12, (2, 2)).astype(np.float32)
    light = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
    creases = rng.normal(0, 0.05, (6, 6)).astype(np.float32)
    light = light + cv2.resize(creases, (size, size), interpolation=cv2.INTER_CUBIC)
    return (green * light[..., None]).clip(0, 255).astype(np.uint8)


def _harmonise(rgba: np.ndarray, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The hand's colours moved part of the way to the background's mean and contrast."""
    shown = rgba[..., 3] > 127
    if not shown.any():
        return rgba
    fraction = rng.uniform(0.15, 0.45)
    hand, behind = rgba[shown][:, :3].astype(np.float32), background.reshape(-1, 3).astype(np.float32)
    contrast = np.clip(behind.std(0) / np.maximum(hand.std(0), 1), 0.6, 1.6) ** fraction
    mean = hand.mean(0) + fraction * (behind.mean(0) - hand.mean(0))
    colours = (rgba[..., :3] - hand.mean(0)) * contrast + mean
    return np.concatenate([colours.clip(0, 255).astype(np.uint8), rgba[..., 3:]], -1)


def _recolour(image: np.ndarray, rng: np.random.Generator, hints: bool) -> np.ndarray:
    """(S, S, 3) uint8: the image's grey, with colours that are only roughly its own.

    hints: keep much of the true colours; else they are weak, smeared and shifted.
    """
    smear, strength, shift = (0.02, (0.6, 1.3), 5.0) if hints else (0.06, (0.2, 0.8), 12.0)
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    chroma = cv2.GaussianBlur(planes[..., 1:] - 128, (0, 0), max(smear * len(image), 0.5))
    planes[..., 1:] = 128 + chroma * rng.uniform(*strength) + rng.normal(0, shift, 2)
    return cv2.cvtColor(planes.clip(0, 255).astype(np.uint8), cv2.COLOR_YCrCb2RGB)


# Synthetic data sets on disk: tar shards or FreiHAND's layout, resumable, the same for any number of workers.


BATCH = 50  # samples whose hands are posed in one pass; part of what makes files reproducible
EVALUATION_SEED = 2**40
"""Added to the seed for FreiHAND's evaluation set, which so shares no sample with any training set."""


class Job(NamedTuple):
    """A shard, or a chunk of one split in FreiHAND's layout."""

    split: FreihandSplit
    number: int
    span: range  # the samples' indices


def run(order: GenerateConfig) -> None:
    """`handmesh data synthetic`: the data set, or the sheet."""
    (write_sheet if order.sheet else write)(order)


def write(order: GenerateConfig) -> None:
    """Carry out `order`, or what is left of it.

    Raises SettingsMismatchError where the folder was begun with other settings, FileNotFoundError
    where a folder of ingredients is missing or empty, and as `HandModel.load` for the hand model.
    """
    HandModel.load(order.hand_model)  # a wrong file is named here, before anything is written or started
    order.output.mkdir(parents=True, exist_ok=True)
    check_settings(order)
    jobs = remaining_jobs(order)
    missing = [job for job in jobs if not _is_done(order, job)]
    with _progress() as progress:
        total, left = (sum(len(job.span) for job in some) for some in (jobs, missing))
        task = progress.add_task(order.output.name, total=total, completed=total - left, begun_at=total - left)
        for size in _make_all(order, missing):
            progress.update(task, advance=size)
    if order.layout == "freihand":
        _merge(order, jobs)


def remaining_jobs(order: GenerateConfig) -> list[Job]:
    counts: dict[FreihandSplit, int] = {"training": order.count, "evaluation": order.evaluation_count}
    return [
        Job(split, number, range(start, min(start + order.shard_size, count)))
        for split, count in counts.items()
        for number, start in enumerate(range(0, count, order.shard_size))
    ]


def _merge(order: GenerateConfig, jobs: list[Job]) -> None:
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


def _freihand(order: GenerateConfig, split: FreihandSplit) -> FreihandWriter:
    return FreihandWriter(order.output, split, order.count if split == "training" else order.evaluation_count)


def _is_done(order: GenerateConfig, job: Job) -> bool:
    if order.layout == "freihand":
        return _freihand(order, job.split).is_done(job.number)
    return shard_path(order.output, job.number).exists()


def shard_path(folder: Path, shard: int) -> Path:
    """Where shard number `shard` lies."""
    return folder / f"shard-{shard:05d}.tar"


def _make_all(order: GenerateConfig, jobs: list[Job]) -> Iterator[int]:
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


_worker: tuple[GenerateConfig, Generator] | None = None


def _start_worker(order: GenerateConfig) -> None:
    """Load the ingredients once in each process, which keeps to one thread."""
    import torch

    global _worker
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    _worker = order, _generator(order.sources, order.layout)


@lru_cache(maxsize=1)
def _generator(sources: Sources, layout: Layout) -> Generator:
    """A process makes one generator, however many orders it carries out with the same ingredients."""
    return Generator(sources, FREIHAND_PROBABILITIES if layout == "freihand" else None)


def _make(job: Job) -> int:
    order, generator = _worker
    if order.layout == "freihand":
        samples = _freihand_samples(order, generator, job)
        _freihand(order, job.split).write(job.number, samples, generator.stage.arm.model)
    else:
        write_shard(shard_path(order.output, job.number), _samples(order, generator, job.span, order.seed))
    return len(job.span)


def _freihand_samples(order: GenerateConfig, generator: Generator, job: Job) -> Iterator[Sample]:
    """Four versions of each training row, one ordinary image of each evaluation row."""
    if job.split == "evaluation":
        return _samples(order, generator, job.span, order.seed + EVALUATION_SEED)
    versions = partial(simulate_versions, backgrounds=generator.backgrounds)
    return _samples(order, generator, job.span, order.seed, versions)


def _samples(
    order: GenerateConfig, generator: Generator, span: range, seed: int, simulate_sensor: SimulateSensor | None = None
) -> Iterator[Sample]:
    for start in range(span.start, span.stop, BATCH):
        indices = range(start, min(start + BATCH, span.stop))
        yield from generator.samples(seed, indices, order.image_size, simulate_sensor)


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
    others = [
        {"hand": side, "uv": joints_px.astype(np.float64).round(3).tolist()}
        for side, joints_px in sample.others_px.items()
    ]
    hard_case = {} if sample.hard_case is None else {"challenge": sample.hard_case}
    return {**arrays, "camera": asdict(sample.camera), "seed": sample.seed, "others": others, **hard_case}


# A contact sheet of synthetic crops: what a network is shown, to be looked at.


CROP_PX, COLUMNS = 96, 12
BOX_SCALE = 1.5
"""Of the tight box: what the network's crops are cut with (`HandNet`'s default)."""
_JPEG_QUALITY = 86


def write_sheet(order: GenerateConfig) -> None:
    """Draw the first `order.count` samples as one JPEG at `order.output`.

    Raises ValueError where that is not the name of a .jpg file, and as `Generator` for the ingredients.
    """
    if order.output.suffix.lower() not in (".jpg", ".jpeg"):
        raise ValueError(f"--sheet writes an image: --output must be a .jpg file, got {order.output}")
    samples = Generator(order.sources).samples(order.seed, range(order.count), order.image_size)
    write_image(order.output, draw_sheet(samples), _JPEG_QUALITY)


def draw_sheet(samples: list[Sample]) -> np.ndarray:
    """(rows * CROP_PX, columns * CROP_PX, 3) uint8: each sample's upright crop, row by row, white where none is."""
    columns = min(COLUMNS, len(samples))
    rows = -(-len(samples) // columns)
    sheet = np.full((rows, columns, CROP_PX, CROP_PX, 3), 255, np.uint8)
    for k, sample in enumerate(samples):
        box = Box.around(sample.joints_px, BOX_SCALE, rotation=False)
        sheet[k // columns, k % columns] = warp(sample.image, crop_affine(box, CROP_PX), CROP_PX)
    return sheet.transpose(0, 2, 1, 3, 4).reshape(rows * CROP_PX, columns * CROP_PX, 3)
