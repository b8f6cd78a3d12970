"""Cutout hands: cut from labelled photographs, and kept as a folder of PNG files with a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tyro
from rich.progress import track

from handmesh.data.photos import LabelledHand, Photo, read_photos, usable_hands
from handmesh.files import parsed_json, read_image, write_image, write_json
from handmesh.geometry import apply_affine
from handmesh.skeleton import BONES, KEYPOINTS, WRIST
from handmesh.types import Box, Side

# Cutouts with labelled hands, to be pasted onto backgrounds: a folder of PNG files and a list.
#
# `cutouts.json` is a list of `{file, hands}`; a hand is `{side, joints_px, visible}` with 21 x 2 pixels
# in keypoint order and the fraction of the joints that can be seen, and `joints_m`, 21 x 3 weak 3D metres in
# the camera's axes, where these are known. A cutout of a photograph has an `origin`: the photograph, the
# index among its hands, and the scale and shift from its pixels to the cutout's. The files are RGBA,
# straight alpha.


LIST_FILE = "cutouts.json"


class Origin(NamedTuple):
    """The photograph that a hand was cut out of."""

    photo: str  # base name
    index: int  # among the hands of the photograph
    scale: float
    shift_px: tuple[float, float]

    @property
    def affine(self) -> np.ndarray:
        """(2, 3) from the photograph's pixels to the cutout's."""
        return np.array([[self.scale, 0, self.shift_px[0]], [0, self.scale, self.shift_px[1]]])


@dataclass(frozen=True, eq=False)
class CutoutHand:
    """A hand in a cutout."""

    side: Side  # the subject's own hand
    joints_px: np.ndarray  # (21, 2) float32
    visible: float = 1.0  # fraction of the joints that nothing hides
    joints_m: np.ndarray | None = None  # (21, 3) float32, weak 3D
    origin: Origin | None = None

    def as_plain(self) -> dict:
        plain = {
            "side": self.side,
            "joints_px": np.round(self.joints_px.astype(float), 2).tolist(),
            "visible": round(float(self.visible), 3),
        }
        weak_3d = {} if self.joints_m is None else {"joints_m": np.round(self.joints_m.astype(float), 5).tolist()}
        return plain | weak_3d | ({} if self.origin is None else {"origin": list(self.origin)})

    @staticmethod
    def from_plain(plain: dict) -> CutoutHand:
        """The inverse of `as_plain`."""
        joints_m = np.array(plain["joints_m"], np.float32) if "joints_m" in plain else None
        origin = Origin(*plain["origin"]) if "origin" in plain else None
        return CutoutHand(plain["side"], np.array(plain["joints_px"], np.float32), plain["visible"], joints_m, origin)


@dataclass(frozen=True, eq=False)
class Cutout:
    """A cutout: (H, W, 4) uint8 RGBA with straight alpha, and its hands."""

    rgba: np.ndarray
    hands: tuple[CutoutHand, ...]


class CutoutSet:
    """The cutouts of a folder, decoded on demand."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        path = self.folder / LIST_FILE
        if not path.is_file():
            raise FileNotFoundError(f"no {LIST_FILE} in {folder}: write cutouts with `handmesh data people`")
        self.entries = parsed_json(path.read_bytes(), path)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> Cutout:
        entry = self.entries[i]
        rgba = read_image(self.folder / entry["file"], "RGBA")
        return Cutout(rgba, tuple(map(CutoutHand.from_plain, entry["hands"])))


def write_cutouts(folder: Path | str, cutouts: Iterable[Cutout]) -> int:
    """Write cutouts and their list to `folder`; gives their number. An existing list is replaced last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for k, cutout in enumerate(cutouts):
        file = f"{k:06d}.png"
        write_image(folder / file, cutout.rgba)
        entries.append({"file": file, "hands": [hand.as_plain() for hand in cutout.hands]})
    write_json(folder / LIST_FILE, entries, indent=None)
    return len(entries)


def mirrored_beside(affine: np.ndarray, hand: CutoutHand, rng: np.random.Generator) -> np.ndarray:
    """(2, 3) that lays a cutout as the mirror image of how `affine` lays it, beside it: as its owner's other hand.

    The mirror is a line along the edge of the hand, mostly beside its fingers: the two touch, overlap a little or are a
    little apart.
    """
    joints_px = apply_affine(affine, hand.joints_px)
    wrist, middle = (joints_px[KEYPOINTS.index(name)].astype(float) for name in ("wrist", "middle1"))
    angle = float(np.arctan2(*(middle - wrist)[::-1])) + rng.choice([-1, 1]) * np.pi / 2
    angle = angle + rng.normal(0, 0.5) if rng.random() < 0.8 else rng.uniform(-np.pi, np.pi)
    normal = np.array([np.cos(angle), np.sin(angle)])
    size = float(np.ptp(joints_px, axis=0).max())
    edge = float((joints_px @ normal).max()) + rng.uniform(-0.08, 0.2) * size
    reflection = np.column_stack([np.eye(2) - 2 * np.outer(normal, normal), 2 * edge * normal])
    return reflection @ np.vstack([affine, [0, 0, 1]])


# Cutting labelled hands out of photographs, to paste them elsewhere.


_LARGEST_PX = 256
_SURROUNDINGS = 2.4  # of the hand's upright box: what is looked at
_INSIDE = 0.9  # fraction of the joints that a good cutout holds
_PALM = [KEYPOINTS.index(name) for name in ("wrist", "thumb1", "index1", "middle1", "ring1", "little1")]


def cutouts(photos: Sequence[Photo]) -> Iterator[Cutout]:
    """The usable hands that part from what is behind them, at most 256 pixels wide and high."""
    for photo in photos:
        hands = usable_hands(photo)
        image = photo.load() if hands else None
        for hand in hands:
            cutout = cut_out(*surroundings(image, hand))
            if fraction_inside(cutout) >= _INSIDE:
                yield replace(cutout, hands=(with_origin(cutout.hands[0], photo, hand),))


def with_origin(cut: CutoutHand, photo: Photo, hand: LabelledHand) -> CutoutHand:
    """A hand of a cutout that tells which `hand` of a photograph it is, and where."""
    index = next(k for k, one in enumerate(photo.hands) if one is hand)
    scale = float(np.ptp(cut.joints_px, axis=0).max() / np.ptp(hand.joints_px, axis=0).max())
    x, y = cut.joints_px[WRIST] - scale * hand.joints_px[WRIST]
    return replace(cut, origin=Origin(photo.path.name, index, scale, (float(x), float(y))))


def surroundings(image: np.ndarray, hand: LabelledHand) -> tuple[np.ndarray, LabelledHand]:
    """The part of an image around a hand, and the hand in it."""
    box = Box.around(hand.joints_px, _SURROUNDINGS, rotation=False)
    corners = np.array([box.centre_px]) + np.array([[-0.5], [0.5]]) * box.size_px
    (left, top), (right, bottom) = np.clip(corners, 0, image.shape[1::-1]).astype(int)
    moved = replace(hand, joints_px=hand.joints_px - np.float32([left, top]))
    return np.ascontiguousarray(image[top:bottom, left:right]), moved


def fraction_inside(cutout: Cutout) -> float:
    """The fraction of the first hand's joints that lie on what was cut out."""
    height, width = cutout.rgba.shape[:2]
    x, y = np.round(cutout.hands[0].joints_px).astype(int).T
    return float((cutout.rgba[y.clip(0, height - 1), x.clip(0, width - 1), 3] > 127).mean())


def cut_out(image: np.ndarray, hand: LabelledHand) -> Cutout:
    """One hand with its arm, cut out along its outline.

    GrabCut (Rother et al., 2004) started from the labelled bones: what lies on them is hand, what
    lies near them may be, and the arm is sought from the wrist outwards.
    """
    scale = min(1.0, _LARGEST_PX / max(image.shape[:2]))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    joints = (hand.joints_px + 0.5) * scale - 0.5
    mask = _trimap(image.shape[:2], joints)
    cv2.grabCut(image, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    inside = _main_part(np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8))
    # The outermost pixels are half backdrop: the outline moves inwards by one.
    alpha = cv2.GaussianBlur(cv2.erode(inside, np.ones((3, 3), np.uint8)).astype(np.float32), (0, 0), 0.7)
    rgba = np.dstack([image, np.round(alpha * 255).astype(np.uint8)])
    return Cutout(rgba, (CutoutHand(hand.side, joints.astype(np.float32), joints_m=hand.joints_m),))


def _trimap(size: tuple[int, int], joints: np.ndarray) -> np.ndarray:
    side = max(float(np.ptp(joints, axis=0).max()), 8.0)
    points = np.round(joints).astype(np.int32)
    arm = joints[WRIST] + (joints[WRIST] - joints[_PALM[1:]].mean(0)) * 3
    mask = np.full(size, cv2.GC_BGD, np.uint8)
    for width, value in ((0.3, cv2.GC_PR_BGD), (0.13, cv2.GC_PR_FGD), (0.03, cv2.GC_FGD)):
        thickness = max(1, round(width * side))
        if value == cv2.GC_PR_BGD:
            cv2.line(mask, points[WRIST].tolist(), np.round(arm).astype(int).tolist(), value, round(0.7 * side))
        for a, b in BONES:
            cv2.line(mask, points[a].tolist(), points[b].tolist(), value, thickness)
    cv2.fillConvexPoly(mask, cv2.convexHull(points[_PALM]), cv2.GC_FGD)
    return mask


def _main_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a 0/1 mask."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    return (labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8) if len(stats) > 1 else mask


@dataclass(frozen=True)
class CutoutOptions:
    """Cut hands out of labelled photographs, their training split only.

    Hands that do not part well from what is behind them are left out. Both networks' training pastes the
    cutouts onto other backgrounds.
    """

    photos: tyro.conf.Positional[Path]
    """Folder with pseudo_labels.json."""
    output: Path
    """Folder for the images and cutouts.json."""


def run(options: CutoutOptions) -> None:
    """`handmesh data cutouts`: cut, write, and say how many."""
    photos = read_photos(options.photos, "train")
    count = write_cutouts(options.output, cutouts(track(photos, "cutting out")))
    print(f"wrote {count} images to {options.output}")
