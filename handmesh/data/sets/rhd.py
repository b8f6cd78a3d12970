"""The Rendered Handpose Dataset (Zimmermann and Brox, ICCV 2017): rendered people, their two hands in space, masks.

`anno_SPLIT.pickle` holds for each image the camera K and 42 points, the left hand's first: the wrist, then each finger
from its tip to the palm, in metres and the camera's frame, and in pixels with whether they are seen. Masks number the
person (1), the parts of the left hand (2 to 17) and of the right one (18 to 33). Source: the set's README.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from handmesh.data.sets.table import HandSet, HandTable, SetError, cached_table, keypoints_from
from handmesh.files import ImageError, read_quickly
from handmesh.hand.mano import DamagedPickleError, RefusedPickleError, read_pickle
from handmesh.types import Side

LEAST_VISIBLE = 11
"""A hand is left out with fewer of its 21 points in view."""

SIDE_PX = 320  # of every image

_MOST_STEPS = 20_000_000  # of the training split's pickle, which takes some four million

_SHAPES = {"K": (3, 3), "xyz": (42, 3), "uv_vis": (42, 3)}
_ROWS: dict[Side, slice] = {"left": slice(0, 21), "right": slice(21, 42)}
_PARTS: dict[Side, tuple[int, int]] = {"left": (2, 17), "right": (18, 33)}
"""The least and the greatest number in a mask of the parts of a hand."""


def read_rhd(root: Path, split: str) -> HandTable:
    """The hands in `root`/`split`/color, of which most points are in view."""
    path = root / split / f"anno_{split}.pickle"
    if not path.is_file():
        raise SetError(f"{root} lacks {path.relative_to(root)}; {RHD.help()}")
    table = partial(HandTable, f"RHD {split}", root, read_mask=read_mask)
    return cached_table(table, root, f"rhd_{split}", [path], partial(_columns, split, path))


def read_mask(path: Path, side: Side) -> np.ndarray:
    """(H, W) uint8, 255 on the hand of that side; SetError where the file is missing or damaged."""
    try:
        parts = read_quickly(path, "L")
    except ImageError as error:
        raise SetError(f"{error}: unpack RHD again") from None
    return cv2.inRange(parts, *_PARTS[side])


def _columns(split: str, path: Path) -> dict[str, np.ndarray]:
    numbers, K, xyz, uv_vis = _annotations(path)
    hands = []
    for side, part in _ROWS.items():
        points = keypoints_from(uv_vis[:, part], "tips-first")
        visible = points[..., 2] > 0.5
        seen = np.flatnonzero(visible.sum(1) >= LEAST_VISIBLE)
        cameras = np.column_stack([K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2], np.full((len(K), 2), SIDE_PX)])
        files = [[f"{split}/{folder}/{numbers[k]:05d}.png" for k in seen] for folder in ("color", "mask")]
        hands.append({
            "images": np.array(files[0], np.bytes_),
            "left": np.full(len(seen), side == "left"),
            "joints_px": points[seen, :, :2].astype(np.float32),
            "joints_m": keypoints_from(xyz[:, part], "tips-first")[seen].astype(np.float32),
            "camera": cameras[seen].astype(np.float32),
            "ids": numbers[seen],
            "visible": visible[seen],
            "masks": np.array(files[1], np.bytes_),
        })  # fmt: skip
    columns = {name: np.concatenate([hand[name] for hand in hands]) for name in hands[0]}
    order = np.argsort(columns["ids"], kind="stable")
    return {name: values[order] for name, values in columns.items()}


def _annotations(path: Path) -> tuple[np.ndarray, ...]:
    """The (M,) numbers of the images, (M, 3, 3) K, (M, 42, 3) xyz and uv_vis. Nothing that the file says is run."""
    try:
        content: dict[str, Any] = read_pickle(path.read_bytes(), most_steps=_MOST_STEPS)
        numbers = sorted(content, key=int)
        stacked = {name: np.stack([np.asarray(content[k][name], np.float64) for k in numbers]) for name in _SHAPES}
    except (RefusedPickleError, DamagedPickleError, KeyError, TypeError, ValueError) as error:
        raise SetError(f"{path} is not read: {error}; unpack RHD again") from None
    for name, shape in _SHAPES.items():
        if stacked[name].shape[1:] != shape or not np.isfinite(stacked[name]).all():
            raise SetError(f"{path}: {name} must be {shape} finite numbers an image, got {stacked[name].shape[1:]}")
    return np.array(numbers, np.int64), *stacked.values()


RHD = HandSet(
    title="the Rendered Handpose Dataset (RHD)",
    page="https://lmb.informatik.uni-freiburg.de/resources/datasets/RenderedHandposeDataset.en.html",
    licence="research only, no commercial use; no registration",
    labels="21 joints of each hand in 2D and 3D, which of them are seen; masks",
    splits=("training", "evaluation"),
    layout="training/ and evaluation/, each with anno_*.pickle, color/ and mask/",
    read=read_rhd,
)
