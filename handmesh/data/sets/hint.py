"""HInt (Pavlakos et al., Reconstructing Hands in 3D with Transformers, CVPR 2024; arXiv:2312.05251), to measure with.

Photographs and video frames of New Days, EPIC-KITCHENS VISOR and Ego4D, with 21 points of one hand in each, in two
dimensions: which exist (are in the image) and which are hidden. A folder for each split and origin holds pairs of one
name, `.jpg` and `.json`; the name ends in `_l` or `_r`, the subject's own hand. Source: https://github.com/ddshan/hint.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from handmesh.data.sets.table import HandSet, HandTable, SetError, cached_table, check_numbers, with_bar
from handmesh.files import ImageError, open_image, parsed_json, visible

FOLDERS = (
    "TEST_newdays_img", "TEST_epick_img", "TEST_ego4d_img", "TEST_ego4d_seq", "VAL_newdays_img", "VAL_epick_img",
    "VAL_ego4d_img", "VAL_ego4d_seq",
)  # fmt: skip
"""What can be measured on; HInt's TRAIN_ folders are no part of this."""

_SHAPES = {"keypoints": (21, 2), "existence": (21,), "occlusion": (21,)}


def read_hint(root: Path, folder: str) -> HandTable:
    """The labelled hands of one of `FOLDERS`, by name; those without an image are left out.

    `visible` says which joints exist and are not hidden; hidden ones have their labelled position, too.
    """
    path = root / folder
    labels = visible(path.glob("*.json")) if path.is_dir() else []
    if not labels:
        raise SetError(f"{root} has no labels in {folder}/; {HINT.help()}")
    table = partial(HandTable, f"HInt {folder}", root)
    return cached_table(table, root, f"hint_{folder}", [path], partial(_columns, root, folder, labels))


def _columns(root: Path, folder: str, labels: list[Path]) -> dict[str, np.ndarray]:
    shown = [path for path in labels if path.with_suffix(".jpg").is_file()]
    if not shown:
        raise SetError(
            f"{root / folder} holds {len(labels):,} labels and none of their images: Ego4D's are not in the archive, "
            "see https://github.com/ddshan/hint on how to get them"
        )
    hands = [_hand(path) for path in with_bar(shown, f"HInt {folder}")]
    exists = np.array([hand["existence"] for hand in hands]) > 0.5
    hidden = np.array([hand["occlusion"] for hand in hands]) > 0.5
    points = np.array([hand["keypoints"] for hand in hands])
    return {
        "images": np.array([f"{folder}/{path.stem}.jpg" for path in shown], np.bytes_),
        "left": np.array([path.stem.endswith("_l") for path in shown], bool),
        "joints_px": np.where(exists[..., None], points, np.nan).astype(np.float32),
        "joints_m": np.full((len(shown), 21, 3), np.nan, np.float32),
        "camera": np.array([[np.nan] * 4 + _size(path.with_suffix(".jpg")) for path in shown], np.float32),
        "visible": exists & ~hidden,
        "box": np.array([hand["bbox"] for hand in hands], np.float32),
    }


def _size(path: Path) -> list[int]:
    """Width and height of an image, which is not decoded for it."""
    try:
        with open_image(path) as file:
            return list(file.size)
    except ImageError as error:
        raise SetError(f"{error}: unpack HInt again") from None


def _hand(path: Path) -> dict[str, np.ndarray]:
    """The one labelled hand of a file."""
    if not path.stem.endswith(("_l", "_r")):
        raise SetError(f"{path}: HInt's names end in _l or _r, which says the hand's side")
    try:
        content: Any = parsed_json(path.read_bytes(), path)
        label = {name: np.array(content[0][name], np.float64) for name in (*_SHAPES, "bbox")}
        label["bbox"] = label["bbox"].reshape(-1)[:4]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise SetError(f"{path} is no label of HInt's ({error}): unpack it again") from None
    check_numbers(path, label, _SHAPES | {"bbox": (4,)})
    return label


HINT = HandSet(
    title="HInt",
    page="https://github.com/ddshan/hint",
    licence="labels: MIT; images: VISOR's CC BY-NC 4.0, New Days' as Hands23 has them; Ego4D's need a signed agreement",
    labels="21 joints in 2D, which exist and which are hidden; to measure with, not to train on",
    splits=FOLDERS,
    layout="TEST_newdays_img, TEST_epick_img and the like, as HInt_annotation_partial.zip unpacks to",
    read=read_hint,
    trains=False,
)
