"""The models that make chances of what the networks say, and all that they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from handmesh.detection import THRESHOLD
from handmesh.evaluation.answers import HAND_SCORE
from handmesh.evaluation.calibration.candidates import PRESENT, PROPOSED, Candidates, Looked
from handmesh.evaluation.calibration.fit import fit_logistic, held_out
from handmesh.evaluation.calibration.reliability import Said
from handmesh.evaluation.figures import Figure, figure
from handmesh.runtime.confidence import Confidence, Logistic

FOUND_TERMS = ("detector", "presence", "agreement")
FOLLOWED_TERMS = ("presence", "agreement")
SIDE_TERMS = ("agreement",)

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Models fitted to all candidates, and what models fitted to the other half of the pictures say of each."""

    confidence: Confidence
    side: Logistic
    scores: list[Said]  # of different scores: that this is a hand, where the mesh says
    sides: list[Said]  # of right hands that are sure enough to be shown: that their side is right
    found: np.ndarray  # (N,) the chance on finding
    followed: np.ndarray  # (N,) the chance while following


def calibrate(looked: Sequence[Looked], candidates: Candidates) -> Calibrated:
    """Fit all models; each data set has the same weight, shared by its pictures."""
    weight = np.array([1 / max(1, len(one.pictures)) for one in looked])[candidates.source]
    plain = Said("score so far (presence)", candidates.presence, candidates.right, weight, candidates.picture)
    everything = np.ones(len(weight), bool)
    found, found_chance = _fit(candidates, FOUND_TERMS, everything, plain)
    followed, followed_chance = _fit(candidates, FOLLOWED_TERMS, everything, plain)
    on_finding = replace(plain, name="calibrated, on finding", chance=found_chance)
    following = replace(plain, name="calibrated, while following", chance=followed_chance)
    side, sides = _calibrate_side(candidates, plain, candidates.right & (found_chance >= HAND_SCORE))
    scores = [
        plain,
        replace(plain, name="detector's score", chance=candidates.detector),
        on_finding,
        following,
        plain.only(shown_so_far(candidates), f"{plain.name}, shown"),
        on_finding.only(found_chance >= HAND_SCORE, f"{on_finding.name}, shown"),
        following.only(followed_chance >= HAND_SCORE, f"{following.name}, shown"),
        *(on_finding.only(candidates.source == k, f"on finding, {one.name}") for k, one in enumerate(looked)),
    ]
    confidence = Confidence(found, followed, _proposed(candidates, found_chance))
    return Calibrated(confidence, side, scores, sides, found_chance, followed_chance)


def _proposed(candidates: Candidates, chance: np.ndarray) -> float:
    """The detector's score from which it pays to look: of the right hands that are shown, one in a hundred has less."""
    shown = candidates.detector[candidates.right & (chance >= HAND_SCORE)]
    return float(np.clip(np.quantile(shown, 0.01), PROPOSED, THRESHOLD)) if len(shown) else THRESHOLD


def shown_so_far(candidates: Candidates) -> np.ndarray:
    """(N,) what a tracker without calibration shows: each network sure enough by itself."""
    return (candidates.detector >= THRESHOLD) & (candidates.presence >= PRESENT)


def _fit(candidates: Candidates, terms: Sequence[str], rows: np.ndarray, said: Said) -> tuple[Logistic, np.ndarray]:
    """The model of what came in `said`, which is of these rows, and what models of the other half say of each."""
    chances = {name: getattr(candidates, name)[rows] for name in terms}
    return fit_logistic(chances, said.right, said.weight), held_out(chances, said.right, said.weight, said.picture)


def _calibrate_side(candidates: Candidates, plain: Said, rows: np.ndarray) -> tuple[Logistic, list[Said]]:
    before = replace(plain, chance=candidates.agreement, right=candidates.side_right).only(rows, "agreement")
    model, chance = _fit(candidates, SIDE_TERMS, rows, before)
    return model, [before, replace(before, name="side, calibrated", chance=chance)]


def operating_points(looked: Sequence[Looked], candidates: Candidates, chance: np.ndarray) -> dict[str, list[Figure]]:
    """What would be shown by the rule so far, and from each threshold of (N,) `chance` on: figures of each data set."""
    rules = {"so far": shown_so_far(candidates)} | {f"{limit:g}": chance >= limit for limit in THRESHOLDS}
    points: dict[str, list[Figure]] = {name: [] for name in rules}
    for k, data in enumerate(looked):
        for name, shown in rules.items():
            points[name] += _point(data, candidates, shown & (candidates.source == k))
    return points


def _point(data: Looked, candidates: Candidates, shown: np.ndarray) -> list[Figure]:
    right = shown & candidates.right
    found = np.isin(data.hands, candidates.hand[right])
    false = np.bincount(candidates.picture[shown & ~right], minlength=data.pictures.stop)[data.pictures]
    figures = [figure(f"{data.name}: false hands", 100 * false, "per 100 pictures")]
    if len(data.hands):
        figures.insert(0, figure(f"{data.name}: hands found", 100 * found, "%"))
        figures.append(figure(f"{data.name}: side right", 100 * candidates.side_right[right], "%"))
    return figures
