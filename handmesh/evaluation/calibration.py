"""Whether what the product says of its own predictions comes true: probabilities, and the errors expected of joints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import rankdata

from handmesh import skeleton
from handmesh.assets import DETECTOR
from handmesh.data.photos import LabelledHand, Split
from handmesh.detection import Detector
from handmesh.evaluation.datasets import Example, camera_of, match, mean_error, opened
from handmesh.evaluation.metrics import Metric, bootstrap
from handmesh.tracking.association import SAME_POSITION_OVERLAP, overlap, same_hand
from handmesh.tracking.estimator import Estimate, Estimator, is_usable
from handmesh.types import Camera, Hand

# What can be asked of a calibration. No matplotlib, so that a command line can be read without it.


@dataclass(frozen=True)
class CalibrationOptions:
    """How often what the product says of its own answers comes true, and models that make it so.

    Of every place that the detector proposes, however unsure: the score, the side and the errors expected of
    the joints. calibration.json holds the models for the exported file. Each data set counts as much as any
    other, whatever its number of images.
    """

    photos: tuple[Path, ...] = ()
    """Folders with a pseudo_labels.json that labels all hands."""
    people: tuple[Path, ...] = ()
    """The same of images of one person each; where a hand may be unlabelled, only those with two count."""
    shards: tuple[Path, ...] = ()
    """Folders of synthetic shards; only what lies on their labelled hand counts, for a second one has no label."""
    backgrounds: tuple[Path, ...] = ()
    """Folders of images without hands."""
    split: Split = "val"
    """The held-out files of photographs and backgrounds (val), those for training, or all."""
    colours: bool = False
    """Also look at photographs and backgrounds in grey and with red and blue swapped. Of images like those that they
    learnt from networks are too sure; these stand for the images of strangers."""
    model: str = "balanced"
    """A bundled network by name, or the path of an exported .onnx file."""
    detector: str = DETECTOR
    """The bundled detector by name, or the path of an exported .onnx file."""
    limit: int | None = None
    """Take so many images of each data set, evenly spread over it. Default: all."""
    threads: int | None = None
    """Cores that the networks may use. Default: all but one."""
    overwrite: bool = False
    """Look again at what the output folder already holds."""
    output: Path = Path("outputs/calibration")
    """Folder for the report, calibration.json, metrics.json, candidates.csv and the plots."""

    def __post_init__(self) -> None:
        if not (self.photos or self.people or self.shards):
            raise ValueError("no labelled hands: name at least one folder with --photos, --people or --shards")
        if not (self.photos or self.people or self.backgrounds):
            raise ValueError("no images in which a wrong hand would be noticed: name a folder with --backgrounds")
        if self.limit is not None and self.limit < 2:
            raise ValueError(f"--limit must be at least 2, got {self.limit}: half of the images check the other half")


# All candidates that the detector proposes, however unsure: what the mesh network makes of them, and what is right.


PROPOSED = 0.05
"""The detector's score from which a candidate is looked at: far below the tracker's, to see what is wrong too."""

MOST = 6
"""Candidates that are looked at in an image, the surest first."""

ON_HAND = 0.3
"""The overlap with the box of a labelled hand from which a candidate lies on it."""

PRESENT = 0.5
"""The presence from which the mesh network by itself took a candidate for a hand."""

_UNKNOWN = dict.fromkeys(("uncertainty_2d", "error_2d", "uncertainty_mm", "error_mm"), np.full(21, np.nan))


class Source(NamedTuple):
    """A data set to look at."""

    name: str
    images: Sequence[Example]
    complete: bool  # all hands are labelled; else only what lies on a labelled one is judged
    exact: bool = False  # `joints_m` of the labels are true, about the root


class Looked(NamedTuple):
    """What was looked at of a data set: numbers of images and of labelled hands among those of all sets."""

    name: str
    images: range
    hands: range
    files: tuple[str, ...]  # the images' names
    unreadable: int


@dataclass(frozen=True, eq=False)
class Candidates:
    """N candidates in images. Errors are means over a joint's coordinates, not a number where they are not known."""

    source: np.ndarray  # (N,) which data set
    image: np.ndarray  # (N,) which of all images
    hand: np.ndarray  # (N,) which of all labelled hands it is, -1 where it is none
    detector: np.ndarray  # (N,) 0..1
    presence: np.ndarray  # (N,) 0..1
    handedness_probability: np.ndarray  # (N,) 0..1, with the side that the tracker would say
    right: np.ndarray  # (N,) bool: a hand, where the mesh says, and no nearer candidate on it
    side_correct: np.ndarray  # (N,) bool
    error: np.ndarray  # (N,) mean 2D error from the nearest labelled hand, of its longer box side; infinite without one
    uncertainty_2d: np.ndarray  # (N, 21) expected errors, of the longer side of the labelled box; of right ones
    error_2d: np.ndarray  # (N, 21) true ones
    uncertainty_mm: np.ndarray  # (N, 21) expected errors about the root
    error_mm: np.ndarray  # (N, 21) true ones


_COLUMNS = [f.name for f in fields(Candidates) if f.name != "source"]
_KINDS = {"image": int, "hand": int, "right": bool, "side_correct": bool}
"""What the columns hold that do not hold floats; an empty one would not show it."""


def look(source: Source, detector: Detector, estimator: Estimator) -> dict[str, np.ndarray]:
    """Look at a data set as a tracker does that refuses nothing.

    Gives the columns of `Candidates`, with images and hands counted within the set; and `files`,
    `labelled` and `unreadable`: the images' names and how many labelled hands and bad files there are.
    """
    rows: list[dict[str, object]] = []
    files, unreadable, labelled = [], [], 0
    for example, image in opened(source.images, source.name, unreadable):
        found = list(_estimates(image, camera_of(example, image), detector, estimator))
        for row in _judged(example.hands, found, source):
            row["hand"] += labelled if row["right"] else 0
            rows.append({"image": len(files)} | row)
        files.append(example.name)
        labelled += len(example.hands)
    columns = {name: np.array([row[name] for row in rows], _KINDS.get(name, float)) for name in _COLUMNS}
    columns |= {name: columns[name].reshape(len(rows), 21) for name in _UNKNOWN}
    counts = {"labelled": np.array(labelled), "unreadable": np.array(len(unreadable))}
    return columns | {"files": np.array(files, str)} | counts


def joined(names: Sequence[str], seen: Sequence[Mapping[str, np.ndarray]]) -> tuple[list[Looked], Candidates]:
    """Data sets as one, from what `look` gave of each; ValueError where the detector proposed nothing anywhere."""
    images = np.cumsum([0, *(len(one["files"]) for one in seen)]).tolist()
    hands = np.cumsum([0, *(int(one["labelled"]) for one in seen)]).tolist()
    columns = {name: np.concatenate([one[name] for one in seen]) for name in _COLUMNS}
    source = np.repeat(np.arange(len(seen)), [len(one["right"]) for one in seen])
    if not len(source):
        raise ValueError(f"the detector proposed no candidate in {images[-1]} images: nothing to calibrate on")
    columns["image"] += np.array(images)[source]
    columns["hand"] += np.where(columns["hand"] >= 0, np.array(hands)[source], 0)
    looked = [
        Looked(name, range(*images[k : k + 2]), range(*hands[k : k + 2]), tuple(one["files"]), int(one["unreadable"]))
        for k, (name, one) in enumerate(zip(names, seen, strict=True))
    ]
    return looked, Candidates(source, **columns)


def _estimates(
    image: np.ndarray, camera: Camera, detector: Detector, estimator: Estimator
) -> Iterator[tuple[float, Estimate]]:
    """The detector's score and the estimate of each candidate; candidates on what the mesh network took for a hand are
    done."""
    hands: list[Estimate] = []
    for detection in detector.detect(image, PROPOSED)[:MOST]:
        box = detection.box
        if not is_usable(box, image) or any(overlap(box, hand.box) > SAME_POSITION_OVERLAP for hand in hands):
            continue
        estimate = estimator.estimate_afresh(image, camera, detection)
        if estimate is not None and not any(same_hand(estimate, hand) for hand in hands):
            if estimate.presence >= PRESENT:
                hands.append(estimate)
            yield detection.score, estimate


def _judged(
    labels: Sequence[LabelledHand], found: Sequence[tuple[float, Estimate]], source: Source
) -> Iterator[dict[str, object]]:
    """What is known of the estimates in an image; nothing of those where nobody knows whether there is a hand.

    Of several on one labelled hand the nearest is right: the others are hands too many.
    """
    answers = match([estimate.hand for _, estimate in found], labels).of_labels
    for score, estimate in found:
        hand = next((k for k, answer in enumerate(answers) if answer.hand is estimate.hand), -1)
        on_hand = any(overlap(estimate.box, label.box(rotation=False)) >= ON_HAND for label in labels)
        if hand < 0 and not (on_hand or source.complete):
            continue
        yield {
            "hand": hand,
            "detector": score,
            "presence": estimate.presence,
            "handedness_probability": estimate.handedness_probability,
            "right": hand >= 0,
            "side_correct": hand >= 0 and answers[hand].side_correct,
            "error": min((mean_error(estimate.hand, label) for label in labels), default=np.inf),
        } | (_uncertainties(estimate.hand, labels[hand], source.exact) if hand >= 0 else _UNKNOWN)


def _uncertainties(hand: Hand, label: LabelledHand, exact: bool) -> dict[str, np.ndarray]:
    """Expected and true errors of a right hand; those in space only where the labels are exact."""
    if hand.joints_uncertainty_px is None or hand.joints_uncertainty_m is None:
        return _UNKNOWN
    side_px = np.ptp(label.joints_px, axis=0).max()
    found = {
        "uncertainty_2d": hand.joints_uncertainty_px / side_px,
        "error_2d": np.abs(hand.joints_px - label.joints_px).mean(-1) / side_px,
    }
    if exact:
        joints_m = hand.joints_m - hand.joints_m[skeleton.ROOT]
        found |= {
            "uncertainty_mm": 1000 * hand.joints_uncertainty_m,
            "error_mm": 1000 * np.abs(joints_m - label.joints_m).mean(-1),
        }
    return _UNKNOWN | found


# How well probabilities are calibrated: calibration error, Brier score, and the bins of a reliability diagram.
#
# Source: Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks (2017); bins of equal mass: Nguyen
# and
# O'Connor, Posterior calibration and exploratory analysis for natural language processing models (2015).


BINS = 15
"""As in the paper."""


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


Measure = Callable[[Said, np.ndarray], float]
"""What is said, and (N,) the weights of its rows."""


def calibration_error(said: Said, weight: np.ndarray, edges: np.ndarray) -> float:
    """The mean over all rows of |mean probability - fraction correct| of the bin that they lie in."""
    gaps = np.bincount(
        _bin_of(said.probability, edges), weight * (said.probability - said.right), minlength=len(edges) - 1
    )
    return float(np.abs(gaps).sum() / weight.sum())


def brier_score(said: Said, weight: np.ndarray) -> float:
    """The mean of (probability - outcome) squared (Brier, 1950)."""
    return float(np.average((said.probability - said.right) ** 2, weights=weight))


def equal_width() -> np.ndarray:
    """(BINS + 1,) edges."""
    return np.linspace(0.0, 1.0, BINS + 1)


def equal_mass(said: Said) -> np.ndarray:
    """(B + 1,) edges between which lies as much weight each; fewer bins where many probabilities are equal."""
    order = np.argsort(said.probability, kind="stable")
    fraction = np.cumsum(said.weight[order]) / said.weight.sum()
    inner = said.probability[order][np.searchsorted(fraction, np.arange(1, BINS) / BINS)]
    return np.concatenate([[0.0], np.unique(inner[(inner > 0) & (inner < 1)]), [1.0]])


def _bin_of(probability: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, len(edges) - 2)


def metrics_of(said: Said) -> list[Metric]:
    """Calibration errors and Brier score with intervals; resampling draws whole images.

    A calibration error is never negative, and noise only adds to it: its interval lies high, the more so
    the fewer rows there are.
    """
    width, mass = equal_width(), equal_mass(said) if len(said.probability) else equal_width()
    measures: dict[str, Measure] = {
        "ECE": lambda said, weight: calibration_error(said, weight, width),
        "ECE, equal mass": lambda said, weight: calibration_error(said, weight, mass),
        "Brier score": brier_score,
    }
    return [_metric(name, said, measure) for name, measure in measures.items()]


def _metric(name: str, said: Said, measure: Measure) -> Metric:
    if not len(said.probability):
        return Metric(name, np.nan, np.nan, np.nan, "", 0)
    interval = by_image(said.image, lambda times: measure(said, said.weight * times))
    return Metric(name, measure(said, said.weight), *interval, "", len(said.probability))


def by_image(image: np.ndarray, statistic: Callable[[np.ndarray], float], rounds: int = 1000) -> tuple[float, float]:
    """The 95 % interval of a statistic of (N,) how often each row is drawn, when whole images are drawn."""
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
    position = _bin_of(said.probability, equal_width())
    return [_bin(said.only(position == k, "")) for k in np.unique(position)]


def _bin(part: Said) -> Bin:
    def fraction(times: np.ndarray) -> float:
        return float(np.average(part.right, weights=part.weight * times))

    probability = float(np.average(part.probability, weights=part.weight))
    return Bin(probability, fraction(np.ones(len(part.right))), *by_image(part.image, fraction), len(part.right))


# Whether the errors that are expected of joints are those that come: size, order, and how much they tell apart.


UNCERTAINTY_BINS = 10
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
    image: np.ndarray  # (N,)
    joints: tuple[str, ...]  # K names


def joint_errors(looked: Sequence[Looked], candidates: Candidates, shown: np.ndarray) -> list[JointErrors]:
    """Of each data set, in the image and (where the truth is known) in space, of right hands among (N,) `shown`."""
    away = [k for k in range(len(skeleton.KEYPOINTS)) if k != skeleton.ROOT]  # the root has no error about itself
    kinds: dict[str, tuple[Unit, np.ndarray, np.ndarray, slice | list[int]]] = {
        "in the image": ("% of box", 100 * candidates.uncertainty_2d, 100 * candidates.error_2d, slice(None)),
        "about the root": ("mm", candidates.uncertainty_mm, candidates.error_mm, away),
    }
    sets = []
    for kind, (unit, expected, actual, joints) in kinds.items():
        names = tuple(np.array(skeleton.KEYPOINTS)[joints].tolist())
        for k, data in enumerate(looked):
            rows = shown & (candidates.source == k) & np.isfinite(expected + actual).all(1)
            if rows.sum() >= FEWEST:
                columns = expected[rows][:, joints], actual[rows][:, joints], candidates.image[rows]
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
    parts = np.array_split(np.argsort(expected, axis=None, kind="stable"), UNCERTAINTY_BINS)
    return tuple(np.array([values.ravel()[part].mean() for part in parts]) for values in (expected, actual))


def uncertainty_scale(sets: Sequence[JointErrors], unit: Unit) -> float:
    """What makes expected errors as large as those that come, on average over the data sets; 1 without any."""
    ratios = [errors.actual.mean() / errors.expected.mean() for errors in sets if errors.unit == unit]
    return float(np.mean(ratios)) if ratios else 1.0


def spread_metrics(errors: JointErrors, scale: float = 1.0) -> list[Metric]:
    """Size, calibration, order and sharpness, with intervals; resampling draws whole images.

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
    return [_spread_metric(name, unit, statistic, errors) for name, (unit, statistic) in statistics.items()]


def _variation(values: np.ndarray) -> float:
    """The coefficient of variation: 0 where the same is expected of all."""
    return float(values.std() / values.mean())


def _spread_metric(name: str, unit: str, statistic: Statistic, errors: JointErrors) -> Metric:
    def of_drawn(times: np.ndarray) -> float:
        rows = np.repeat(np.arange(len(times)), times)
        return statistic(errors.expected[rows], errors.actual[rows])

    value = statistic(errors.expected, errors.actual)
    if not np.isfinite(value):  # untrained weights expect the same of all joints
        return Metric(name, np.nan, np.nan, np.nan, unit, len(errors.image))
    return Metric(name, value, *by_image(errors.image, of_drawn, ROUNDS), unit, len(errors.image))
