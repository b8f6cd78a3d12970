"""Where training crops are drawn from: shards, labelled photographs, and pictures without hands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import crop
from handmesh.data.photos import LabelledHand, Photo, Split, list_pictures, load_picture, read_photos
from handmesh.data.shards import ShardSet, read_shards
from handmesh.data.training_crops import Labelled, MixConfig, Source
from handmesh.structs import Box

MIN_SCORE, MIN_SIDE_PX, OVERHANG = 0.8, 20.0, 0.1
CONTEXT, CONTEXT_PX = 3.0, 216


def sources_of(mix: MixConfig) -> list[tuple[float, Source]]:
    """(share, source) for everything that `mix` names; photographs share by their number."""
    found: list[tuple[float, Source]] = []
    sets = [read_shards(folder) for folder in mix.shards]
    total = sum(len(shards) for shards in sets)
    found += [(mix.synthetic_share * len(shards) / total, ShardSource(shards)) for shards in sets]
    photos = [read_photos(root, "train") for root in mix.photos]
    share = max(0.0, 1.0 - mix.synthetic_share - mix.background_share) / max(1, len(photos))
    found += [(share, PhotoSource(group)) for group in photos]
    empty = [EmptySource(folder) for folder in mix.backgrounds]
    empty += [AwaySource(group) for group in photos if any(len(photo.hands) >= 2 for photo in group)]
    found += [(mix.background_share / len(empty), source) for source in empty]
    return found


class ShardSource:
    """Synthetic right hands with exact labels."""

    def __init__(self, shards: ShardSet) -> None:
        self.shards = shards
        self.rotations = Rotation.from_rotvec(shards.pose.reshape(-1, 3)).as_matrix().astype(np.float32)
        self.rotations = self.rotations.reshape(-1, 16, 3, 3)

    def __len__(self) -> int:
        return len(self.shards)

    def draw(self, rng: np.random.Generator) -> Labelled:
        return self[int(rng.integers(len(self)))]

    def __getitem__(self, i: int) -> Labelled:
        shards = self.shards
        return Labelled(
            shards.decode(i), Box.around(shards.joints_px[i]), shards.joints_px[i], "right",
            shards.joints_m[i], self.rotations[i], shards.shape[i], shards.camera_of(i),
        )  # fmt: skip


class PhotoSource:
    """Labelled hands of photographs, each kept in memory as a compressed picture of its surroundings."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        self.items = [item for photo in photos for item in _contexts(photo)]
        if not self.items:
            raise ValueError("no usable labelled hand in the photographs (all too small, cut off or of low score)")

    def __len__(self) -> int:
        return len(self.items)

    def draw(self, rng: np.random.Generator) -> Labelled:
        return self[int(rng.integers(len(self)))]

    def __getitem__(self, i: int) -> Labelled:
        jpeg, hand = self.items[i]
        image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)
        return Labelled(image, hand.box(), hand.joints_px, hand.side, hand.joints_m)


def _contexts(photo: Photo) -> list[tuple[np.ndarray, LabelledHand]]:
    hands = [hand for hand in photo.hands if usable(hand, photo)]
    image = photo.load() if hands else None
    return [_context(image, hand) for hand in hands]


def usable(hand: LabelledHand, photo: Photo) -> bool:
    """Whether a label is sure, large enough and mostly inside its picture."""
    low, high = hand.joints_px.min(0), hand.joints_px.max(0)
    size = np.array([photo.width, photo.height])
    inside = (low > -OVERHANG * size).all() and (high < (1 + OVERHANG) * size).all()
    return bool(hand.score >= MIN_SCORE and inside and (high - low).max() >= MIN_SIDE_PX)


def _context(image: np.ndarray, hand: LabelledHand) -> tuple[np.ndarray, LabelledHand]:
    """The hand's surroundings, upright and at a fixed size, with its label moved along."""
    box = Box(hand.box().centre_px, hand.box(turn=False).size_px * CONTEXT)
    affine = crop.crop_affine(box, CONTEXT_PX)
    picture = crop.warp(image, affine, CONTEXT_PX)
    _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    moved = crop.apply_affine(affine, hand.joints_px).astype(np.float32)
    return jpeg, LabelledHand(hand.side, hand.score, moved, hand.joints_m)


class EmptySource:
    """Boxes anywhere in pictures without hands."""

    def __init__(self, folder: Path | str, split: Split = "train") -> None:
        self.paths = list_pictures(folder, split)

    def draw(self, rng: np.random.Generator) -> Labelled:
        image = load_picture(self.paths[int(rng.integers(len(self.paths)))])
        return Labelled(image, _any_box(image, rng))


class AwaySource:
    """Boxes beside the two labelled hands of one person: faces, arms, clothes."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        self.photos = [photo for photo in photos if len(photo.hands) >= 2]

    def draw(self, rng: np.random.Generator) -> Labelled:
        photo = self.photos[int(rng.integers(len(self.photos)))]
        image = photo.load()
        for _ in range(20):
            box = _any_box(image, rng)
            if not any(_near(box, hand.box()) for hand in photo.hands):
                return Labelled(image, box)
        return Labelled(image, Box((0.0, 0.0), 16.0))


def _any_box(image: np.ndarray, rng: np.random.Generator) -> Box:
    """A tight box as a hand might have, anywhere in the picture, at any turn."""
    height, width = image.shape[:2]
    size = math.exp(rng.uniform(math.log(0.08), math.log(0.7))) * min(height, width)
    centre = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
    return Box(centre, size, float(rng.uniform(-math.pi, math.pi)))


def _near(box: Box, other: Box) -> bool:
    distance = math.dist(box.centre_px, other.centre_px)
    return distance < 0.75 * (box.size_px + other.size_px)
