"""Hands in pictures that each show one right hand: from crop protocol and test-time augmentation to metres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from handmesh.crop import warp
from handmesh.data.protocols import CENTRE_PX, CropProtocol, crop_box
from handmesh.evaluation.predictor import Predictor, each
from handmesh.runtime.lifting import Crop, lift, picture_joints_px
from handmesh.structs import Box, Camera, Hand

TTA_SPREAD_RAD = np.radians(30.0)
"""Test-time augmentation turns the crops by up to so much either way."""

MOST_CROPS = 1024
"""Crops held in memory at a time."""

Finder = Callable[[np.ndarray], Box | None]
"""(H, W, 3) uint8 RGB to the tight box of the one hand in it."""


@dataclass(frozen=True)
class Looks:
    """How a picture is looked at. All of it belongs to a figure."""

    crop: CropProtocol = "gt-keypoints"
    """Where the crop is taken: an upright square around the labelled keypoints, the 130 pixels in
    the picture's middle, or where the tracker's detector finds the hand."""
    passes: int = 1
    """Looks at each hand. Every further one is at a turned box around the joints of the one before,
    as the tracker does; it needs no labels."""
    tta: int = 1
    """Test-time augmentation: so many crops, turned evenly between -30 and 30 degrees, whose
    meshes are averaged in the camera's frame; 1 is none. There is no mirrored crop: the network knows right hands
    only, and the mirror image of a mirrored crop is the crop itself."""

    def __post_init__(self) -> None:
        for name in ("passes", "tta"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def described(self, box_scale: float) -> dict[str, str]:
        """Protocol and augmentation in words."""
        where = {
            "gt-keypoints": f"upright square around the labelled keypoints x {box_scale:g}",
            "centre-130": f"the {CENTRE_PX:.0f} pixels in the picture's middle",
            "detected": f"the bundled detector's box x {box_scale:g}; where it finds none, as centre-130",
        }[self.crop]
        name = self.crop if self.passes == 1 else f"{self.crop}, {self.passes} passes"
        again = "" if self.passes == 1 else "; every further pass turned, around the joints of the one before"
        turns = f"{self.tta} crops turned by up to 30 degrees, meshes averaged" if self.tta > 1 else "none"
        return {"crop protocol": f"{name}: {where}{again}", "test-time augmentation": turns}


class View(NamedTuple):
    """A picture, its camera, and the labelled joints where the crop protocol wants them."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    camera: Camera
    joints_px: np.ndarray | None = None  # (21, 2)


class Seen(NamedTuple):
    """What was made of one picture."""

    hand: Hand | None  # None: the network's numbers are no hand
    located: bool  # whether the crop protocol found a place of its own


class Reader:
    """A network with a way of looking: pictures in, one right hand each out, in the camera's frame."""

    def __init__(self, predictor: Predictor, looks: Looks, find: Finder | None = None) -> None:
        """find: for the protocol 'detected', and only for it."""
        if (looks.crop == "detected") != (find is not None):
            raise ValueError("a finder belongs to the crop protocol 'detected', and to no other")
        self._predictor, self._looks, self._find = predictor, looks, find
        count = looks.tta
        self._turns = np.linspace(-TTA_SPREAD_RAD, TTA_SPREAD_RAD, count).tolist() if count > 1 else [0.0]

    def read(self, views: Sequence[View], batch: int) -> list[Seen]:
        """The hand in each picture. batch: crops that the network takes at a time."""
        step = max(1, MOST_CROPS // len(self._turns))
        return [seen for k in range(0, len(views), step) for seen in self._read(views[k : k + step], batch)]

    @property
    def num_vertices(self) -> int:
        """Vertices of the meshes that it gives."""
        return self._predictor.num_vertices

    def _read(self, views: Sequence[View], batch: int) -> list[Seen]:
        first = [self._box(view) for view in views]
        boxes = [box for box, _ in first]
        for _ in range(self._looks.passes - 1):
            boxes = self._boxes_around_joints(views, boxes, batch)
        hands = self._look(views, boxes, batch)
        return [Seen(hand, located) for hand, (_, located) in zip(hands, first, strict=True)]

    def _box(self, view: View) -> tuple[Box, bool]:
        """Where to take the crop, and whether the protocol found it there."""
        scale, (height, width) = self._predictor.box_scale, view.image.shape[:2]
        if self._find is None:
            return crop_box(self._looks.crop, view.joints_px, width, height, scale), True
        box = self._find(view.image)
        if box is None:
            return crop_box("centre-130", None, width, height, scale), False
        return box.scaled(scale), True

    def _boxes_around_joints(self, views: Sequence[View], boxes: Sequence[Box], batch: int) -> list[Box]:
        crops = [self._crop(box) for box in boxes]
        outputs = each(self._predictor(self._pixels(views, crops), batch))
        return [
            Box.around(picture_joints_px(one, crop), self._predictor.box_scale)
            for one, crop in zip(outputs, crops, strict=True)
        ]

    def _look(self, views: Sequence[View], boxes: Sequence[Box], batch: int) -> list[Hand | None]:
        """The mean over the turned crops of what is seen in each box."""
        crops = [self._crop(replace(box, angle_rad=box.angle_rad + turn)) for box in boxes for turn in self._turns]
        turned = [view for view in views for _ in self._turns]
        outputs = each(self._predictor(self._pixels(turned, crops), batch))
        hands = [
            lift(one, crop, view.camera, self._predictor.faces)
            for one, crop, view in zip(outputs, crops, turned, strict=True)
        ]
        return [mean_hand(hands[k : k + len(self._turns)]) for k in range(0, len(hands), len(self._turns))]

    def _crop(self, box: Box) -> Crop:
        return Crop(box, "right", self._predictor.crop_size)

    def _pixels(self, views: Sequence[View], crops: Sequence[Crop]) -> np.ndarray:
        return np.stack([warp(view.image, crop.affine, crop.size) for view, crop in zip(views, crops, strict=True)])


def mean_hand(hands: Sequence[Hand | None]) -> Hand | None:
    """The first hand with the mean vertices, joints and score of all that are there; None where none is.

    Its pose and shape stay the first one's own.
    """
    there = [hand for hand in hands if hand is not None]
    if len(there) < 2:
        return there[0] if there else None
    names = ("vertices_m", "joints_m", "joints_px")
    means = {name: np.mean([getattr(hand, name) for hand in there], axis=0) for name in names}
    return replace(there[0], **means, score=float(np.mean([hand.score for hand in there])))


def with_bone_length(hand: Hand, length_m: float, bone: tuple[int, int]) -> Hand:
    """The hand made larger or smaller about the camera, so that the bone between two joints has that length.

    It looks the same from the camera: the hand is as much farther away as it is larger.
    """
    ratio = length_m / float(np.linalg.norm(hand.joints_m[bone[1]] - hand.joints_m[bone[0]]))
    return hand.scaled(ratio)
