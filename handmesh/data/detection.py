"""What the detector should say of a scene, as maps, and endless batches of it.

A cell of the maps is `STRIDE` pixels wide. Each hand raises a bump on the `heat` map around its
box's centre and tells the cells near it where the centre lies, how large the box is, how it is
turned and whose side it is (the scheme of CenterNet: Zhou et al., Objects as Points, 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from handmesh.data.augment import vary_colour
from handmesh.data.scene_teacher import SceneTeacher
from handmesh.data.scenes import ENOUGH, HARDLY, MIN_SIZE_PX, Scene, SceneHand, SceneSource, Size
from handmesh.data.training_crops import Stage, StepBatches
from handmesh.detection import STRIDE

_SPREAD, _LEAST_SPREAD = 0.1, 0.7
"""Standard deviation of a bump: this share of the box's side, but at least so many cells."""
_NEAR = 0.45
"""Cells with at least this much heat are told about the hand."""


class DetectionBatch(NamedTuple):
    """B pictures with their maps, h = H / STRIDE, w = W / STRIDE."""

    image: Tensor  # (B, 3, H, W) uint8 RGB
    heat: Tensor  # (B, h, w) 1 in the cell of a hand's centre, falling off around it
    sure: Tensor  # (B, h, w) 1 where `heat` is known, 0 where a hand may be unlabelled
    near: Tensor  # (B, h, w) weight of the labels below: the heat close to a centre, else 0
    offset: Tensor  # (B, 2, h, w) from the cell's centre to the box's, cells
    log_size: Tensor  # (B, h, w) logarithm of the box's side in cells
    direction: Tensor  # (B, 2, h, w) cosine and sine of the box's angle
    right: Tensor  # (B, h, w) 1 for the subject's own right hand
    taught: tuple[Tensor, ...] = ()  # (K, C, h', w') each: what a teacher says of the first K; see `SceneTeacher`


def input_size(width: int) -> Size:
    """The size of the pictures whose width is given: 4 by 3, rounded to the network's coarsest stride."""
    return Size(width, max(32, round(width * 0.75 / 32) * 32))


def encode(scene: Scene) -> dict[str, np.ndarray]:
    """The maps of one scene, float32; see `DetectionBatch`, without its first axis."""
    height, width = scene.image.shape[0] // STRIDE, scene.image.shape[1] // STRIDE
    maps = {name: np.zeros((height, width), np.float32) for name in ("heat", "near", "log_size", "right")}
    maps |= {name: np.zeros((2, height, width), np.float32) for name in ("offset", "direction")}
    maps["sure"] = np.ones((height, width), np.float32)
    for polygon in scene.unsure:
        _fill(maps["sure"], polygon, 0.0)
    for hand in scene.hands:
        if not _counts(hand, scene) and hand.in_sight.mean() > HARDLY:
            _fill(maps["sure"], hand.box.scaled(1.2).corners_px(), 0.0)
    labelled = [hand for hand in scene.hands if _counts(hand, scene)]
    for hand in labelled:
        _fill(maps["sure"], hand.box.scaled(1.2).corners_px(), 1.0)
    for hand in sorted(labelled, key=lambda hand: -hand.box.size_px):
        _raise_bump(maps, hand)
    return maps


def _counts(hand: SceneHand, scene: Scene) -> bool:
    (x, y), (height, width) = hand.box.centre_px, scene.image.shape[:2]
    centred = -0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5
    return bool(centred and hand.in_sight.mean() >= ENOUGH and hand.box.size_px >= MIN_SIZE_PX)


def _fill(mask: np.ndarray, polygon_px: np.ndarray, value: float) -> None:
    cells = (polygon_px + 0.5) / STRIDE - 0.5
    cv2.fillConvexPoly(mask, np.round(cells).astype(np.int32), value)


def _raise_bump(maps: dict[str, np.ndarray], hand: SceneHand) -> None:
    box = hand.box
    x, y = ((c + 0.5) / STRIDE - 0.5 for c in box.centre_px)
    rows, columns = np.mgrid[: maps["heat"].shape[0], : maps["heat"].shape[1]]
    spread = max(_LEAST_SPREAD, _SPREAD * box.size_px / STRIDE)
    bump = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * spread**2)).astype(np.float32)
    row = min(max(round(y), 0), bump.shape[0] - 1)
    bump[row, min(max(round(x), 0), bump.shape[1] - 1)] = 1.0
    own = (bump >= _NEAR) & (bump >= maps["near"])
    maps["heat"] = np.maximum(maps["heat"], bump)
    maps["near"][own] = bump[own]
    maps["offset"][:, own] = np.stack([x - columns, y - rows])[:, own]
    maps["log_size"][own] = np.log(box.size_px / STRIDE)
    maps["direction"][:, own] = np.array([[np.cos(box.angle_rad)], [np.sin(box.angle_rad)]])
    maps["right"][own] = hand.side == "right"


def collate(scenes: Sequence[Scene], teacher: SceneTeacher | None = None) -> DetectionBatch:
    """Scenes of one size as a batch, with what a teacher says of them."""
    maps = [encode(scene) for scene in scenes]
    stacked = {name: torch.from_numpy(np.stack([each[name] for each in maps])) for name in maps[0]}
    images = np.stack([scene.image.transpose(2, 0, 1) for scene in scenes])
    taught = tuple(map(torch.from_numpy, teacher(images))) if teacher else ()
    return DetectionBatch(image=torch.from_numpy(images), taught=taught, **stacked)


class DetectionBatches(StepBatches):
    """Batches of labelled scenes; a stage's crop size is the width of its pictures."""

    folders = "data.sprites, data.hand_photos, data.people_photos, data.backgrounds"

    def __init__(
        self, sources: Sequence[tuple[float, SceneSource]], stages: Sequence[Stage], colour: bool = True,
        seed: int = 0, rank: int = 0, world: int = 1, teacher: SceneTeacher | None = None,
    ) -> None:  # fmt: skip
        super().__init__(sources, stages, seed, rank, world)
        self.colour, self.teacher = colour, teacher

    def make(self, source: SceneSource, size: int, rng: np.random.Generator) -> Scene:
        scene = source.draw(input_size(size), rng)
        return replace(scene, image=vary_colour(scene.image, rng)) if self.colour else scene

    def collate(self, slots: list[Scene]) -> DetectionBatch:
        return collate(slots, self.teacher)
