"""How well a detector finds the labelled hands of photographs, and what else it takes for hands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from handmesh.detection import Detection
from handmesh.structs import Box, Side

FOUND_WITHIN = 0.35
"""A labelled hand is found by a box whose centre is nearer than this share of the labelled box's side."""

LEAST_SCORE = 0.05
"""Detections are collected from this score on, to be counted at any threshold above."""

Detect = Callable[[np.ndarray], list[Detection]]
"""From an (H, W, 3) uint8 RGB picture to its hands with scores from `LEAST_SCORE` on."""


class Match(NamedTuple):
    """One labelled hand and the best detection of it; a score of 0 says that there is none."""

    score: float
    side_right: bool
    angle_deg: float
    centre_error: float  # share of the labelled box's side
    size_ratio: float


class Figures(NamedTuple):
    """Scores at one threshold."""

    threshold: float
    found: float  # share of the labelled hands
    side_right: float  # share of the found ones
    angle_deg: float  # median error
    centre_error: float  # median
    size_ratio: float  # median of found over labelled


def match_hands(detections: Sequence[Detection], labels: Sequence[tuple[Box, Side]]) -> list[Match]:
    """Each labelled hand with the best detection that nothing else took, best detections first."""
    free = list(range(len(labels)))
    matches = [Match(0.0, False, math.nan, math.nan, math.nan)] * len(labels)
    for detection in sorted(detections, key=lambda hand: -hand.score):
        near = [(_centre_error(detection.box, labels[k][0]), k) for k in free]
        error, k = min(near, default=(math.inf, -1))
        if error < FOUND_WITHIN:
            free.remove(k)
            matches[k] = _match(detection, *labels[k], error)
    return matches


def _centre_error(box: Box, label: Box) -> float:
    return math.dist(box.centre_px, label.centre_px) / label.size_px


def _match(detection: Detection, label: Box, side: Side, error: float) -> Match:
    turn = math.remainder(detection.box.angle_rad - label.angle_rad, 2 * math.pi)
    ratio = detection.box.size_px / label.size_px
    return Match(detection.score, detection.side == side, abs(math.degrees(turn)), error, ratio)


def match_pictures(detect: Detect, pictures: Iterable[tuple[np.ndarray, Sequence[tuple[Box, Side]]]]) -> list[Match]:
    """The matches of all labelled hands of (picture, [(box, side)]) pairs."""
    return [match for image, labels in pictures for match in match_hands(detect(image), labels)]


def figures_at(matches: Sequence[Match], threshold: float) -> Figures:
    """The figures of those matches whose score reaches `threshold`."""
    found = [match for match in matches if match.score >= threshold]
    if not found:
        return Figures(threshold, 0.0, 0.0, math.nan, math.nan, math.nan)
    median = [float(np.median([getattr(match, name) for match in found])) for name in Figures._fields[3:]]
    return Figures(threshold, len(found) / len(matches), float(np.mean([m.side_right for m in found])), *median)


def false_alarm_scores(detect: Detect, pictures: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """The scores of everything found in pictures without hands, and the number of pictures."""
    scores: list[float] = []
    count = 0
    for image in pictures:
        scores += [hand.score for hand in detect(image)]
        count += 1
    return np.array(scores), count
