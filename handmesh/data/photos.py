"""Reading photographs with labelled hands: a folder with `pseudo_labels.json`, and the fixed split of it.

The file is a list of `{file, width, height, hands}`; a hand is `{hand: 'left' | 'right', score,
uv: 21 x 2 pixels, xyz: 21 x 3 metres about the hand's centre}` in keypoint order.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import cv2
import numpy as np

from handmesh import crop
from handmesh.data.fits import Fit, Key
from handmesh.structs import Box, Side

LABEL_FILE = "pseudo_labels.json"
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

Split = Literal["train", "val", "all"]


class PhotoError(ValueError):
    """Labels or a picture that cannot be used; the message names the file and the entry."""


@dataclass(frozen=True, eq=False)
class LabelledHand:
    """One hand that somebody, or another network, marked in a picture."""

    side: Side  # the subject's own hand
    score: float  # 0..1, the labeller's confidence
    joints_px: np.ndarray  # (21, 2) float32
    joints_m: np.ndarray  # (21, 3) float32, about the hand's centre, camera's axes; rough
    fit: Fit | None = None  # the posed hand that explains the joints, where one was found

    def box(self, scale: float = 1.0, turn: bool = True) -> Box:
        """The box around the labelled points; see `Box.around`."""
        return Box.around(self.joints_px, scale=scale, turn=turn)

    def moved(self, affine: np.ndarray) -> LabelledHand:
        """The same hand in the picture that an upright (2, 3) `affine` makes of this one."""
        joints_px = crop.apply_affine(affine, self.joints_px).astype(np.float32)
        return replace(self, joints_px=joints_px, fit=self.fit and self.fit.moved(affine))


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture file and the hands labelled in it; there may be none."""

    path: Path
    width: int
    height: int
    hands: tuple[LabelledHand, ...]

    def load(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB; PhotoError where it does not decode or is not of the labelled size."""
        image = load_picture(self.path)
        if image.shape[:2] != (self.height, self.width):
            found = f"{image.shape[1]}x{image.shape[0]}"
            raise PhotoError(f"{self.path}: the picture is {found}, its labels are for {self.width}x{self.height}")
        return image


def load_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of any picture that OpenCV reads, turned as its EXIF data says."""
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if image is None:
        raise PhotoError(f"{path}: not a picture, or damaged")
    return image


def list_pictures(root: Path | str, split: Split = "all") -> list[Path]:
    """The picture files of a split under `root`, sorted; FileNotFoundError where there are none."""
    _check_split(split)
    found = sorted(path for path in Path(root).rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    chosen = [path for path in found if _belongs(path, split)]
    if not chosen:
        of_split = "" if split == "all" else f" of the split {split!r}"
        raise FileNotFoundError(f"no pictures{of_split} ({', '.join(PICTURE_SUFFIXES)}) under {root}")
    return chosen


def split_of(file: str) -> Literal["train", "val"]:
    """The fixed split: SHA-1 of the base name, as a hexadecimal number, divisible by 10 is 'val'.

    >>> split_of("images/0_IMG_1118.jpg") == split_of("0_IMG_1118.jpg")
    True
    """
    digest = hashlib.sha1(PurePosixPath(file).name.encode(), usedforsecurity=False).hexdigest()
    return "val" if int(digest, 16) % 10 == 0 else "train"


def _belongs(path: Path, split: Split) -> bool:
    return split in ("all", split_of(path.name))


def _check_split(split: str) -> None:
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}; valid: {', '.join(get_args(Split))}")


def read_photos(root: Path | str, split: Split) -> list[Photo]:
    """The labelled pictures of `root`, in the order of its `pseudo_labels.json`.

    Entries whose picture is not there are left out with one warning that counts them. Raises
    FileNotFoundError without a label file or without any picture, and PhotoError naming the
    entry where a label is malformed.
    """
    _check_split(split)
    root = Path(root)
    photos = [_photo(root, k, entry) for k, entry in enumerate(_entries(root / LABEL_FILE))]
    chosen = [photo for photo in photos if _belongs(photo.path, split)]
    present = [photo for photo in chosen if photo.path.is_file()]
    if chosen and not present:
        raise FileNotFoundError(f"none of the {len(chosen)} pictures that {root / LABEL_FILE} names are there")
    if len(present) < len(chosen):
        missing = next(photo.path for photo in chosen if not photo.path.is_file())
        count = len(chosen) - len(present)
        warnings.warn(f"{root}: {count} of {len(chosen)} pictures are missing, first {missing}", stacklevel=2)
    return present


def labelled_folders(root: Path | str) -> list[Path]:
    """`root` if it has a `pseudo_labels.json`, else those of its sub-folders that have one, by name.

    Raises FileNotFoundError where none has.
    """
    root = Path(root)
    folders = [root] if (root / LABEL_FILE).is_file() else sorted(path.parent for path in root.glob(f"*/{LABEL_FILE}"))
    if not folders:
        raise FileNotFoundError(
            f"no {LABEL_FILE} in {root} or in one of its folders: it lists the pictures and their hands"
        )
    return folders


def with_fits(photos: Sequence[Photo], fits: Mapping[Key, Fit]) -> list[Photo]:
    """The photographs, their hands with their fits where there are any."""

    def fitted(photo: Photo) -> Photo:
        hands = (replace(hand, fit=fits.get((photo.path.name, k))) for k, hand in enumerate(photo.hands))
        return replace(photo, hands=tuple(hands))

    return [fitted(photo) for photo in photos]


def _entries(path: Path) -> list[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}: it lists the pictures and their hands")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PhotoError(f"{path}: not JSON ({error})") from None
    if not isinstance(entries, list):
        raise PhotoError(f"{path}: expected a list of entries, got {type(entries).__name__}")
    return entries


def _photo(root: Path, k: int, entry: Any) -> Photo:
    try:
        hands = tuple(read_hand(hand) for hand in entry["hands"])
        return Photo(root / entry["file"], int(entry["width"]), int(entry["height"]), hands)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        name = entry.get("file", "?") if isinstance(entry, dict) else "?"
        raise PhotoError(f"{root / LABEL_FILE}: entry {k} ({name}): {reason}") from None


def read_hand(label: dict[str, Any]) -> LabelledHand:
    """A hand of `pseudo_labels.json`; KeyError, TypeError or ValueError where it is malformed."""
    side = label["hand"]
    if side not in get_args(Side):
        raise ValueError(f"hand must be one of {', '.join(get_args(Side))}, got {side!r}")
    fit = Fit.from_plain(label["fit"]) if "fit" in label else None
    return LabelledHand(side, float(label["score"]), _points(label, "uv", 2), _points(label, "xyz", 3), fit)


def _points(label: dict[str, Any], name: str, width: int) -> np.ndarray:
    points = np.array(label[name], np.float32)
    if points.shape != (21, width) or not np.isfinite(points).all():
        raise ValueError(f"{name} must be 21 x {width} finite numbers, got shape {points.shape}")
    return points
