"""Whether the errors that are expected of joints are those that come: size, order, and how much they tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import rankdata

from handmesh import skeleton
from handmesh.evaluation.calibration.candidates import Candidates, Looked
from handmesh.evaluation.calibration.reliability import by_picture
from handmesh.evaluation.figures import Figure

BINS = 10
FEWEST = 10
"""Hands, below which nothing is said."""

ROUNDS = 200
"""Of resampling: ranks take their time."""


Unit = Literal["% of box", "mm"]


class JointErrors(NamedTuple):
    """What was expected of the joints of N hands, and what came; one unit for both."""

    name: str
    unit: Unit
    expected: np.ndarray  # (N, K)
    actual: np.ndarray  # (N, K)
    picture: np.ndarray  # (N,)
    joints: tuple[str, ...]  # K names


def joint_errors(looked: Sequence[Looked], candidates: Candidates, shown: np.ndarray) -> list[JointErrors]:
    """Of each data set, in the picture and (where the truth is known) in space, of right hands among (N,) `shown`."""
    away = [k for k in range(len(skeleton.KEYPOINTS)) if k != skeleton.ROOT]  # the root has no error about itself
    kinds: dict[str, tuple[Unit, np.ndarray, np.ndarray, slice | list[int]]] = {
        "in the picture": ("% of box", 100 * candidates.spread_2d, 100 * candidates.error_2d, slice(None)),
        "about the root": ("mm", candidates.spread_mm, candidates.error_mm, away),
    }
    sets = []
    for kind, (unit, expected, actual, joints) in kinds.items():
        names = tuple(np.array(skeleton.KEYPOINTS)[joints].tolist())
        for k, data in enumerate(looked):
            rows = shown & (candidates.source == k) & np.isfinite(expected + actual).all(1)
            if rows.sum() >= FEWEST:
                columns = expected[rows][:, joints], actual[rows][:, joints], candidates.picture[rows]
                sets.append(JointErrors(f"{data.name}, {kind}", unit, *columns, names))
    return sets


Statistic = Callable[[np.ndarray, np.ndarray], float]
"""Of (M, K) expected and (M, K) actual errors."""


def rank_correlation(expected: np.ndarray, actual: np.ndarray) -> float:
    """Spearman's, over all joints of all hands."""
    return float(_spearman(expected.reshape(-1, 1), actual.reshape(-1, 1))[0])


def hand_rank_correlation(expected: np.ndarray, actual: np.ndarray) -> float:
    """Spearman's between hands, of the mean over a hand's joints: which hand is worse?"""
    return float(_spearman(expected.mean(1, keepdims=True), actual.mean(1, keepdims=True))[0])


def joint_rank_correlation(expected: np.ndarray, actual: np.ndarray) -> float:
    """Spearman's between the hands for one joint, mean over the joints: that fingertips are harder does not help."""
    return float(_spearman(expected, actual).mean())


def _spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(K,) rank correlations of the columns of two (N, K) arrays; not a number where a column is constant."""
    ranks = [rankdata(values, axis=0) for values in (a, b)]
    x, y = (rank - rank.mean(0) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0))


def normalised_error(expected: np.ndarray, actual: np.ndarray) -> float:
    """Expected normalised calibration error in bins of equal mass, in %: Levi et al., Evaluating and calibrating
    uncertainty prediction in regression tasks (2022), of mean absolute errors in place of root mean squares."""
    said, came = binned(expected, actual)
    return float(100 * np.mean(np.abs(said - came) / said))


def binned(expected: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(BINS,) mean expected and mean actual error, of as many joints each, from the surest to the least sure."""
    parts = np.array_split(np.argsort(expected, axis=None, kind="stable"), BINS)
    return tuple(np.array([values.ravel()[part].mean() for part in parts]) for values in (expected, actual))


def spread_scale(sets: Sequence[JointErrors], unit: Unit) -> float:
    """What makes expected errors as large as those that come, on average over the data sets; 1 without any."""
    ratios = [errors.actual.mean() / errors.expected.mean() for errors in sets if errors.unit == unit]
    return float(np.mean(ratios)) if ratios else 1.0


def spread_figures(errors: JointErrors, scale: float = 1.0) -> list[Figure]:
    """Size, calibration, order and sharpness, with intervals; resampling draws whole pictures.

    scale: what expected errors are to be multiplied by.
    """
    statistics: dict[str, tuple[str, Statistic]] = {
        "error that came": (errors.unit, lambda expected, actual: float(actual.mean())),
        "error expected": (errors.unit, lambda expected, actual: float(expected.mean())),
        "came / expected": ("", lambda expected, actual: float(actual.mean() / expected.mean())),
        "calibration error (ENCE)": ("%", normalised_error),
        "calibration error (ENCE), scaled": ("%", lambda expected, actual: normalised_error(scale * expected, actual)),
        "rank correlation": ("", rank_correlation),
        "rank correlation, hands": ("", hand_rank_correlation),
        "rank correlation, hands, joint by joint": ("", joint_rank_correlation),
        "sharpness: spread of what is expected / its mean": ("", lambda expected, actual: _variation(expected)),
    }
    return [_figure(name, unit, statistic, errors) for name, (unit, statistic) in statistics.items()]


def _variation(values: np.ndarray) -> float:
    """The coefficient of variation: 0 where the same is expected of all."""
    return float(values.std() / values.mean())


def _figure(name: str, unit: str, statistic: Statistic, errors: JointErrors) -> Figure:
    def of_drawn(times: np.ndarray) -> float:
        rows = np.repeat(np.arange(len(times)), times)
        return statistic(errors.expected[rows], errors.actual[rows])

    value = statistic(errors.expected, errors.actual)
    if not np.isfinite(value):  # untrained weights expect the same of all joints
        return Figure(name, np.nan, np.nan, np.nan, unit, len(errors.picture))
    return Figure(name, value, *by_picture(errors.picture, of_drawn, ROUNDS), unit, len(errors.picture))
