"""What the product says of pictures with labelled hands: told where they are, or left to find them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from handmesh.data.photos import LabelledHand
from handmesh.metrics import errors_2d
from handmesh.runtime.estimator import Estimator
from handmesh.runtime.following import Rules
from handmesh.runtime.tracker import HandTracker
from handmesh.structs import Camera, Hand

FOUND_WITHIN = 0.5
"""A predicted hand is the labelled one if its mean 2D error is at most this share of the longer box side."""

HAND_SCORE = Rules().found_score
"""With given boxes, a hand counts as found from this score on, as in the tracker."""


class Picture(NamedTuple):
    """A picture to be looked at, and the hands known to be in it."""

    name: str
    load: Callable[[], np.ndarray]  # gives (H, W, 3) uint8 RGB
    hands: Sequence[LabelledHand] = ()
    camera: Camera | None = None  # None: unknown


class Answer(NamedTuple):
    """What was said of one labelled hand."""

    hand: Hand | None = None
    found: bool = False
    side_right: bool = False


class Answers(NamedTuple):
    """What was said of one picture."""

    of_labels: list[Answer]
    extra: list[Hand] | None  # hands that nobody labelled; None: not looked for
    time_ms: float = 0.0


Answerer = Callable[[np.ndarray, Picture], Answers]


def camera_of(picture: Picture, image: np.ndarray) -> Camera:
    """The picture's camera; where it is unknown, the one that the tracker assumes."""
    return picture.camera or Camera.from_fov(image.shape[1], image.shape[0])


def with_given_boxes(estimator: Estimator) -> Answerer:
    """Every labelled hand is looked at in the box around its own labelled joints, told which side it is.

    All get an answer, unless the network's numbers are no hand. `found` is what the network
    itself says: a score of at least HAND_SCORE; so is `side_right`.
    """

    def answer_one(image: np.ndarray, camera: Camera, label: LabelledHand) -> Answer:
        estimate = estimator.estimate(image, camera, label.box(), label.side)
        if estimate is None:
            return Answer()
        return Answer(estimate.hand, estimate.hand.score >= HAND_SCORE, estimate.agreement >= 0.5)

    def answer(image: np.ndarray, picture: Picture) -> Answers:
        begin = time.perf_counter()
        camera = camera_of(picture, image)
        of_labels = [answer_one(image, camera, label) for label in picture.hands]
        return Answers(of_labels, None, _ms_since(begin))

    return answer


def with_detected_boxes(tracker: HandTracker) -> Answerer:
    """The whole pipeline on the whole picture; what it finds is then matched to the labels."""

    def answer(image: np.ndarray, picture: Picture) -> Answers:
        begin = time.perf_counter()
        hands = tracker.detect(image, camera_of(picture, image))
        time_ms = _ms_since(begin)
        return match(hands, picture.hands)._replace(time_ms=time_ms)

    return answer


def match(hands: Sequence[Hand], labels: Sequence[LabelledHand]) -> Answers:
    """Pair predicted and labelled hands, the nearest pair first, none farther than FOUND_WITHIN."""
    pairs = sorted((mean_error(hand, label), i, k) for i, label in enumerate(labels) for k, hand in enumerate(hands))
    hand_of: dict[int, int] = {}
    for distance, i, k in pairs:
        if distance <= FOUND_WITHIN and i not in hand_of and k not in hand_of.values():
            hand_of[i] = k
    of_labels = [
        Answer(hands[hand_of[i]], True, hands[hand_of[i]].side == label.side) if i in hand_of else Answer()
        for i, label in enumerate(labels)
    ]
    return Answers(of_labels, [hand for k, hand in enumerate(hands) if k not in hand_of.values()])


def mean_error(hand: Hand, label: LabelledHand) -> float:
    """The mean 2D error, of the longer side of the labelled box."""
    return float(errors_2d(hand.joints_px[None], label.joints_px[None]).mean())


def _ms_since(begin: float) -> float:
    return 1000 * (time.perf_counter() - begin)
