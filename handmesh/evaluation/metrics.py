"""Errors of reconstructed hands as FreiHAND's evaluation defines them, which hand is which, intervals, whether
probabilities come true, how tracks move, how well a detector finds hands. NumPy and SciPy only.

Points are (N, K, 3) in metres, or (N, K, 2) in pixels, for N samples. The definitions follow the data set's own
`eval.py` (Zimmermann et al., FreiHAND, 2019), down to the constants that shift the last digits, so that metrics can
stand beside published ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import minimize_scalar
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from handmesh.detection import Detection
from handmesh.skeleton import BONES, KEYPOINT_TIPS, ROOT, WRIST
from handmesh.types import Box, Side

PCK_THRESHOLDS_M = np.linspace(0.0, 0.05, 100)
F_THRESHOLDS_M = (0.005, 0.015)

_TINY = 1e-8  # FreiHAND adds it to the norms; a prediction of zeros then aligns to the truth's centroid


class Similarity(NamedTuple):
    """What one alignment found: it takes centred source points to centred target points."""

    rotation: np.ndarray  # (3, 3) orthogonal, applied from the right; may reflect
    scale: float  # between the norm-scaled point sets
    target_norm: float
    shift: np.ndarray  # (3,) from the source's mean to the target's


def errors(predicted: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """(N, K) Euclidean distances between (N, K, D) points and their truth."""
    predicted, truth = _pairs(predicted, truth)
    return np.linalg.norm(predicted - truth, axis=-1)


def align(predicted: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """(N, K, 3) predictions, each moved, turned, scaled and perhaps reflected onto its truth.

    Similarity Procrustes on centred, norm-scaled points. FreiHAND does not exclude reflections.
    """
    aligned = []
    for points, target in zip(*_pairs(predicted, truth), strict=True):
        found, (centred, norm) = similarity(points, target), _normalised(points)
        aligned.append(centred / norm @ found.rotation * found.scale * found.target_norm + target.mean(0))
    return np.stack(aligned)


def scale_and_translation(predicted: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """(N, 21, 3) predictions with the wrist where the true one is, and the bone from there to the middle finger's
    knuckle as long.

    Source: `align_sc_tr` of HO-3D's evaluation (https://github.com/shreyashampali/ho3d).
    """
    predicted, truth = _pairs(predicted, truth)
    own, true = (np.linalg.norm(points[:, ROOT] - points[:, WRIST], axis=-1) for points in (predicted, truth))
    scaled = predicted / np.where(own > 0, own, 1.0)[:, None, None] * true[:, None, None]
    return scaled - scaled[:, [WRIST]] + truth[:, [WRIST]]


def _pairs(predicted: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    predicted, truth = _points(predicted), _points(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted {predicted.shape} and truth {truth.shape} must have one shape")
    return predicted, truth


def similarity(predicted: np.ndarray, truth: np.ndarray) -> Similarity:
    """The alignment of one (K, 3) prediction with its truth; see `align`."""
    source, source_norm = _normalised(predicted)
    target, target_norm = _normalised(truth)
    rotation, scale = orthogonal_procrustes(target / target_norm, source / source_norm)
    return Similarity(rotation.T, float(scale), target_norm, truth.mean(0) - predicted.mean(0))


def align_with(points: np.ndarray, found: Similarity) -> np.ndarray:
    """(V, 3) points moved by an alignment that was found on others, as FreiHAND does it.

    Its `align_by_trafo` turns and scales about the points' own mean and does not divide by the
    source's norm, so that the result is smaller than the truth (to about a third for a hand of
    21 joints). Official aligned F-scores of meshes with another vertex count are of that result.
    """
    mean = points.mean(0)
    return (points - mean) @ found.rotation * found.scale * found.target_norm + found.shift + mean


def _normalised(points: np.ndarray) -> tuple[np.ndarray, float]:
    centred = points - points.mean(0)
    return centred, float(np.linalg.norm(centred)) + _TINY


def f_scores(predicted: np.ndarray, truth: np.ndarray, thresholds_m: tuple[float, ...] = F_THRESHOLDS_M) -> np.ndarray:
    """One F-score a threshold between (V, 3) and (W, 3) points; the counts may differ.

    The harmonic mean of the fractions of points, on either side, whose nearest neighbour on the
    other is strictly nearer than the threshold; 0 where both fractions are 0.
    """
    far = 2 * max(thresholds_m)  # what is farther need not be measured: it comes back as infinity
    to_truth = cKDTree(truth).query(predicted, distance_upper_bound=far)[0]
    to_predicted = cKDTree(predicted).query(truth, distance_upper_bound=far)[0]
    limits = np.asarray(thresholds_m)[:, None]
    a, b = (to_truth < limits).mean(1), (to_predicted < limits).mean(1)
    return 2 * a * b / np.maximum(a + b, np.finfo(np.float64).tiny)


def pck_curve(errors_m: np.ndarray, thresholds: np.ndarray = PCK_THRESHOLDS_M) -> np.ndarray:
    """(T,) fraction of (N, K) errors at or below each threshold.

    FreiHAND takes the fraction per point and then the mean over points; with as many samples for
    each point that is the fraction of all errors.
    """
    ordered = np.sort(np.asarray(errors_m, np.float64), axis=None)
    return np.searchsorted(ordered, thresholds, side="right") / ordered.size


def auc(errors_m: np.ndarray, axis: int | None = None, thresholds: np.ndarray = PCK_THRESHOLDS_M) -> np.ndarray:
    """The area under the PCK curve by trapezoids, over that of a perfect curve: of all (N, K) errors, or along `axis`.

    The area under a mean of steps is the mean of the steps' areas, and a single error's step
    begins at the first threshold that is not below it.
    """
    widths = np.diff(thresholds)
    weights = np.concatenate([[0.0], widths]) + np.concatenate([widths, [0.0]])
    areas = np.append(np.cumsum(weights[::-1])[::-1] / weights.sum(), 0.0)
    return areas[np.searchsorted(thresholds, errors_m, side="left")].mean(axis)


@dataclass(frozen=True, eq=False)
class MeshErrors:
    """All errors of N samples. Vertex errors are None where the vertex counts differ."""

    joints_m: np.ndarray  # (N, 21)
    joints_aligned_m: np.ndarray  # (N, 21)
    vertices_m: np.ndarray | None  # (N, V)
    vertices_aligned_m: np.ndarray | None  # (N, V)
    f_scores: np.ndarray  # (N, 2) at F_THRESHOLDS_M
    f_scores_aligned: np.ndarray  # (N, 2)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The errors of several sets of samples as those of one set, in order."""
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        return cls(**{name: None if column[0] is None else np.concatenate(column) for name, column in columns.items()})

    def per_sample(self) -> dict[str, np.ndarray]:
        """(N,) columns by their names in the literature; lengths in millimetres.

        MPJPE and AUC-J are of joints, MPVPE and AUC-V of vertices; PA- is after alignment. The
        official metric of a set is the mean of its column.
        """
        columns = _errors_and_area("MPJPE", "AUC-J", self.joints_m, self.joints_aligned_m)
        if self.vertices_m is not None and self.vertices_aligned_m is not None:
            columns |= _errors_and_area("MPVPE", "AUC-V", self.vertices_m, self.vertices_aligned_m)
        for k, threshold in enumerate(F_THRESHOLDS_M):
            name = f"F@{1000 * threshold:.0f}"
            columns |= {name: self.f_scores[:, k], f"PA-{name}": self.f_scores_aligned[:, k]}
        return columns


def _errors_and_area(mean_name: str, area_name: str, raw_m: np.ndarray, aligned_m: np.ndarray) -> dict[str, np.ndarray]:
    means = {mean_name: 1000 * raw_m.mean(1), f"PA-{mean_name}": 1000 * aligned_m.mean(1)}
    return means | {area_name: auc(raw_m, axis=1), f"PA-{area_name}": auc(aligned_m, axis=1)}


def mesh_errors(
    joints_m: ArrayLike,
    vertices_m: ArrayLike,
    true_joints_m: ArrayLike,
    true_vertices_m: ArrayLike,
    corresponding: bool | None = None,
) -> MeshErrors:
    """Score (N, 21, 3) joints and (N, V, 3) vertices against their truth, (N, W, 3) for the vertices.

    corresponding: whether each vertex has one of the truth to be compared with; None where V and
    W are equal. Joints and vertices are aligned separately. Without correspondence there is no
    vertex error, and the aligned F-score takes the joints' alignment (see `align_with`).
    """
    joints, true_joints = _points(joints_m), _points(true_joints_m)
    vertices, true_vertices = _points(vertices_m), _points(true_vertices_m)
    if not len(joints) == len(true_joints) == len(vertices) == len(true_vertices) > 0:
        counts = [len(joints), len(vertices), len(true_joints), len(true_vertices)]
        raise ValueError(f"joints, vertices and their truths must be of one positive number of samples, got {counts}")
    same = vertices.shape == true_vertices.shape if corresponding is None else corresponding
    found = (similarity(*pair) for pair in zip(joints, true_joints, strict=True))
    aligned = align(vertices, true_vertices) if same else np.stack(list(map(align_with, vertices, found)))
    return MeshErrors(
        joints_m=errors(joints, true_joints),
        joints_aligned_m=errors(align(joints, true_joints), true_joints),
        vertices_m=errors(vertices, true_vertices) if same else None,
        vertices_aligned_m=errors(aligned, true_vertices) if same else None,
        f_scores=np.stack([f_scores(*pair) for pair in zip(vertices, true_vertices, strict=True)]),
        f_scores_aligned=np.stack([f_scores(*pair) for pair in zip(aligned, true_vertices, strict=True)]),
    )


def errors_2d(predicted_px: ArrayLike, truth_px: ArrayLike) -> np.ndarray:
    """(N, K) pixel distances as a fraction of the longer side of the truth's tight upright box."""
    return errors(predicted_px, truth_px) / _box_sides(truth_px)[:, None]


def tip_errors_along_finger(predicted_px: ArrayLike, truth_px: ArrayLike) -> np.ndarray:
    """(N, 5) how far fingertips reach beyond their truth along the finger, as a fraction of the longer box side.

    Of (N, 21, 2) points in keypoint order. Signed: the tip's offset along the direction from the
    true joint before it to the true tip; negative where the finger is drawn too short. 0 where the
    true last bone is a point.
    """
    predicted, truth = _points(predicted_px), _points(truth_px)
    tips = list(KEYPOINT_TIPS)
    bones = truth[:, tips] - truth[:, [parent for parent, child in BONES if child in tips]]
    lengths = np.linalg.norm(bones, axis=-1)
    along = ((predicted - truth)[:, tips] * bones).sum(-1) / np.where(lengths > 0, lengths, 1)
    return along / _box_sides(truth)[:, None]


FOUND_WITHIN = 0.5
"""A predicted hand is the true one if its mean 2D error is at most this fraction of the longer box side."""


def match_joints(predicted_px: Sequence[np.ndarray], true_px: Sequence[np.ndarray]) -> dict[int, int]:
    """Which of M predicted hands is each of N true ones, by their (21, 2) joints: the number of the predicted hand.

    The nearest pair first; none whose mean 2D error is beyond FOUND_WITHIN.
    """
    if not len(predicted_px):
        return {}
    distances = [errors_2d(predicted_px, np.broadcast_to(truth, np.shape(predicted_px))).mean(1) for truth in true_px]
    return nearest_pairs(np.reshape(distances, (len(true_px), len(predicted_px))), FOUND_WITHIN)


def nearest_pairs(distances: np.ndarray, within: float, in_turn: bool = False) -> dict[int, int]:
    """Pair rows and columns of (N, M) distances, each at most once, the nearest first and none beyond `within`.

    in_turn: columns choose one after the other, from the first on, whatever is nearer to a later one. Gives the column
    by its row.
    """
    rows, columns = np.nonzero(distances <= within)
    turns = columns if in_turn else np.zeros_like(columns)
    pairs: dict[int, int] = {}
    for _, _, i, k in sorted(zip(turns, distances[rows, columns], rows.tolist(), columns.tolist(), strict=True)):
        if i not in pairs and k not in pairs.values():
            pairs[i] = k
    return pairs


def _box_sides(truth_px: ArrayLike) -> np.ndarray:
    """(N,) the longer sides of the tight upright boxes, in pixels."""
    truth = _points(truth_px)
    sides = np.ptp(truth, axis=1).max(1)
    if len(truth) and sides.min() <= 0:
        raise ValueError("labelled points that all lie at one pixel span no box")
    return sides


def bootstrap(
    values: np.ndarray,
    statistic: Callable[..., np.ndarray] = np.mean,
    level: float = 0.95,
    rounds: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of `statistic(values, axis=...)` of (N,) samples under resampling."""
    rng = np.random.default_rng(seed)
    draws = [statistic(values[rng.integers(len(values), size=len(values))], axis=0) for _ in range(rounds)]
    tail = 50 * (1 - level)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)


class Metric(NamedTuple):
    """One number of a report with its interval; not a number where there was nothing to measure."""

    name: str
    value: float
    low: float  # of the 95 % bootstrap interval
    high: float
    unit: str
    count: int  # of hands or images that it is over

    @property
    def title(self) -> str:
        """The name with its unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def short(self) -> str:
        """The value in three or four digits; empty where there is none."""
        return "" if math.isnan(self.value) else _short(self.value)

    def __str__(self) -> str:
        """The value with its interval, for a table."""
        dash = " to " if self.low < 0 else "-"
        return f"{self.short} ({_short(self.low)}{dash}{_short(self.high)})" if self.short else "-"


def _short(value: float) -> str:
    return f"{value:.3f}" if 0 < abs(value) < 2 else f"{value:.1f}"


def metric(name: str, values: Sequence[float] | np.ndarray, unit: str, median: bool = False) -> Metric:
    """The mean (or median) of one value a hand or image, with its interval."""
    values = np.asarray(values, np.float64)
    if len(values) == 0:
        return Metric(name, math.nan, math.nan, math.nan, unit, 0)
    statistic = np.median if median else np.mean
    return Metric(name, float(statistic(values)), *bootstrap(values, statistic), unit, len(values))


def as_json(metrics: Sequence[Metric]) -> dict[str, dict[str, object]]:
    """Metrics by name."""
    return {one.name: {key: value for key, value in one._asdict().items() if key != "name"} for one in metrics}


def _points(points: ArrayLike) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.ndim != 3:
        raise ValueError(f"expected points of shape (samples, points, coordinates), got {points.shape}")
    return points


# How well probabilities are calibrated. Source: Guo, Pleiss, Sun and Weinberger, On calibration of modern neural
# networks (2017); bins of equal mass: Nguyen and O'Connor, Posterior calibration and exploratory analysis for natural
# language processing models (2015).

BINS = 15
"""As in the paper."""

EQUAL_WIDTH = np.linspace(0.0, 1.0, BINS + 1)
"""The bins' edges."""


@dataclass(frozen=True, eq=False)
class Said:
    """N probabilities with what came; rows count as much as their weights say."""

    name: str
    probability: np.ndarray  # (N,) 0..1
    right: np.ndarray  # (N,) bool
    weight: np.ndarray  # (N,)
    image: np.ndarray  # (N,) the number of the image that each is from

    def only(self, chosen: np.ndarray, name: str) -> Said:
        """The rows where (N,) `chosen` is true."""
        columns = {key: getattr(self, key)[chosen] for key in ("probability", "right", "weight", "image")}
        return replace(self, name=name, **columns)

    def bin_of(self, edges: np.ndarray) -> np.ndarray:
        """(N,) the number of the bin, of those between (B + 1,) `edges`, that each probability lies in."""
        return np.clip(np.searchsorted(edges, self.probability, side="right") - 1, 0, len(edges) - 2)


def calibration_error(said: Said, edges: np.ndarray, times: np.ndarray) -> float:
    """The mean over all rows of |mean probability - fraction correct| of the bin that they lie in.

    edges: (B + 1,) of the bins; times: (N,) how often each row counts beside its weight.
    """
    weight = said.weight * times
    gaps = np.bincount(said.bin_of(edges), weight * (said.probability - said.right), minlength=len(edges) - 1)
    return float(np.abs(gaps).sum() / weight.sum())


def brier_score(said: Said, times: np.ndarray) -> float:
    """The mean of (probability - outcome) squared (Brier, 1950); (N,) `times` as for `calibration_error`."""
    return float(np.average((said.probability - said.right) ** 2, weights=said.weight * times))


def equal_mass(said: Said) -> np.ndarray:
    """(B + 1,) edges between which lies as much weight each; fewer bins where many probabilities are equal."""
    if not len(said.probability):
        return EQUAL_WIDTH
    order = np.argsort(said.probability, kind="stable")
    fraction = np.cumsum(said.weight[order]) / said.weight.sum()
    inner = said.probability[order][np.searchsorted(fraction, np.arange(1, BINS) / BINS)]
    return np.concatenate([[0.0], np.unique(inner[(inner > 0) & (inner < 1)]), [1.0]])


def calibration_metrics(said: Said) -> list[Metric]:
    """Calibration errors and Brier score with intervals; resampling draws whole images.

    A calibration error is never negative, and noise only adds to it: its interval lies high, the more so
    the fewer rows there are.
    """
    measures = {
        "ECE": partial(calibration_error, said, EQUAL_WIDTH),
        "ECE, equal mass": partial(calibration_error, said, equal_mass(said)),
        "Brier score": partial(brier_score, said),
    }
    return [image_metric(name, "", said.image, measure) for name, measure in measures.items()]


Statistic = Callable[[np.ndarray], float]
"""Of (N,) how often each row counts."""


def image_metric(name: str, unit: str, image: np.ndarray, statistic: Statistic, rounds: int = 1000) -> Metric:
    """A statistic of rows from (N,) images; not a number without rows, or where rows that are all alike have none."""
    value = statistic(np.ones(len(image), int)) if len(image) else np.nan
    interval = by_image(image, statistic, rounds) if np.isfinite(value) else (np.nan, np.nan)
    return Metric(name, value, *interval, unit, len(image))


def by_image(image: np.ndarray, statistic: Statistic, rounds: int = 1000) -> tuple[float, float]:
    """The 95 % interval of a statistic of (N,) how often each row is drawn, when whole images are drawn.

    image: (N,) the number of the image that each row is from.
    """
    there, number = np.unique(image, return_inverse=True)

    def of_drawn(drawn: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(statistic(np.bincount(drawn, minlength=len(there))[number]))

    return bootstrap(np.arange(len(there)), of_drawn, rounds=rounds)


class Bin(NamedTuple):
    """One bar of a reliability diagram."""

    probability: float  # the mean of what was said
    right: float  # the fraction that came true
    low: float  # of the 95 % interval of that fraction
    high: float
    count: int  # of rows


def bins_of(said: Said) -> list[Bin]:
    """The bins of equal width that are not empty."""
    position = said.bin_of(EQUAL_WIDTH)
    bins = []
    for part in (said.only(position == k, "") for k in np.unique(position)):
        fraction = partial(_fraction_right, part)
        probability, count = float(np.average(part.probability, weights=part.weight)), len(part.right)
        bins.append(Bin(probability, fraction(np.ones(count)), *by_image(part.image, fraction), count))
    return bins


def _fraction_right(said: Said, times: np.ndarray) -> float:
    return float(np.average(said.right, weights=said.weight * times))


ERROR_BINS = 10
"""Of expected errors."""


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """The mean rank correlation of the columns of two (N, K) arrays; not a number where a column is constant."""
    ranks = [rankdata(values, axis=0) for values in (a, b)]
    x, y = (rank - rank.mean(0) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return float(((x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0))).mean())


def normalised_error(expected: np.ndarray, actual: np.ndarray) -> float:
    """Expected normalised calibration error of (N, K) errors in bins of equal mass, in %: Levi et al., Evaluating and
    calibrating uncertainty prediction in regression tasks (2022), of mean absolute errors, not root mean squares."""
    said, came = binned(expected, actual)
    return float(100 * np.mean(np.abs(said - came) / said))


def binned(expected: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ERROR_BINS,) means of (N, K) expected and actual errors, over as many joints each, the surest first."""
    parts = np.array_split(np.argsort(expected, axis=None, kind="stable"), ERROR_BINS)
    return tuple(np.array([values.ravel()[part].mean() for part in parts]) for values in (expected, actual))


# How a track moves against the true one.

LEAST_LAG_FRAMES, MOST_LAG_FRAMES = -3.0, 6.0

LEAST_LIKENESS = 0.9
"""A track that correlates less with the true one, however it is shifted, is wrong in other ways than by being late."""


def rms_about_mean(points: np.ndarray) -> float:
    """The root of the mean square distance of (N, J, D) points from each one's mean over N."""
    return float(np.sqrt(np.square(points - points.mean(0)).sum(-1).mean())) if len(points) else np.nan


def acceleration_error(said: np.ndarray, true: np.ndarray) -> float:
    """The mean length of the difference of accelerations of (T, J, D) points, per squared frame; gaps are left out.

    Accelerations are second differences of three frames in a row: the "acceleration error" of Kanazawa et al.,
    Learning 3D Human Dynamics from Video (CVPR 2019), in the form of VIBE's code (Kocabas et al., CVPR 2020).
    """
    apart = np.linalg.norm(np.diff(said - true, n=2, axis=0), axis=-1)
    return float(np.nanmean(apart)) if np.isfinite(apart).any() else np.nan


def lag_s(times_s: np.ndarray, said: np.ndarray, true: np.ndarray, least_motion: float) -> float:
    """How far (T, D) `said` is behind `true`, in seconds: the shift at which the two correlate most.

    The true track is interpolated by cubic splines, so that shifts are not bound to frames; both are taken about
    their means, and a common factor between them plays no part. Rows of `said` that are not numbers are left out.
    Not a number where the truth moves less than `least_motion` (the root of its mean square, in its own unit),
    where fewer than ten frames are left, or where no shift within the limits makes the two alike.
    """
    frame_s = float(np.median(np.diff(times_s)))
    first, last = times_s[0] + MOST_LAG_FRAMES * frame_s, times_s[-1] + LEAST_LAG_FRAMES * frame_s
    usable = np.isfinite(said).all(1) & (times_s >= first) & (times_s <= last)  # any shift stays within the truth
    if usable.sum() < 10 or rms_about_mean(true[usable][:, None]) < least_motion:
        return np.nan
    path, at_s, seen = CubicSpline(times_s, true), times_s[usable], said[usable] - said[usable].mean(0)

    def unlike(shift_frames: float) -> float:
        shifted = path(at_s - shift_frames * frame_s)
        shifted = shifted - shifted.mean(0)
        return -float((seen * shifted).sum() / np.sqrt((seen**2).sum() * (shifted**2).sum() + 1e-30))

    coarse = np.arange(LEAST_LAG_FRAMES, MOST_LAG_FRAMES + 0.25, 0.25)
    best = int(np.argmin([unlike(shift) for shift in coarse]))
    if best in (0, len(coarse) - 1) or -unlike(coarse[best]) < LEAST_LIKENESS:
        return np.nan
    bounds = (coarse[best - 1], coarse[best + 1])
    return float(minimize_scalar(unlike, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x * frame_s)


MIDDLE_PERCENT = (2.0, 98.0)
"""Between these percentiles a path's length is taken: single mistakes have no say."""


def overshoot_percent(said: np.ndarray, true: np.ndarray, least_motion: float) -> float:
    """How much wider the (T, D) path `said` swings than `true` along the latter's main axis, in percent; less than 0
    where it cuts corners off.

    Rows of `said` that are not numbers are left out of both. Not a number where the truth moves less than
    `least_motion`, as for `lag_s`, and where fewer than ten rows are left.
    """
    usable = np.isfinite(said).all(1)
    if usable.sum() < 10 or rms_about_mean(true[usable][:, None]) < least_motion:
        return np.nan
    about_mean = true[usable] - true[usable].mean(0)
    axis = np.linalg.svd(about_mean, full_matrices=False)[2][0]
    widths = [float(np.diff(np.percentile(points[usable] @ axis, MIDDLE_PERCENT))[0]) for points in (said, true)]
    return 100 * (widths[0] / widths[1] - 1)


# How well a detector finds the labelled hands of photographs, and what else it takes for hands.


CENTRE_WITHIN = 0.35
"""A labelled hand is found by a box whose centre is no farther than this fraction of the labelled box's side."""

LEAST_SCORE = 0.05
"""Detections are collected from this score on, to be counted at any threshold above."""

Detect = Callable[[np.ndarray], list[Detection]]
"""From an (H, W, 3) uint8 RGB image to its hands with scores from `LEAST_SCORE` on."""


class Match(NamedTuple):
    """One labelled hand and the best detection of it; a score of 0 says that there is none."""

    score: float
    side_correct: bool
    angle_deg: float
    centre_error: float  # fraction of the labelled box's side
    size_ratio: float


class DetectorMetrics(NamedTuple):
    """Scores at one threshold."""

    threshold: float
    found: float  # fraction of the labelled hands
    side_correct: float  # fraction of the found ones
    angle_deg: float  # median error
    centre_error: float  # median
    size_ratio: float  # median of found over labelled


def match_hands(detections: Sequence[Detection], labels: Sequence[tuple[Box, Side]]) -> list[Match]:
    """Each labelled hand with the best detection that nothing else took, best detections first."""
    ranked = sorted(detections, key=lambda hand: -hand.score)
    distances = [[math.dist(one.box.centre_px, box.centre_px) / box.size_px for one in ranked] for box, _ in labels]
    matches = [Match(0.0, False, math.nan, math.nan, math.nan)] * len(labels)
    for i, k in nearest_pairs(np.reshape(distances, (len(labels), len(ranked))), CENTRE_WITHIN, in_turn=True).items():
        found, (label, side) = ranked[k], labels[i]
        rotation = abs(math.degrees(math.remainder(found.box.angle_rad - label.angle_rad, 2 * math.pi)))
        ratio = found.box.size_px / label.size_px
        matches[i] = Match(found.score, found.side == side, rotation, distances[i][k], ratio)
    return matches


def match_images(detect: Detect, images: Iterable[tuple[np.ndarray, Sequence[tuple[Box, Side]]]]) -> list[Match]:
    """The matches of all labelled hands of (image, [(box, side)]) pairs."""
    return [match for image, labels in images for match in match_hands(detect(image), labels)]


def metrics_at(matches: Sequence[Match], threshold: float) -> DetectorMetrics:
    """The metrics of those matches whose score reaches `threshold`."""
    found = [match for match in matches if match.score >= threshold]
    if not found:
        return DetectorMetrics(threshold, 0.0, 0.0, math.nan, math.nan, math.nan)
    median = [float(np.median([getattr(match, name) for match in found])) for name in DetectorMetrics._fields[3:]]
    return DetectorMetrics(
        threshold, len(found) / len(matches), float(np.mean([m.side_correct for m in found])), *median
    )


def false_alarm_scores(detect: Detect, images: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """The (D,) scores of everything found in (H, W, 3) images without hands, and the number of images."""
    scores: list[float] = []
    count = 0
    for image in images:
        scores += [hand.score for hand in detect(image)]
        count += 1
    return np.array(scores), count
