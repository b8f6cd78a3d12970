"""How well chances come true: calibration error, Brier score, and the bins of a reliability diagram.

Source: Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks (2017); bins of equal mass: Nguyen and
O'Connor, Posterior calibration and exploratory analysis for natural language processing models (2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from handmesh.evaluation.figures import Figure
from handmesh.metrics import bootstrap

BINS = 15
"""As in the paper."""


@dataclass(frozen=True, eq=False)
class Said:
    """N chances with what came; rows count as much as their weights say."""

    name: str
    chance: np.ndarray  # (N,) 0..1
    right: np.ndarray  # (N,) bool
    weight: np.ndarray  # (N,)
    picture: np.ndarray  # (N,) the number of the picture that each is from

    def only(self, chosen: np.ndarray, name: str) -> Said:
        """The rows where (N,) `chosen` is true."""
        columns = {key: getattr(self, key)[chosen] for key in ("chance", "right", "weight", "picture")}
        return replace(self, name=name, **columns)


Measure = Callable[[Said, np.ndarray], float]
"""What is said, and (N,) the weights of its rows."""


def calibration_error(said: Said, weight: np.ndarray, edges: np.ndarray) -> float:
    """The mean over all rows of |mean chance - share right| of the bin that they lie in."""
    gaps = np.bincount(_bin_of(said.chance, edges), weight * (said.chance - said.right), minlength=len(edges) - 1)
    return float(np.abs(gaps).sum() / weight.sum())


def brier_score(said: Said, weight: np.ndarray) -> float:
    """The mean of (chance - outcome) squared (Brier, 1950)."""
    return float(np.average((said.chance - said.right) ** 2, weights=weight))


def equal_width() -> np.ndarray:
    """(BINS + 1,) edges."""
    return np.linspace(0.0, 1.0, BINS + 1)


def equal_mass(said: Said) -> np.ndarray:
    """(B + 1,) edges between which lies as much weight each; fewer bins where many chances are equal."""
    order = np.argsort(said.chance, kind="stable")
    share = np.cumsum(said.weight[order]) / said.weight.sum()
    inner = said.chance[order][np.searchsorted(share, np.arange(1, BINS) / BINS)]
    return np.concatenate([[0.0], np.unique(inner[(inner > 0) & (inner < 1)]), [1.0]])


def _bin_of(chance: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(edges, chance, side="right") - 1, 0, len(edges) - 2)


def figures_of(said: Said) -> list[Figure]:
    """Calibration errors and Brier score with intervals; resampling draws whole pictures.

    A calibration error is never negative, and noise only adds to it: its interval lies high, the more so
    the fewer rows there are.
    """
    width, mass = equal_width(), equal_mass(said) if len(said.chance) else equal_width()
    measures: dict[str, Measure] = {
        "ECE": lambda said, weight: calibration_error(said, weight, width),
        "ECE, equal mass": lambda said, weight: calibration_error(said, weight, mass),
        "Brier score": brier_score,
    }
    return [_figure(name, said, measure) for name, measure in measures.items()]


def _figure(name: str, said: Said, measure: Measure) -> Figure:
    if not len(said.chance):
        return Figure(name, np.nan, np.nan, np.nan, "", 0)
    interval = by_picture(said.picture, lambda times: measure(said, said.weight * times))
    return Figure(name, measure(said, said.weight), *interval, "", len(said.chance))


def by_picture(
    picture: np.ndarray, statistic: Callable[[np.ndarray], float], rounds: int = 1000
) -> tuple[float, float]:
    """The 95 % interval of a statistic of (N,) how often each row is drawn, when whole pictures are drawn."""
    there, number = np.unique(picture, return_inverse=True)

    def of_drawn(drawn: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(statistic(np.bincount(drawn, minlength=len(there))[number]))

    return bootstrap(np.arange(len(there)), of_drawn, rounds=rounds)


class Bin(NamedTuple):
    """One bar of a reliability diagram."""

    chance: float  # the mean of what was said
    right: float  # the share that came true
    low: float  # of the 95 % interval of that share
    high: float
    count: int  # of rows


def bins_of(said: Said) -> list[Bin]:
    """The bins of equal width that are not empty."""
    place = _bin_of(said.chance, equal_width())
    return [_bin(said.only(place == k, "")) for k in np.unique(place)]


def _bin(part: Said) -> Bin:
    def share(times: np.ndarray) -> float:
        return float(np.average(part.right, weights=part.weight * times))

    chance = float(np.average(part.chance, weights=part.weight))
    return Bin(chance, share(np.ones(len(part.right))), *by_picture(part.picture, share), len(part.right))
