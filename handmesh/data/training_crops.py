"""Endless training batches: synthetic shards, labelled photographs and pictures without hands, mixed.

A batch is a pure function of the seed and the step, so a resumed run sees what an undisturbed one
would have seen, and several processes can each make their share of a global batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from handmesh import crop, skeleton
from handmesh.data.augment import AugmentConfig, cover_patch, jitter_box, vary_colour
from handmesh.data.stream import StreamConfig
from handmesh.losses import Batch
from handmesh.structs import Box, Camera, Side

MASK_STRIDE = 8
"""A crop's mask is labelled in cells of so many pixels."""


class Taught(NamedTuple):
    """What a teacher saw in a view, in standard deviations of each channel; see `data.taught`."""

    mean: np.ndarray  # (P,)
    map: np.ndarray  # (C, h, w) over the student's crop


class Labelled(NamedTuple):
    """A picture with at most one labelled hand. Metric fields are in the camera's axes."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    box: Box  # the tight, turned box of the hand, or any box where there is no hand
    joints_px: np.ndarray | None = None  # (21, 2); None: no hand
    side: Side = "right"
    joints_m: np.ndarray | None = None  # (21, 3)
    rotations: np.ndarray | None = None  # (16, 3, 3), the first to the camera
    shape: np.ndarray | None = None  # (10,)
    camera: Camera | None = None  # None: unknown
    vertices_m: np.ndarray | None = None  # (V, 3), from the same origin as joints_m
    mask: np.ndarray | None = None  # (H, W) uint8, 255 on the hand
    rough: bool = False  # joints_m is an estimate, up to scale; so are rotations and shape where given
    view: Box | None = None  # the tight box to be looked at in place of a randomly changed one
    wrong_side: bool = False  # look at `view` mirrored the wrong way
    taught: Taught | None = None  # what a teacher saw there


class Source(Protocol):
    """Something that labelled pictures can be drawn from."""

    def draw(self, rng: np.random.Generator) -> Labelled: ...


@runtime_checkable
class Changing(Protocol):
    """A source whose content changes as training goes on."""

    def at(self, step: int) -> Source:
        """What `step` draws from: a function of the step alone."""


class Slot(NamedTuple):
    """One crop of a batch, as NumPy; the fields are those of `losses.Batch`."""

    image: np.ndarray
    joints_crop: np.ndarray
    joints_m: np.ndarray
    vertices_m: np.ndarray
    rotations: np.ndarray
    shape: np.ndarray
    mask: np.ndarray
    has_joints_crop: float
    has_joints_m: float
    has_rough_3d: float
    has_vertices: float
    has_parameters: float
    has_mask: float
    presence: float
    right: float
    taught_mean: np.ndarray
    taught_map: np.ndarray
    has_taught: float


def make_slot(
    item: Labelled, size: int, box_scale: float, augment: AugmentConfig | None, rng: np.random.Generator
) -> Slot:
    """Crop one labelled picture to `size` pixels; without `augment`, just as the tracker would."""
    box = (item.view or item.box).scaled(box_scale)
    wrong_side = item.wrong_side
    if augment is not None and item.view is None:
        box = jitter_box(box, augment, rng)
        wrong_side = item.joints_px is not None and rng.random() < augment.wrong_side
    mirror = (item.side == "left") != wrong_side
    affine = crop.crop_affine(box, size, mirror)
    image = crop.warp(item.image, affine, size)
    if augment is not None and augment.colour:
        image = cover_patch(vary_colour(image, rng), rng)
    labels = _labels(item, box, affine, size, mirror, with_3d=not wrong_side)
    return Slot(np.ascontiguousarray(image.transpose(2, 0, 1)), **labels)


def _labels(item: Labelled, box: Box, affine: np.ndarray, size: int, mirror: bool, with_3d: bool) -> dict[str, Any]:
    labels = _no_labels(size)
    if item.taught is not None:
        labels |= {"taught_mean": item.taught.mean, "taught_map": item.taught.map, "has_taught": 1.0}
    if item.joints_px is None:
        return labels
    in_crop = crop.apply_affine(affine, item.joints_px)
    labels["joints_crop"] = crop.normalised_from_px(in_crop, size).astype(np.float32)
    labels |= {"has_joints_crop": 1.0, "presence": 1.0, "right": float(mirror == (item.side == "left"))}
    if item.mask is not None:
        labels |= {"mask": _small_mask(item.mask, affine, size), "has_mask": 1.0}
    if item.joints_m is not None and with_3d:
        labels |= _metric_labels(item, box, mirror)
    return labels


def _no_labels(size: int) -> dict[str, Any]:
    nothing = {name: 0.0 for name in Slot._fields if name.startswith("has_")}
    return nothing | {
        "joints_crop": np.zeros((21, 2), np.float32),
        "joints_m": np.zeros((21, 3), np.float32),
        "vertices_m": np.zeros((0, 3), np.float32),
        "rotations": np.tile(np.eye(3, dtype=np.float32), (16, 1, 1)),
        "shape": np.zeros(10, np.float32),
        "mask": np.zeros((size // MASK_STRIDE, size // MASK_STRIDE), np.float32),
        "presence": 0.0,
        "right": 0.0,
        "taught_mean": np.zeros(0, np.float32),
        "taught_map": np.zeros((0, 1, 1), np.float32),
    }


def _small_mask(mask: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """(S/8, S/8) float32: how much of each cell of the crop is hand."""
    whole = cv2.warpAffine(mask, affine, (size, size), flags=cv2.INTER_LINEAR)
    cells = cv2.resize(whole, (size // MASK_STRIDE, size // MASK_STRIDE), interpolation=cv2.INTER_AREA)
    return cells.astype(np.float32) / 255


def _metric_labels(item: Labelled, box: Box, mirror: bool) -> dict[str, Any]:
    """Joints and rotations turned into the crop's own view, of a right hand."""
    upright = Camera(1.0, 1.0, *box.centre_px, 0, 0)  # an unknown camera is taken to look at the box
    view = crop.view_rotation(item.camera or upright, box).astype(np.float32)

    def seen(points_m: np.ndarray) -> np.ndarray:
        points = ((points_m - item.joints_m[skeleton.ROOT]) @ view).astype(np.float32)
        return crop.mirror_points_m(points) if mirror else points

    labels: dict[str, Any] = {"joints_m": seen(item.joints_m), "has_joints_m": float(not item.rough)}
    if item.rough and item.rotations is None:  # fitted parameters stand for what they were fitted to
        labels["has_rough_3d"] = 1.0
    if item.vertices_m is not None:
        labels |= {"vertices_m": seen(item.vertices_m), "has_vertices": 1.0}
    if item.rotations is not None:
        rotations = item.rotations.astype(np.float32).copy()
        rotations[0] = view.T @ rotations[0]
        rotations = crop.mirror_rotations(rotations) if mirror else rotations
        labels |= {"rotations": rotations, "shape": item.shape, "has_parameters": 1.0}
    return labels


def collate(slots: Sequence[Slot]) -> Batch:
    """Stack crops into a batch of tensors; without vertices in any of them the batch's are (B, 0, 3), and so on."""
    columns = dict(zip(Slot._fields, zip(*slots, strict=True), strict=True))
    for name in ("vertices_m", "taught_mean", "taught_map"):
        most = max(columns[name], key=len)
        columns[name] = [values if len(values) else np.zeros_like(most) for values in columns[name]]
    tensors = {name: torch.from_numpy(np.stack([np.asarray(v) for v in column])) for name, column in columns.items()}
    return Batch(tensors.pop("image"), **{name: tensor.float() for name, tensor in tensors.items()})


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
    stretched_photos: tuple[Path, ...] = ()
    """The same of photographs that were not kept in proportion: they teach where joints are, not how they turn."""
    fits: tuple[Path, ...] = ()
    """Files of hands fitted to the photographs (scripts/fit_photos.py): rotations and shapes to learn from."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    """Shards of either that are fetched as training goes on."""
    cut_outs: tuple[Path, ...] = ()
    """Folders of hands cut out of photographs (scripts/cut_out_hands.py), to be pasted onto the backgrounds."""
    backgrounds: tuple[Path, ...] = ()
    """Folders of pictures without hands."""
    false_hands: tuple[Path, ...] = ()
    """Folders of places that a detector took for hands (scripts/mine_false_hands.py)."""
    taught: tuple[Path, ...] = ()
    """Banks of a teacher's features (scripts/cache_teacher.py) of some of the folders above."""
    taught_share: float = 0.6
    """Of the draws from a folder with a bank: cached views; the others are random ones that nobody taught."""
    freihand: Path | None = None
    """FreiHAND's folder; see docs/freihand.md."""
    freihand_versions: tuple[Literal["gs", "hom", "sample", "auto"], ...] = ("gs", "hom", "sample", "auto")
    freihand_boxes: Literal["turned", "gt-keypoints", "centre-130"] = "gt-keypoints"
    """How FreiHAND's hands are boxed before the augmentation: upright by a crop protocol, or turned as the
    tracker turns them."""
    freihand_share: float = 0.5
    synthetic_share: float = 0.6
    background_share: float = 0.08
    """Half of it are the false hands, where there are some. The rest are photographs and cut-outs; shares of
    absent sources go to the others."""
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
        uneven = sorted({stage.batch for stage in self.stages if stage.batch % world})
        if uneven:
            raise ValueError(f"a global batch of {uneven[0]} cannot be shared equally by {world} processes")

    folders = "data.shards, data.photos, data.freihand, data.stream, data.backgrounds"
    """The config's names for where sources come from."""

    def __len__(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def __getitem__(self, step: int) -> Any:
        stage = stage_at(self.stages, step)
        sources = [source.at(step) if isinstance(source, Changing) else source for source in self.sources]
        slots = range(self.rank, stage.batch, self.world)
        return self.collate([self._draw(sources, step, slot, stage.crop_size) for slot in slots])

    def _draw(self, sources: Sequence[Any], step: int, slot: int, size: int) -> Any:
        rng = np.random.default_rng([self.seed, step, slot])
        return self.make(sources[rng.choice(len(sources), p=self.shares)], size, rng)

    def make(self, source: Any, size: int, rng: np.random.Generator) -> Any:
        """One slot of a batch, drawn from `source`, of a stage with this crop size."""
        raise NotImplementedError

    def collate(self, slots: list[Any]) -> Any:
        """The slots as one batch."""
        raise NotImplementedError


class TrainingBatches(StepBatches):
    """Batches of labelled crops."""

    def __init__(
        self, sources: Sequence[tuple[float, Source | Changing]], stages: Sequence[Stage], augment: AugmentConfig,
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
