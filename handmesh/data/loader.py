"""Endless batches as a pure function of seed and step: what is mixed, the stages of a run, the loader.

A batch is a pure function of the seed and the step, so a resumed run sees what an undisturbed one
would have seen, and several processes can each make their fraction of a global batch.
"""

from __future__ import annotations

import gc
import math
import pickle
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from handmesh.data.remote import StreamConfig
from handmesh.data.samples import AugmentConfig, Batch, CropSample, HandSample, Look, collate, make_crop_sample
from handmesh.data.sets import SETS


class Source(Protocol):
    """Something that labelled images can be drawn from."""

    def draw(self, rng: np.random.Generator) -> HandSample: ...


@runtime_checkable
class Changing(Protocol):
    """A source whose content changes as training goes on."""

    def at(self, step: int) -> Source:
        """What `step` draws from: a function of the step alone."""


@dataclass(frozen=True)
class Stage:
    """A stretch of training at one crop size."""

    steps: int
    crop_size: int
    batch: int
    """Global batch: samples a step over all processes."""


@dataclass(frozen=True)
class SetConfig:
    """What to take of a research data set; see docs/datasets.md."""

    root: Path | None = None
    """Its folder. Default: the set is left out."""
    split: str = ""
    """Default: the one to train with."""
    fraction: float = 0.1
    """Of all samples."""


@dataclass(frozen=True)
class MixConfig:
    """What the training data is made of."""

    shards: tuple[Path, ...] = ()
    """Folders of synthetic shards (`handmesh data synthetic`)."""
    photos: tuple[Path, ...] = ()
    """Folders of labelled photographs (pseudo_labels.json)."""
    stretched_photos: tuple[Path, ...] = ()
    """The same of photographs that were not kept in proportion: they teach where joints are, not how they turn."""
    fits: tuple[Path, ...] = ()
    """Files of hands fitted to the photographs (`handmesh data fit-photos`): rotations and shapes to learn from."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    """Shards of either that are fetched as training goes on."""
    cutouts: tuple[Path, ...] = ()
    """Folders of hands cut out of photographs (`handmesh data cutouts`), to be pasted onto the backgrounds."""
    backgrounds: tuple[Path, ...] = ()
    """Folders of images without hands. Beside FreiHAND, whose images have surroundings of their own to learn this from,
    one that is missing is passed over with a warning."""
    hard_negatives: tuple[Path, ...] = ()
    """Folders of candidates that a detector took for hands (`handmesh data hard-negatives`)."""
    taught: tuple[Path, ...] = ()
    """Banks of a teacher's features (`handmesh data cache-teacher`) of some of the folders above."""
    taught_fraction: float = 0.6
    """Of the draws from a folder with a bank: cached views; the others are random ones that nobody taught."""
    freihand: Path | None = None
    """FreiHAND's folder; see docs/freihand.md."""
    freihand_versions: tuple[Literal["gs", "hom", "sample", "auto"], ...] = ("gs", "hom", "sample", "auto")
    freihand_boxes: Literal["rotated", "gt-keypoints", "centre-130"] = "gt-keypoints"
    """How FreiHAND's hands are boxed before the augmentation: upright by a crop protocol, or turned as the
    tracker turns them."""
    freihand_fraction: float = 0.5
    sets: dict[str, SetConfig] = field(
        default_factory=lambda: {name: SetConfig() for name, known in SETS.items() if known.trains}
    )
    """Other research data sets by name: `sets: {ho3d: {root: data/HO3D_v3, fraction: 0.2}}`."""
    synthetic_fraction: float = 0.6
    background_fraction: float = 0.08
    """Half of it are the hard negatives, where there are some. The rest are photographs and cutouts; fractions of
    absent sources go to the others."""
    mirrored: float = 0.0
    """Fraction of the cutouts beside which lies their mirror image, as their owner's other hand."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    workers: int = 1


class StepBatches(Dataset):
    """`batches[step]` is one process's fraction of that step's global batch: a function of seed and step alone.

    Where it comes in parts, `batches[step * parts + part]` is one of them. Subclasses say what a draw from a source
    becomes and how draws are put together.
    """

    def __init__(
        self, sources: Sequence[tuple[float, Any]], stages: Sequence[Stage], seed: int, rank: int = 0, world: int = 1,
        parts: int = 1,
    ) -> None:  # fmt: skip
        """sources: (fraction, source) pairs; parts: how many batches this process's fraction of a step comes in.

        Raises ValueError where there are no sources, or a batch cannot be shared equally.
        """
        if not sources:
            raise ValueError(f"no training data: name at least one of {self.folders}")
        self.sources = [source for _, source in sources]
        fractions = np.array([fraction for fraction, _ in sources], dtype=np.float64)
        self.fractions = fractions / fractions.sum()
        self.stages, self.seed, self.rank, self.world, self.parts = tuple(stages), seed, rank, world, parts
        uneven = sorted({stage.batch for stage in self.stages if stage.batch % (world * parts)})
        if uneven:
            by = f"{world} processes" + (f" in {parts} parts each (run.accumulate)" if parts > 1 else "")
            raise ValueError(f"a global batch of {uneven[0]} cannot be shared equally by {by}")

    folders = "data.shards, data.photos, data.freihand, data.sets, data.stream, data.backgrounds"
    """The config's names for where sources come from."""

    def __len__(self) -> int:
        return self.parts * sum(stage.steps for stage in self.stages)

    def __getitem__(self, index: int) -> Any:
        step, part = divmod(index, self.parts)
        stage = stage_at(self.stages, step)
        sources = [source.at(step) if isinstance(source, Changing) else source for source in self.sources]
        samples = range(self.rank + part * self.world, stage.batch, self.world * self.parts)
        return self.collate([self._draw(sources, step, sample, stage.crop_size) for sample in samples])

    def _draw(self, sources: Sequence[Any], step: int, sample: int, size: int) -> Any:
        rng = np.random.default_rng([self.seed, step, sample])
        number = rng.choice(len(sources), p=self.fractions)
        return self.from_source(self.make(sources[number], size, rng), number)

    def make(self, source: Any, size: int, rng: np.random.Generator) -> Any:
        """One slot of a batch, drawn from `source`, of a stage with this crop size."""
        raise NotImplementedError

    def from_source(self, sample: Any, number: int) -> Any:
        """The slot with a note of which source it came from, where its batch keeps that."""
        return sample

    def collate(self, samples: list[Any]) -> Any:
        """The slots as one batch."""
        raise NotImplementedError


class TrainingBatches(StepBatches):
    """Batches of labelled crops."""

    def __init__(
        self, sources: Sequence[tuple[float, Source | Changing]], stages: Sequence[Stage], augment: AugmentConfig,
        box_scale: float, seed: int, rank: int = 0, world: int = 1, parts: int = 1, look: Look | None = None,
    ) -> None:  # fmt: skip
        """look: what `augment.looked` asks where joints are."""
        super().__init__(sources, stages, seed, rank, world, parts)
        self.augment, self.box_scale, self.look = augment, box_scale, look

    def make(self, source: Source, size: int, rng: np.random.Generator) -> CropSample:
        return make_crop_sample(source.draw(rng), size, self.box_scale, self.augment, rng, self.look)

    def from_source(self, sample: CropSample, number: int) -> CropSample:
        return sample._replace(source=float(number))

    def collate(self, samples: list[CropSample]) -> Batch:
        return collate(samples)


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """The stage that a step belongs to."""
    for stage in stages:
        if step < stage.steps:
            return stage
        step -= stage.steps
    raise IndexError("the step lies behind the last stage")


class _StepsFrom(Sampler):
    """The numbers from `start` to the end, in order."""

    def __init__(self, start: int, end: int) -> None:
        self.steps = range(start, end)

    def __iter__(self):
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


SHARED_MEMORY = Path("/dev/shm")
_PREFETCHED = 4


def batches_from(dataset: StepBatches, start: int, workers: int) -> Iterable[Any]:
    """The batches of `dataset` from step `start` on, all parts of each, made ahead by `workers` processes; with 0,
    in this one.

    They come through shared memory where there is room for them all. Where there is little, as in containers, a
    worker would wait for room that never comes: there, they come through pipes. What lies about unused goes before
    workers are forked off: a frame of a film that one of them came to throw away would wait for its decoder's threads,
    which no worker has.
    """
    if workers:
        gc.collect()
    piped = workers > 0 and _free_shared_memory() < workers * (_PREFETCHED + 1) * _about_bytes(dataset)
    loader = DataLoader(
        _Pickled(dataset) if piped else dataset,
        batch_size=None,
        sampler=_StepsFrom(start * dataset.parts, len(dataset)),
        num_workers=workers,
        prefetch_factor=_PREFETCHED if workers else None,
    )
    return map(pickle.loads, loader) if piped else loader


def _free_shared_memory() -> float:
    """Bytes; infinite where the system has another kind of it."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return math.inf


def _about_bytes(dataset: StepBatches) -> int:
    """Of the largest batch that one process makes: its images, and as much again for labels and what is taught."""
    shared_by = dataset.world * dataset.parts
    return max(2 * 3 * stage.crop_size**2 * -(-stage.batch // shared_by) for stage in dataset.stages)


class _Pickled(Dataset):
    """Batches as bytes, which torch sends as they are."""

    def __init__(self, dataset: StepBatches) -> None:
        self._dataset = dataset

    def __getitem__(self, step: int) -> bytes:
        return pickle.dumps(self._dataset[step], protocol=pickle.HIGHEST_PROTOCOL)
