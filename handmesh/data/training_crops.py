"""Endless training batches: synthetic shards, labelled photographs and pictures without hands, mixed.

A batch is a pure function of the seed and the step, so a resumed run sees what an undisturbed one
would have seen, and several processes can each make their share of a global batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from handmesh import crop, skeleton
from handmesh.data.augment import AugmentConfig, cover_patch, jitter_box, vary_colour
from handmesh.losses import Batch
from handmesh.structs import Box, Camera, Side


class Labelled(NamedTuple):
    """A picture with at most one labelled hand. Metric fields are in the camera's axes."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    box: Box  # the tight, turned box of the hand, or any box where there is no hand
    joints_px: np.ndarray | None = None  # (21, 2); None: no hand
    side: Side = "right"
    joints_m: np.ndarray | None = None  # (21, 3)
    rotations: np.ndarray | None = None  # (16, 3, 3), the first to the camera; None: joints_m is rough
    shape: np.ndarray | None = None  # (10,)
    camera: Camera | None = None  # None: unknown


class Source(Protocol):
    """Something that labelled pictures can be drawn from."""

    def draw(self, rng: np.random.Generator) -> Labelled: ...


class Slot(NamedTuple):
    """One crop of a batch, as NumPy; the fields are those of `losses.Batch`."""

    image: np.ndarray
    joints_crop: np.ndarray
    joints_m: np.ndarray
    rotations: np.ndarray
    shape: np.ndarray
    has_joints_crop: float
    has_parameters: float
    has_rough_3d: float
    presence: float
    right: float


def make_slot(
    item: Labelled, size: int, box_scale: float, augment: AugmentConfig | None, rng: np.random.Generator
) -> Slot:
    """Crop one labelled picture to `size` pixels; without `augment`, just as the tracker would."""
    box = item.box.scaled(box_scale)
    wrong_side = False
    if augment is not None:
        box = jitter_box(box, augment, rng)
        wrong_side = item.joints_px is not None and rng.random() < augment.wrong_side
    mirror = (item.side == "left") != wrong_side
    affine = crop.crop_affine(box, size, mirror)
    image = crop.warp(item.image, affine, size)
    if augment is not None and augment.colour:
        image = _vary(image, rng)
    labels = _labels(item, box, affine, size, mirror, exact_3d=not wrong_side)
    return Slot(np.ascontiguousarray(image.transpose(2, 0, 1)), **labels)


def _vary(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    varied = vary_colour(torch.from_numpy(image).permute(2, 0, 1), int(rng.integers(2**31)))
    return cover_patch(varied.permute(1, 2, 0).numpy().copy(), rng)


def _labels(item: Labelled, box: Box, affine: np.ndarray, size: int, mirror: bool, exact_3d: bool) -> dict[str, Any]:
    labels = _no_labels()
    if item.joints_px is None:
        return labels
    in_crop = crop.apply_affine(affine, item.joints_px)
    labels["joints_crop"] = crop.normalised_from_px(in_crop, size).astype(np.float32)
    labels |= {"has_joints_crop": 1.0, "presence": 1.0, "right": float(mirror == (item.side == "left"))}
    if item.joints_m is not None and exact_3d:
        labels |= _metric_labels(item, box, mirror)
    return labels


def _no_labels() -> dict[str, Any]:
    return {
        "joints_crop": np.zeros((21, 2), np.float32),
        "joints_m": np.zeros((21, 3), np.float32),
        "rotations": np.tile(np.eye(3, dtype=np.float32), (16, 1, 1)),
        "shape": np.zeros(10, np.float32),
        "has_joints_crop": 0.0,
        "has_parameters": 0.0,
        "has_rough_3d": 0.0,
        "presence": 0.0,
        "right": 0.0,
    }


def _metric_labels(item: Labelled, box: Box, mirror: bool) -> dict[str, Any]:
    """Joints and rotations turned into the crop's own view, of a right hand."""
    upright = Camera(1.0, 1.0, *box.centre_px, 0, 0)  # an unknown camera is taken to look at the box
    view = crop.view_rotation(item.camera or upright, box).astype(np.float32)
    joints = (item.joints_m - item.joints_m[skeleton.ROOT]) @ view
    labels: dict[str, Any] = {"joints_m": joints.astype(np.float32), "has_rough_3d": 1.0}
    if item.rotations is not None:
        rotations = item.rotations.astype(np.float32).copy()
        rotations[0] = view.T @ rotations[0]
        labels |= {"rotations": rotations, "shape": item.shape, "has_parameters": 1.0, "has_rough_3d": 0.0}
    if mirror:
        labels["joints_m"] = crop.mirror_points_m(labels["joints_m"])
        if item.rotations is not None:
            labels["rotations"] = crop.mirror_rotations(labels["rotations"])
    return labels


def collate(slots: Sequence[Slot]) -> Batch:
    """Stack crops into a batch of tensors."""
    columns = (np.stack([np.asarray(value) for value in column]) for column in zip(*slots, strict=True))
    tensors = [torch.from_numpy(c) for c in columns]
    return Batch(tensors[0], *(t.float() for t in tensors[1:]))


@dataclass(frozen=True)
class Stage:
    """A stretch of training at one crop size."""

    steps: int
    crop_size: int
    batch: int
    """Global batch: samples a step over all processes."""


@dataclass(frozen=True)
class MixConfig:
    """What the training data is made of."""

    shards: tuple[Path, ...] = ()
    """Folders of synthetic shards (scripts/make_synthetic.py)."""
    photos: tuple[Path, ...] = ()
    """Folders of labelled photographs (pseudo_labels.json)."""
    backgrounds: tuple[Path, ...] = ()
    """Folders of pictures without hands."""
    synthetic_share: float = 0.6
    background_share: float = 0.08
    """The rest are photographs; shares of absent sources go to the others."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    workers: int = 1


class StepBatches(Dataset):
    """`batches[step]` is one process's share of that step's global batch: a function of seed and step alone.

    Subclasses say what a draw from a source becomes and how draws are put together.
    """

    def __init__(
        self, sources: Sequence[tuple[float, Any]], stages: Sequence[Stage], seed: int, rank: int = 0, world: int = 1
    ) -> None:
        """sources: (share, source) pairs. Raises ValueError where there are none."""
        if not sources:
            raise ValueError(f"no training data: name at least one of {self.folders}")
        self.sources = [source for _, source in sources]
        shares = np.array([share for share, _ in sources], dtype=np.float64)
        self.shares = shares / shares.sum()
        self.stages, self.seed, self.rank, self.world = tuple(stages), seed, rank, world

    folders = "data.shards, data.photos, data.backgrounds"
    """The config's names for where sources come from."""

    def __len__(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def __getitem__(self, step: int) -> Any:
        stage = stage_at(self.stages, step)
        return self.collate(
            [self._draw(step, slot, stage.crop_size) for slot in range(self.rank, stage.batch, self.world)]
        )

    def _draw(self, step: int, slot: int, size: int) -> Any:
        rng = np.random.default_rng([self.seed, step, slot])
        return self.make(self.sources[rng.choice(len(self.sources), p=self.shares)], size, rng)

    def make(self, source: Any, size: int, rng: np.random.Generator) -> Any:
        """One slot of a batch, drawn from `source`, of a stage with this crop size."""
        raise NotImplementedError

    def collate(self, slots: list[Any]) -> Any:
        """The slots as one batch."""
        raise NotImplementedError


class TrainingBatches(StepBatches):
    """Batches of labelled crops."""

    def __init__(
        self, sources: Sequence[tuple[float, Source]], stages: Sequence[Stage], augment: AugmentConfig,
        box_scale: float, seed: int, rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(sources, stages, seed, rank, world)
        self.augment, self.box_scale = augment, box_scale

    def make(self, source: Source, size: int, rng: np.random.Generator) -> Slot:
        return make_slot(source.draw(rng), size, self.box_scale, self.augment, rng)

    def collate(self, slots: list[Slot]) -> Batch:
        return collate(slots)


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """The stage that a step belongs to."""
    for stage in stages:
        if step < stage.steps:
            return stage
        step -= stage.steps
    raise IndexError("the step lies behind the last stage")


class _StepsFrom(Sampler):
    """The steps from `start` to the end, in order."""

    def __init__(self, start: int, end: int) -> None:
        self.steps = range(start, end)

    def __iter__(self):
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


def batches_from(dataset: StepBatches, start: int, workers: int) -> DataLoader:
    """A loader that yields the batches of `dataset` from step `start` on."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=_StepsFrom(start, len(dataset)),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
