"""Errors of reconstructed hands, per sample, as FreiHAND's evaluation defines them; how well a detector finds
hands. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import cKDTree

from handmesh.detection import Detection
from handmesh.skeleton import BONES, KEYPOINT_TIPS
from handmesh.types import Box, Side

# Errors of reconstructed hands, per sample, as FreiHAND's evaluation defines them. NumPy, float64.
#
# Points are (N, K, 3) in metres, or (N, K, 2) in pixels, for N samples. The definitions follow the
# data set's own `eval.py` (Zimmermann et al., FreiHAND, 2019), down to the constants that shift the
# last digits, so that metrics can stand beside published ones.


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
    predicted, truth = _points(predicted), _points(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted {predicted.shape} and truth {truth.shape} must have one shape")
    return np.linalg.norm(predicted - truth, axis=-1)


def align(predicted: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """(N, K, 3) predictions, each moved, turned, scaled and perhaps reflected onto its truth.

    Similarity Procrustes on centred, norm-scaled points. FreiHAND does not exclude reflections.
    """
    predicted, truth = _points(predicted), _points(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted {predicted.shape} and truth {truth.shape} must have one shape")
    return np.stack([_align_one(p, t) for p, t in zip(predicted, truth, strict=True)])


def _align_one(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    found = similarity(predicted, truth)
    centred, norm = _normalised(predicted)
    return centred / norm @ found.rotation * found.scale * found.target_norm + truth.mean(0)


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
    """The area under the PCK curve by trapezoids, over that of a perfect curve: of all errors, or along `axis`.

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

    @staticmethod
    def joined(parts: Sequence[MeshErrors]) -> MeshErrors:
        """The errors of several sets of samples as those of one set, in order."""
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(MeshErrors)}
        return MeshErrors(
            **{name: None if column[0] is None else np.concatenate(column) for name, column in columns.items()}
        )

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

    def summary(self) -> dict[str, float]:
        """The means of `per_sample`."""
        return {name: float(column.mean()) for name, column in self.per_sample().items()}


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


# How well a detector finds the labelled hands of photographs, and what else it takes for hands.


FOUND_WITHIN = 0.35
"""A labelled hand is found by a box whose centre is nearer than this fraction of the labelled box's side."""

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
    rotation = math.remainder(detection.box.angle_rad - label.angle_rad, 2 * math.pi)
    ratio = detection.box.size_px / label.size_px
    return Match(detection.score, detection.side == side, abs(math.degrees(rotation)), error, ratio)


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
    """The scores of everything found in images without hands, and the number of images."""
    scores: list[float] = []
    count = 0
    for image in images:
        scores += [hand.score for hand in detect(image)]
        count += 1
    return np.array(scores), count
