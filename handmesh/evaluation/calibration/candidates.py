"""All places that the detector proposes, however unsure: what the mesh network makes of them, and what is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from handmesh import skeleton
from handmesh.data.photos import LabelledHand
from handmesh.evaluation.answers import Picture, camera_of, match, mean_error
from handmesh.evaluation.pictures import opened
from handmesh.runtime.detector import Detector
from handmesh.runtime.estimator import Estimate, Estimator, is_usable
from handmesh.runtime.following import SAME_PLACE, overlap, same_hand
from handmesh.structs import Camera, Hand

PROPOSED = 0.05
"""The detector's score from which a place is looked at: far below the tracker's, to see what is wrong too."""

MOST = 6
"""Places that are looked at in a picture, the surest first."""

ON_HAND = 0.3
"""The overlap with the box of a labelled hand from which a place lies on it."""

PRESENT = 0.5
"""The presence from which the mesh network by itself took a place for a hand."""

_UNKNOWN = dict.fromkeys(("spread_2d", "error_2d", "spread_mm", "error_mm"), np.full(21, np.nan))


class Source(NamedTuple):
    """A data set to look at."""

    name: str
    pictures: Sequence[Picture]
    complete: bool  # all hands are labelled; else only what lies on a labelled one is judged
    exact: bool = False  # `joints_m` of the labels are true, about the root


class Looked(NamedTuple):
    """What was looked at of a data set: numbers of pictures and of labelled hands among those of all sets."""

    name: str
    pictures: range
    hands: range
    files: tuple[str, ...]  # the pictures' names
    unreadable: int


@dataclass(frozen=True, eq=False)
class Candidates:
    """N places in pictures. Errors are means over a joint's coordinates, not a number where they are not known."""

    source: np.ndarray  # (N,) which data set
    picture: np.ndarray  # (N,) which of all pictures
    hand: np.ndarray  # (N,) which of all labelled hands it is, -1 where it is none
    detector: np.ndarray  # (N,) 0..1
    presence: np.ndarray  # (N,) 0..1
    agreement: np.ndarray  # (N,) 0..1, with the side that the tracker would say
    right: np.ndarray  # (N,) bool: a hand, where the mesh says, and no nearer candidate on it
    side_right: np.ndarray  # (N,) bool
    error: np.ndarray  # (N,) mean 2D error from the nearest labelled hand, of its longer box side; infinite without one
    spread_2d: np.ndarray  # (N, 21) expected errors, of the longer side of the labelled box; of right ones
    error_2d: np.ndarray  # (N, 21) true ones
    spread_mm: np.ndarray  # (N, 21) expected errors about the root
    error_mm: np.ndarray  # (N, 21) true ones


_COLUMNS = [f.name for f in fields(Candidates) if f.name != "source"]
_KINDS = {"picture": int, "hand": int, "right": bool, "side_right": bool}
"""What the columns hold that do not hold floats; an empty one would not show it."""


def look(source: Source, detector: Detector, estimator: Estimator) -> dict[str, np.ndarray]:
    """Look at a data set as a tracker does that refuses nothing.

    Gives the columns of `Candidates`, with pictures and hands counted within the set; and `files`,
    `labelled` and `unreadable`: the pictures' names and how many labelled hands and bad files there are.
    """
    rows: list[dict[str, object]] = []
    files, unreadable, labelled = [], [], 0
    for picture, image in opened(source.pictures, source.name, unreadable):
        found = list(_estimates(image, camera_of(picture, image), detector, estimator))
        for row in _judged(picture.hands, found, source):
            row["hand"] += labelled if row["right"] else 0
            rows.append({"picture": len(files)} | row)
        files.append(picture.name)
        labelled += len(picture.hands)
    columns = {name: np.array([row[name] for row in rows], _KINDS.get(name, float)) for name in _COLUMNS}
    columns |= {name: columns[name].reshape(len(rows), 21) for name in _UNKNOWN}
    counts = {"labelled": np.array(labelled), "unreadable": np.array(len(unreadable))}
    return columns | {"files": np.array(files, str)} | counts


def joined(names: Sequence[str], seen: Sequence[Mapping[str, np.ndarray]]) -> tuple[list[Looked], Candidates]:
    """Data sets as one, from what `look` gave of each; ValueError where the detector proposed nothing anywhere."""
    pictures = np.cumsum([0, *(len(one["files"]) for one in seen)]).tolist()
    hands = np.cumsum([0, *(int(one["labelled"]) for one in seen)]).tolist()
    columns = {name: np.concatenate([one[name] for one in seen]) for name in _COLUMNS}
    source = np.repeat(np.arange(len(seen)), [len(one["right"]) for one in seen])
    if not len(source):
        raise ValueError(f"the detector proposed no place in {pictures[-1]} pictures: nothing to calibrate on")
    columns["picture"] += np.array(pictures)[source]
    columns["hand"] += np.where(columns["hand"] >= 0, np.array(hands)[source], 0)
    looked = [
        Looked(name, range(*pictures[k : k + 2]), range(*hands[k : k + 2]), tuple(one["files"]), int(one["unreadable"]))
        for k, (name, one) in enumerate(zip(names, seen, strict=True))
    ]
    return looked, Candidates(source, **columns)


def _estimates(
    image: np.ndarray, camera: Camera, detector: Detector, estimator: Estimator
) -> Iterator[tuple[float, Estimate]]:
    """The detector's score and the estimate of each place; places on what the mesh network took for a hand are done."""
    hands: list[Estimate] = []
    for detection in detector.detect(image, PROPOSED)[:MOST]:
        box = detection.box
        if not is_usable(box, image) or any(overlap(box, hand.box) > SAME_PLACE for hand in hands):
            continue
        estimate = estimator.estimate_afresh(image, camera, detection)
        if estimate is not None and not any(same_hand(estimate, hand) for hand in hands):
            if estimate.presence >= PRESENT:
                hands.append(estimate)
            yield detection.score, estimate


def _judged(
    labels: Sequence[LabelledHand], found: Sequence[tuple[float, Estimate]], source: Source
) -> Iterator[dict[str, object]]:
    """What is known of the estimates in a picture; nothing of those where nobody knows whether there is a hand.

    Of several on one labelled hand the nearest is right: the others are hands too many.
    """
    answers = match([estimate.hand for _, estimate in found], labels).of_labels
    for score, estimate in found:
        hand = next((k for k, answer in enumerate(answers) if answer.hand is estimate.hand), -1)
        on_hand = any(overlap(estimate.box, label.box(turn=False)) >= ON_HAND for label in labels)
        if hand < 0 and not (on_hand or source.complete):
            continue
        yield {
            "hand": hand,
            "detector": score,
            "presence": estimate.presence,
            "agreement": estimate.agreement,
            "right": hand >= 0,
            "side_right": hand >= 0 and answers[hand].side_right,
            "error": min((mean_error(estimate.hand, label) for label in labels), default=np.inf),
        } | (_spreads(estimate.hand, labels[hand], source.exact) if hand >= 0 else _UNKNOWN)


def _spreads(hand: Hand, label: LabelledHand, exact: bool) -> dict[str, np.ndarray]:
    """Expected and true errors of a right hand; those in space only where the labels are exact."""
    if hand.joints_spread_px is None or hand.joints_spread_m is None:
        return _UNKNOWN
    side_px = np.ptp(label.joints_px, axis=0).max()
    found = {
        "spread_2d": hand.joints_spread_px / side_px,
        "error_2d": np.abs(hand.joints_px - label.joints_px).mean(-1) / side_px,
    }
    if exact:
        joints_m = hand.joints_m - hand.joints_m[skeleton.ROOT]
        found |= {
            "spread_mm": 1000 * hand.joints_spread_m,
            "error_mm": 1000 * np.abs(joints_m - label.joints_m).mean(-1),
        }
    return _UNKNOWN | found
