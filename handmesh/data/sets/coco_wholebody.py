"""The hands of COCO-WholeBody (Jin et al., ECCV 2020; arXiv:2007.11858): photographs, labelled in two dimensions alone.

Each person has 21 points of each hand in keypoint order, flat as x, y, v; v is 0 where a point is not labelled, and how
sure it is elsewhere. Nothing is said of which points are hidden. Source: the set's data_format.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from handmesh.data.sets.labels_json import read_labels, without
from handmesh.data.sets.table import HandSet, HandTable, SetError, cached_table, with_bar
from handmesh.types import Side

LEAST_JOINTS = 11
LEAST_SIDE_PX = 20.0
"""A hand is left out with fewer labelled joints, and where the longer side of these is shorter."""

_SIDES: tuple[Side, ...] = ("right", "left")
_UNUSED = ("segmentation", "keypoints", "face_kpts", "foot_kpts", "face_box")


def read_coco_wholebody(root: Path, split: str) -> HandTable:
    """The labelled hands of the photographs of COCO 2017's split, people in the order of the file."""
    path = root / "annotations" / f"coco_wholebody_{split}_v1.0.json"
    folder = next((name for name in (f"{split}2017", f"images/{split}2017") if (root / name).is_dir()), None)
    if not path.is_file() or folder is None:
        lacks = f"{split}2017/" if path.is_file() else path.relative_to(root)
        raise SetError(f"{root} lacks {lacks}; {COCO_WHOLEBODY.help()}")
    table = partial(HandTable, f"COCO-WholeBody {split}", root)
    return cached_table(table, root, f"coco_wholebody_{split}", [path], partial(_columns, split, path, folder))


def _columns(split: str, path: Path, folder: str) -> dict[str, np.ndarray]:
    content = read_labels(path, without(*_UNUSED))
    try:
        people = with_bar(content["annotations"], f"COCO-WholeBody {split}")
        hands = [hand for person in people for hand in _hands(person)]
        images = {image["id"]: image for image in content["images"]}
        return flat_columns(hands, images, folder)
    except (KeyError, TypeError, ValueError) as error:
        raise SetError(f"{path} is not COCO-WholeBody's ({error}): unpack it again") from None


def _hands(person: dict[str, Any]) -> Iterator[tuple[int, Side, list[float], list[float]]]:
    for side in _SIDES:
        if person[f"{side}hand_valid"]:
            yield person["image_id"], side, person[f"{side}hand_kpts"], person[f"{side}hand_box"]


def flat_columns(
    hands: list[tuple[int, Side, list[float], list[float]]], images: dict[int, dict[str, Any]], folder: str
) -> dict[str, np.ndarray]:
    """The columns of a `HandTable` of hands that are labelled as COCO labels points, in two dimensions.

    hands: of each the image's number, the side, 63 numbers (x, y, and 0 where a point is not labelled) and the box as
    left, top, width, height. images: COCO's entries by number. folder: of the images, below the root.
    """
    points = np.array([hand[2] for hand in hands], np.float64).reshape(-1, 21, 3)
    joints_px = np.where(points[..., 2:] > 0, points[..., :2], np.nan)
    boxes = np.array([hand[3] for hand in hands], np.float64).reshape(-1, 4)
    kept = np.flatnonzero(_usable(joints_px))
    of = [images[hands[k][0]] for k in kept]
    unknown = np.full((len(kept), 4), np.nan)
    sizes = np.array([(image["width"], image["height"]) for image in of], np.float64).reshape(-1, 2)
    return {
        "images": np.array([f"{folder}/{image['file_name']}".removeprefix("/") for image in of], np.bytes_),
        "left": np.array([hands[k][1] == "left" for k in kept], bool),
        "joints_px": joints_px[kept].astype(np.float32),
        "joints_m": np.full((len(kept), 21, 3), np.nan, np.float32),
        "camera": np.concatenate([unknown, sizes], axis=1).astype(np.float32),
        "ids": np.array([hands[k][0] for k in kept], np.int64),
        "box": np.concatenate([boxes[kept, :2], boxes[kept, :2] + boxes[kept, 2:]], axis=1).astype(np.float32),
    }


def _usable(joints_px: np.ndarray) -> np.ndarray:
    """(N,) whether enough of (N, 21, 2) joints are labelled, and not all in one place."""
    labelled = np.isfinite(joints_px).all(-1)
    low = np.where(labelled[..., None], joints_px, np.inf).min(1)
    high = np.where(labelled[..., None], joints_px, -np.inf).max(1)
    return (labelled.sum(1) >= LEAST_JOINTS) & ((high - low).max(1) >= LEAST_SIDE_PX)


COCO_WHOLEBODY = HandSet(
    title="COCO-WholeBody",
    page="https://github.com/jin-s13/COCO-WholeBody",
    licence="labels: CC BY-NC 4.0, research only; images: COCO 2017's, each under its own Flickr licence",
    labels="21 joints of each hand in 2D",
    splits=("train", "val"),
    layout="annotations/coco_wholebody_{train,val}_v1.0.json, train2017/ and val2017/",
    read=read_coco_wholebody,
)
