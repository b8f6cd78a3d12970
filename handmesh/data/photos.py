"""Labelled photographs: a folder with `pseudo_labels.json`, its fixed split, fits of its hands, their surroundings."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np

from handmesh import crop, geometry
from handmesh.files import parsed_json, read_image, visible, write_npz
from handmesh.types import Box, Camera, Side

# Reading photographs with labelled hands: a folder with `pseudo_labels.json`, and the fixed split of it.
#
# The file is a list of `{file, width, height, hands}`; a hand is `{hand: 'left' | 'right', score,
# uv: 21 x 2 pixels, xyz: 21 x 3 metres about the hand's centre}` in keypoint order.


LABEL_FILE = "pseudo_labels.json"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

SAME_HAND = 0.45
"""Labels of one side are of one hand where their joints are on average nearer, as a fraction of the longer box side.

Among the photographs that the bundled weights learnt from, ten such pairs lie 0.04 to 0.38 apart, each of them one hand
labelled twice; the next lies 0.74 apart."""

Split = Literal["train", "val", "all"]


class PhotoError(ValueError):
    """Labels or an image that cannot be used; the message names the file and the entry."""


@dataclass(frozen=True, eq=False)
class LabelledHand:
    """One hand that somebody, or another network, marked in an image."""

    side: Side  # the subject's own hand
    score: float  # 0..1, the labeller's confidence
    joints_px: np.ndarray  # (21, 2) float32
    joints_m: np.ndarray  # (21, 3) float32, about the hand's centre, camera's axes; weak 3D
    fit: Fit | None = None  # the posed hand that explains the joints, where one was found

    def box(self, scale: float = 1.0, rotation: bool = True) -> Box:
        """The box around the labelled points; see `Box.around`."""
        return Box.around(self.joints_px, scale=scale, rotation=rotation)

    def moved(self, affine: np.ndarray) -> LabelledHand:
        """The same hand in the image that an upright (2, 3) `affine` makes of this one."""
        joints_px = geometry.apply_affine(affine, self.joints_px).astype(np.float32)
        return replace(self, joints_px=joints_px, fit=self.fit and self.fit.moved(affine))


@dataclass(frozen=True, eq=False)
class Photo:
    """An image file and the hands labelled in it; there may be none."""

    path: Path
    width: int
    height: int
    hands: tuple[LabelledHand, ...]

    def load(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB; ImageError where it does not decode, PhotoError where it is not of the labelled size."""
        image = read_image(self.path)
        if image.shape[:2] != (self.height, self.width):
            found = f"{image.shape[1]}x{image.shape[0]}"
            raise PhotoError(f"{self.path}: the image is {found}, its labels are for {self.width}x{self.height}")
        return image


def list_images(root: Path | str, split: Split = "all") -> list[Path]:
    """The image files of a split under `root`, sorted; FileNotFoundError where there are none."""
    _check_split(split)
    found = visible(path for path in Path(root).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    chosen = [path for path in found if _belongs(path, split)]
    if not chosen:
        of_split = "" if split == "all" else f" of the split {split!r}"
        raise FileNotFoundError(f"no images{of_split} ({', '.join(IMAGE_SUFFIXES)}) under {root}")
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
    """The labelled images of `root`, in the order of its `pseudo_labels.json`; a hand labelled twice counts once.

    Entries whose image is not there are left out with one warning that counts them. Raises
    FileNotFoundError without a label file or without any image, and PhotoError naming the
    entry where a label is malformed.
    """
    _check_split(split)
    root = Path(root)
    photos = [_photo(root, k, entry) for k, entry in enumerate(_entries(root / LABEL_FILE))]
    chosen = [photo for photo in photos if _belongs(photo.path, split)]
    present = [photo for photo in chosen if photo.path.is_file()]
    if chosen and not present:
        raise FileNotFoundError(f"none of the {len(chosen)} images that {root / LABEL_FILE} names are there")
    if len(present) < len(chosen):
        missing = next(photo.path for photo in chosen if not photo.path.is_file())
        count = len(chosen) - len(present)
        warnings.warn(f"{root}: {count} of {len(chosen)} images are missing, first {missing}", stacklevel=2)
    return present


def labelled_folders(root: Path | str) -> list[Path]:
    """`root` if it has a `pseudo_labels.json`, else those of its sub-folders that have one, by name.

    Raises FileNotFoundError where none has.
    """
    root = Path(root)
    folders = [root] if (root / LABEL_FILE).is_file() else sorted(path.parent for path in root.glob(f"*/{LABEL_FILE}"))
    if not folders:
        raise FileNotFoundError(
            f"no {LABEL_FILE} in {root} or in one of its folders: it lists the images and their hands"
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
        raise FileNotFoundError(f"no {path.name} in {path.parent}: it lists the images and their hands")
    try:
        entries = parsed_json(path.read_bytes(), path)
    except ValueError as error:
        raise PhotoError(str(error)) from None
    if not isinstance(entries, list):
        raise PhotoError(f"{path}: expected a list of entries, got {type(entries).__name__}")
    return entries


def _photo(root: Path, k: int, entry: Any) -> Photo:
    try:
        hands = _each_once([read_hand(hand) for hand in entry["hands"]])
        return Photo(root / entry["file"], int(entry["width"]), int(entry["height"]), hands)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        name = entry.get("file", "?") if isinstance(entry, dict) else "?"
        raise PhotoError(f"{root / LABEL_FILE}: entry {k} ({name}): {reason}") from None


def _each_once(hands: Sequence[LabelledHand]) -> tuple[LabelledHand, ...]:
    """Without second labels of one hand, of which the surest stays: landmark networks may follow a hand twice."""
    surest_first = sorted(range(len(hands)), key=lambda k: -hands[k].score)
    kept: list[int] = []
    for k in surest_first:
        if not any(_is_same(hands[k], hands[other]) for other in kept):
            kept.append(k)
    return tuple(hands[k] for k in sorted(kept))


def _is_same(hand: LabelledHand, other: LabelledHand) -> bool:
    """Whether two labels of one side lie on one another, by the mean distance of their joints."""
    apart_px = float(np.linalg.norm(hand.joints_px - other.joints_px, axis=1).mean())
    longer_px = max(one.box(rotation=False).size_px for one in (hand, other))
    return hand.side == other.side and apart_px < SAME_HAND * longer_px


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


# Hands posed to agree with their labels (`handmesh data fit-photos`): their file, and the labels that they become.


@dataclass(frozen=True, eq=False)
class Fit:
    """A posed hand that explains a label. A left hand's rotations are the mirrored ones, as in `Hand.pose`."""

    rotations: np.ndarray  # (16, 3, 3) float32, the first to the camera
    shape: np.ndarray  # (10,) float32
    joints_m: np.ndarray  # (21, 3) float32, in the camera's frame
    translation_m: np.ndarray  # (3,) float32, from the posed model (mirrored for a left hand) to the camera's frame
    weak_3d_m: float  # mean distance to the weak 3D joints, moved and scaled
    residual: float  # mean 2D distance to the label, as a fraction of the longer box side
    accepted: bool  # whether it is good enough to learn from
    camera: Camera  # that the image is taken to be by

    def as_plain(self) -> dict[str, Any]:
        """Numbers and lists of them, for JSON."""
        plain = {name: np.asarray(getattr(self, name)).tolist() for name in _COLUMNS}
        return plain | {"camera": astuple(self.camera)}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Fit:
        """The inverse of `as_plain`."""
        arrays = (np.array(plain[name], np.float32) for name in _COLUMNS[:4])
        return Fit(*arrays, *(plain[name] for name in _COLUMNS[4:]), Camera(*plain["camera"]))

    def moved(self, affine: np.ndarray) -> Fit:
        """The same hand in the image that an upright (2, 3) `affine` makes; the camera's size is left open."""
        scale, camera = float(affine[0, 0]), self.camera
        cx, cy = geometry.apply_affine(affine, np.array([camera.cx, camera.cy])).tolist()
        return replace(self, camera=Camera(camera.fx * scale, camera.fy * scale, cx, cy, 0, 0))


Key = tuple[str, int]
"""A labelled hand: the base name of its image, and its index among the hands of that image."""

_COLUMNS = ("rotations", "shape", "joints_m", "translation_m", "weak_3d_m", "residual", "accepted")


def write_fits(path: Path, fits: Mapping[Key, Fit]) -> None:
    """Write fits to an .npz file; an existing one is replaced last."""
    names, indices = zip(*fits, strict=True) if fits else ((), ())
    columns = {name: np.array([getattr(fit, name) for fit in fits.values()]) for name in _COLUMNS}
    columns["camera"] = np.array([astuple(fit.camera) for fit in fits.values()])
    keys = {"image": np.array(names, np.str_), "index": np.array(indices, np.int64)}
    write_npz(path, compressed=True, **keys, **columns)


def read_accepted(paths: Iterable[Path]) -> dict[Key, Fit]:
    """The accepted ones of `read_fits`."""
    return {key: fit for key, fit in read_fits(paths).items() if fit.accepted}


def read_fits(paths: Iterable[Path]) -> dict[Key, Fit]:
    """The fits of several files; ValueError where one is no such file or two speak of the same hand."""
    found: dict[Key, Fit] = {}
    for path in paths:
        fits = _read(path)
        if twice := found.keys() & fits.keys():
            raise ValueError(f"{path}: an earlier file already has a fit of {min(twice)}; name each image's once")
        found |= fits
    return found


def _read(path: Path) -> dict[Key, Fit]:
    if not path.is_file():
        raise FileNotFoundError(f"no fits at {path}: make them with `handmesh data fit-photos`")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is damaged or not a file of fits: make it anew with `handmesh data fit-photos`")
    with np.load(path, allow_pickle=False) as archive:
        if missing := {"image", "index", "camera", *_COLUMNS} - set(archive.files):
            raise ValueError(f"{path} is not a file of fits: it lacks {', '.join(sorted(missing))}")
        table = {name: archive[name] for name in archive.files}
    keys = zip(table["image"].tolist(), table["index"].tolist(), strict=True)
    arrays = zip(*(table[name] for name in _COLUMNS[:4]), strict=True)
    values = zip(*(table[name].tolist() for name in _COLUMNS[4:]), strict=True)
    cameras = (Camera(*row[:4], *map(int, row[4:])) for row in table["camera"].tolist())
    return {key: Fit(*a, *b, camera) for key, a, b, camera in zip(keys, arrays, values, cameras, strict=True)}


# Labelled hands cut from their photographs with what surrounds them, as small compressed images.


MIN_SCORE, MIN_SIDE_PX, OVERHANG = 0.8, 20.0, 0.1
CONTEXT, CONTEXT_PX = 3.0, 216
"""Side of a context over the side of its hand's tight box, and the pixels that it is kept in."""


class Context(NamedTuple):
    """A hand's surroundings, upright, with its label in the pixels of this image."""

    jpeg: np.ndarray  # (N,) uint8
    hand: LabelledHand
    name: str  # for messages: where it comes from

    def image(self) -> np.ndarray:
        """(CONTEXT_PX, CONTEXT_PX, 3) uint8 RGB; PhotoError where it does not decode."""
        image = cv2.imdecode(self.jpeg, cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise PhotoError(f"{self.name}: the image does not decode")
        return image


def contexts_of(photo: Photo) -> list[Context]:
    """The contexts of the usable hands of a photograph."""
    hands = usable_hands(photo)
    image = photo.load() if hands else None
    return [context_of(image, hand, str(photo.path)) for hand in hands]


def usable_hands(photo: Photo) -> list[LabelledHand]:
    """The hands whose label is sure, large enough and mostly inside the image."""
    return [hand for hand in photo.hands if _usable(hand, photo)]


def _usable(hand: LabelledHand, photo: Photo) -> bool:
    low, high = hand.joints_px.min(0), hand.joints_px.max(0)
    size = np.array([photo.width, photo.height])
    inside = (low > -OVERHANG * size).all() and (high < (1 + OVERHANG) * size).all()
    return bool(hand.score >= MIN_SCORE and inside and (high - low).max() >= MIN_SIDE_PX)


def context_of(image: np.ndarray, hand: LabelledHand, name: str) -> Context:
    """The surroundings of a hand in an image (H, W, 3) uint8 RGB, at a fixed size, with its label moved along."""
    box = Box(hand.box().centre_px, hand.box(rotation=False).size_px * CONTEXT)
    affine = crop.crop_affine(box, CONTEXT_PX)
    photo_rgb = crop.warp(image, affine, CONTEXT_PX)
    _, jpeg = cv2.imencode(".jpg", photo_rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return Context(jpeg, hand.moved(affine), name)
