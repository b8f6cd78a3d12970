"""The pictures to be scored on, from each kind of data, and the loop over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.progress import track

from handmesh import skeleton
from handmesh.data.contexts import MIN_SCORE
from handmesh.data.photos import LabelledHand, Photo, PhotoError, load_picture
from handmesh.data.shards import ShardSet, tar_members
from handmesh.evaluation.answers import Answer, Answerer, Answers, Picture
from handmesh.structs import Camera, Hand


class Case(NamedTuple):
    """One labelled hand and what was said of it."""

    picture: Picture
    index: int  # among the hands of the picture
    answer: Answer

    @property
    def label(self) -> LabelledHand:
        """The labelled hand."""
        return self.picture.hands[self.index]


class FalseHand(NamedTuple):
    """A hand that was seen where none is labelled."""

    picture: Picture
    hand: Hand


@dataclass(frozen=True)
class Run:
    """All that was said of a set of pictures."""

    said: list[tuple[Picture, Answers]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  # names of pictures that do not decode

    @property
    def cases(self) -> list[Case]:
        """The labelled hands."""
        return [Case(picture, i, one) for picture, answers in self.said for i, one in enumerate(answers.of_labels)]

    @property
    def false_hands(self) -> list[FalseHand]:
        """The hands that nobody labelled."""
        return [FalseHand(picture, hand) for picture, answers in self.said for hand in answers.extra or ()]


def joined(runs: Sequence[Run]) -> Run:
    """Several runs as one."""
    return Run([one for run in runs for one in run.said], [name for run in runs for name in run.unreadable])


def without_unsure_labels(run: Run) -> Run:
    """The run without labels that score below MIN_SCORE; hands found on those are not extra hands either."""

    def sure(picture: Picture, answers: Answers) -> tuple[Picture, Answers]:
        kept = [i for i, hand in enumerate(picture.hands) if hand.score >= MIN_SCORE]
        hands, of_labels = [picture.hands[i] for i in kept], [answers.of_labels[i] for i in kept]
        return picture._replace(hands=hands), answers._replace(of_labels=of_labels)

    return Run([sure(*one) for one in run.said], run.unreadable)


def _in_grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _with_red_and_blue_swapped(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


RECOLOURINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "in grey": _in_grey,
    "with red and blue swapped": _with_red_and_blue_swapped,
}
"""Pictures without the colour of skin, and with a false one: (H, W, 3) uint8 to the same."""


def recoloured(picture: Picture, recolouring: str) -> Picture:
    """The picture in other colours, one of RECOLOURINGS."""
    return picture._replace(load=lambda: RECOLOURINGS[recolouring](picture.load()))


def from_photos(photos: Iterable[Photo]) -> list[Picture]:
    """Labelled photographs; their cameras are unknown."""
    return [
        Picture(photo.path.name, photo.load, photo.hands, Camera.from_fov(photo.width, photo.height))
        for photo in photos
    ]


def from_files(files: Iterable[Path]) -> list[Picture]:
    """Pictures without any hand."""
    return [Picture(file.name, partial(load_picture, file)) for file in files]


def from_shards(shards: ShardSet) -> list[Picture]:
    """Synthetic right hands with their true cameras; `joints_m` of the labels is about the root."""
    return [
        Picture(str(shards.keys[i]), partial(shards.decode, i), [_synthetic_label(shards, i)], shards.camera_of(i))
        for i in range(len(shards))
    ]


def challenges_of(shards: ShardSet) -> dict[str, str]:
    """What the samples of a hard set are hard by, by the names that `from_shards` gives; empty for other sets."""
    found: dict[str, str] = {}
    for path in shards.files:
        with path.open("rb") as file:
            for key, parts in tar_members(path, ["json"]).items():
                file.seek(parts["json"].offset)
                label = json.loads(file.read(parts["json"].length))
                found |= {key: label["challenge"]} if "challenge" in label else {}
    return found


def _synthetic_label(shards: ShardSet, i: int) -> LabelledHand:
    joints = shards.joints_m[i]
    return LabelledHand("right", 1.0, shards.joints_px[i], joints - joints[skeleton.ROOT])


def ask(answer: Answerer, pictures: Sequence[Picture], what: str = "") -> Run:
    """Ask about every picture, with a progress bar called `what`; those that cannot be read are named."""
    run = Run()
    for picture, image in opened(pictures, what, run.unreadable):
        run.said.append((picture, answer(image, picture)))
    return run


def opened(pictures: Sequence[Picture], what: str, unreadable: list[str]) -> Iterator[tuple[Picture, np.ndarray]]:
    """The pictures with their pixels, one by one; the names of those that cannot be read go to `unreadable`."""
    for picture in track(pictures, what or "evaluating", disable=not what, transient=True):
        try:
            image = picture.load()
        except (PhotoError, OSError):
            unreadable.append(picture.name)
        else:
            yield picture, image
