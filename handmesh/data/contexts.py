"""Labelled hands cut from their photographs with what surrounds them, as small compressed pictures."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from handmesh import crop
from handmesh.data.photos import LabelledHand, Photo, PhotoError
from handmesh.structs import Box

MIN_SCORE, MIN_SIDE_PX, OVERHANG = 0.8, 20.0, 0.1
CONTEXT, CONTEXT_PX = 3.0, 216
"""Side of a context over the side of its hand's tight box, and the pixels that it is kept in."""


class Context(NamedTuple):
    """A hand's surroundings, upright, with its label in the pixels of this picture."""

    jpeg: np.ndarray  # (N,) uint8
    hand: LabelledHand
    name: str  # for messages: where it comes from

    def image(self) -> np.ndarray:
        """(CONTEXT_PX, CONTEXT_PX, 3) uint8 RGB; PhotoError where it does not decode."""
        image = cv2.imdecode(self.jpeg, cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise PhotoError(f"{self.name}: the picture does not decode")
        return image


def contexts_of(photo: Photo) -> list[Context]:
    """The contexts of the usable hands of a photograph."""
    hands = usable_hands(photo)
    image = photo.load() if hands else None
    return [context_of(image, hand, str(photo.path)) for hand in hands]


def usable_hands(photo: Photo) -> list[LabelledHand]:
    """The hands whose label is sure, large enough and mostly inside the picture."""
    return [hand for hand in photo.hands if _usable(hand, photo)]


def _usable(hand: LabelledHand, photo: Photo) -> bool:
    low, high = hand.joints_px.min(0), hand.joints_px.max(0)
    size = np.array([photo.width, photo.height])
    inside = (low > -OVERHANG * size).all() and (high < (1 + OVERHANG) * size).all()
    return bool(hand.score >= MIN_SCORE and inside and (high - low).max() >= MIN_SIDE_PX)


def context_of(image: np.ndarray, hand: LabelledHand, name: str) -> Context:
    """The surroundings of a hand in a picture (H, W, 3) uint8 RGB, at a fixed size, with its label moved along."""
    box = Box(hand.box().centre_px, hand.box(turn=False).size_px * CONTEXT)
    affine = crop.crop_affine(box, CONTEXT_PX)
    picture = crop.warp(image, affine, CONTEXT_PX)
    _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return Context(jpeg, hand.moved(affine), name)
