"""Whether what the product says of its own predictions comes true: probabilities, and the errors expected of joints.

Data sets in; models that calibrate the probabilities, tables and plots in a folder out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize

from handmesh import skeleton
from handmesh.assets import DETECTOR, detector_path, model_path
from handmesh.data.photos import LabelledHand, Split, list_images, read_photos
from handmesh.data.shards import read_shards
from handmesh.detection import THRESHOLD, Detector
from handmesh.evaluation import datasets
from handmesh.evaluation.datasets import HAND_SCORE, ArrayCache, Example
from handmesh.evaluation.metrics import (
    BINS,
    FOUND_WITHIN,
    Metric,
    Said,
    as_json,
    binned,
    bins_of,
    calibration_metrics,
    image_metric,
    metric,
    normalised_error,
    rank_correlation,
)
from handmesh.evaluation.report import COLOURS, Image, Report, Section, Setting, Table, panels, setting_of
from handmesh.geometry import logistic, logit
from handmesh.tracking.association import SAME_POSITION_OVERLAP, is_covered, overlap
from handmesh.tracking.backends import Session, open_session
from handmesh.tracking.estimator import Confidence, Estimate, Estimator, Logistic, is_usable
from handmesh.types import Camera, Hand


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


def evaluate_calibration(options: CalibrationOptions) -> Calibrated:
    """Look at all images, fit, print, and write all to the output folder.

    What was seen of a data set is kept in the output folder, so that a killed run goes on. Raises
    CacheMismatch (a ValueError) where that folder holds what another model or other images gave.
    """
    session = open_session(model_path(options.model), "mesh", options.threads)
    setting = setting_of(model_path(options.model), session, options.threads, detector_path(options.detector))
    looked, candidates = joined(*_look(options, session, setting))
    calibrated = calibrate(looked, candidates)
    metrics: Metrics = {
        "scores": {said.name: calibration_metrics(said) for said in calibrated.scores},
        "sides": {said.name: calibration_metrics(said) for said in calibrated.sides},
        "shown": operating_points(looked, candidates, calibrated.found),
        "joints": {errors.name: spread_metrics(errors, calibrated.scales[errors.unit]) for errors in calibrated.joints},
    }
    files = _as_json(setting, looked, calibrated, metrics)
    files["candidates.csv"] = _columns(looked, candidates, calibrated)
    _report(setting, looked, calibrated, metrics).publish(options.output, files)
    return calibrated


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

    @property
    def shown_so_far(self) -> np.ndarray:
        """(N,) bool: what a tracker without calibration shows, each network sure enough by itself."""
        return (self.detector >= THRESHOLD) & (self.presence >= PRESENT)


_COLUMNS = [f.name for f in fields(Candidates) if f.name != "source"]
_KINDS = {"image": int, "hand": int, "right": bool, "side_correct": bool}
"""What the columns hold that do not hold floats; an empty one would not show it."""


def sources_of(options: CalibrationOptions) -> list[Source]:
    """The data sets by the names of their folders."""

    def photos(root: Path, hands: int) -> list[Example]:
        return datasets.from_photos([photo for photo in read_photos(root, options.split) if len(photo.hands) >= hands])

    images = {
        **{root: photos(root, 1) for root in options.photos},
        **{root: photos(root, 2) for root in options.people},
        **{root: datasets.from_shards(read_shards(root)) for root in options.shards},
        **{root: datasets.from_files(list_images(root, options.split)) for root in options.backgrounds},
    }
    sources = []
    for name, (root, some) in zip(datasets.folder_names(list(images)), images.items(), strict=True):
        step, made = max(1, len(some) // options.limit) if options.limit else 1, root in options.shards
        chosen = some[::step][: options.limit]
        if options.colours and not made:
            chosen += [datasets.recoloured(image, colours) for colours in datasets.RECOLOURINGS for image in chosen]
        sources.append(Source(name, chosen, complete=not made, exact=made))
    return sources


def _look(
    options: CalibrationOptions, session: Session, setting: Setting
) -> tuple[list[str], list[dict[str, np.ndarray]]]:
    """The data sets' names and what was seen of each, now or before."""
    detector = Detector(open_session(detector_path(options.detector), "detector", options.threads))
    estimator, sources = Estimator(session), sources_of(options)
    asked: dict[str, object] = {"model_sha256": setting.model_sha256, "detector_sha256": setting.detector_sha256}
    asked |= {"split": options.split, "colours": options.colours}
    asked |= {source.name: [len(source.images), source.images[0].name] for source in sources if source.images}
    cache = ArrayCache(options.output / "seen", asked, options.overwrite)
    seen = []
    for source in sources:
        arrays = cache.get(source.name)
        if arrays is None:
            arrays = look(source, detector, estimator)
            cache.put(source.name, **arrays)
        seen.append(arrays)
    return [source.name for source in sources], seen


def look(source: Source, detector: Detector, estimator: Estimator) -> dict[str, np.ndarray]:
    """Look at a data set as a tracker does that refuses nothing.

    Gives the columns of `Candidates`, with images and hands counted within the set; and `files`,
    `labelled` and `unreadable`: the images' names and how many labelled hands and bad files there are.
    """
    rows: list[dict[str, object]] = []
    files, unreadable, labelled = [], [], 0
    for example, image in datasets.opened(source.images, source.name, unreadable):
        found = list(_estimates(image, datasets.camera_of(example, image), detector, estimator))
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
        if estimate is not None and not is_covered(estimate.box, hands):
            if estimate.presence >= PRESENT:
                hands.append(estimate)
            yield detection.score, estimate


def _judged(
    labels: Sequence[LabelledHand], found: Sequence[tuple[float, Estimate]], source: Source
) -> Iterator[dict[str, object]]:
    """What is known of the estimates in an image; nothing of those where nobody knows whether there is a hand.

    Of several on one labelled hand the nearest is right: the others are hands too many.
    """
    answers = datasets.match([estimate.hand for _, estimate in found], labels).of_labels
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
            "error": min((datasets.mean_error(estimate.hand, label) for label in labels), default=np.inf),
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
        found["uncertainty_mm"] = 1000 * hand.joints_uncertainty_m
        found["error_mm"] = 1000 * np.abs(joints_m - label.joints_m).mean(-1)
    return _UNKNOWN | found


# Whether the errors that are expected of joints are those that come: size, order, and how much they tell apart.

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


def uncertainty_scale(sets: Sequence[JointErrors], unit: Unit) -> float:
    """What makes expected errors as large as those that come, on average over the data sets; 1 without any."""
    ratios = [errors.actual.mean() / errors.expected.mean() for errors in sets if errors.unit == unit]
    return float(np.mean(ratios)) if ratios else 1.0


def spread_metrics(errors: JointErrors, scale: float = 1.0) -> list[Metric]:
    """Size, calibration, order and sharpness, with intervals; resampling draws whole images.

    scale: what expected errors are to be multiplied by.
    """

    def measured(name: str, unit: str, statistic: Callable[[np.ndarray, np.ndarray], float]) -> Metric:
        def of_drawn(times: np.ndarray) -> float:
            rows = np.repeat(np.arange(len(times)), times)
            return statistic(errors.expected[rows], errors.actual[rows])

        return image_metric(name, unit, errors.image, of_drawn, ROUNDS)

    def of_hands(said: np.ndarray, came: np.ndarray) -> float:
        """Which hand is worse?"""
        return rank_correlation(said.mean(1, keepdims=True), came.mean(1, keepdims=True))

    sharpness = "sharpness: spread of what is expected / its mean"
    return [
        measured("error that came", errors.unit, lambda said, came: float(came.mean())),
        measured("error expected", errors.unit, lambda said, came: float(said.mean())),
        measured("came / expected", "", lambda said, came: float(came.mean() / said.mean())),
        measured("calibration error (ENCE)", "%", normalised_error),
        measured("calibration error (ENCE), scaled", "%", lambda said, came: normalised_error(scale * said, came)),
        measured("rank correlation", "", lambda said, came: rank_correlation(said.reshape(-1, 1), came.reshape(-1, 1))),
        measured("rank correlation, hands", "", of_hands),
        measured("rank correlation, hands, joint by joint", "", rank_correlation),  # fingertips being harder is no help
        measured(sharpness, "", lambda said, came: float(said.std() / said.mean())),
    ]


# The models that make probabilities of what the networks say, and what they say of images that they were not fitted to.

RIDGE = 1.0
"""The penalty on squared weights, in candidates' worth of likelihood: it keeps them finite where all are told apart."""

FOLDS = 2
FOUND_TERMS = ("detector", "presence", "handedness_probability")
FOLLOWED_TERMS = ("presence", "handedness_probability")
SIDE_TERMS = ("handedness_probability",)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def fit_logistic(probabilities: Mapping[str, np.ndarray], right: np.ndarray, weight: np.ndarray) -> Logistic:
    """The model that makes (N,) `right` likeliest from (N,) `probabilities`, each row as often as its `weight` says.

    No weight of the model is negative: nobody should become less sure where a network becomes surer.
    """
    inputs = np.stack([np.ones(len(right)), *map(logit, probabilities.values())], axis=1)
    signs, fraction = np.where(right, 1.0, -1.0), weight * len(weight) / weight.sum()

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signs * (inputs @ parameters)
        penalty = np.concatenate([[0.0], RIDGE * parameters[1:]])
        slope = -signs * fraction * logistic(-margin)
        value = fraction @ np.logaddexp(0.0, -margin) + 0.5 * penalty @ parameters
        return float(value), slope @ inputs + penalty

    bounds = [(None, None), *[(0.0, None)] * len(probabilities)]
    bias, *weights = minimize(loss, np.zeros(inputs.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x.tolist()
    return Logistic(bias, dict(zip(probabilities, weights, strict=True)))


def held_out(
    probabilities: Mapping[str, np.ndarray], right: np.ndarray, weight: np.ndarray, image: np.ndarray, seed: int = 0
) -> np.ndarray:
    """(N,) what models say that were fitted to the other half of the images.

    image: (N,) whole numbers; what lies in one image lies in one half.
    """
    said = np.zeros(len(right))
    halves = np.random.default_rng(seed).permutation(image.max() + 1)[image] % FOLDS
    for half in range(FOLDS):
        rest, here = halves != half, halves == half
        model = fit_logistic({name: values[rest] for name, values in probabilities.items()}, right[rest], weight[rest])
        said[here] = model(**{name: values[here] for name, values in probabilities.items()})
    return said


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Models fitted to all N candidates, and what models fitted to the other half of the images say of each."""

    confidence: Confidence
    side: Logistic
    scores: list[Said]  # of different scores: that this is a hand, where the mesh says
    sides: list[Said]  # of right hands that are sure enough to be shown: that their side is right
    found: np.ndarray  # (N,) the probability on finding
    followed: np.ndarray  # (N,) the probability while following
    joints: list[JointErrors]  # of right hands that are shown
    scales: dict[Unit, float]  # what the errors that are expected of joints should be multiplied by


def calibrate(looked: Sequence[Looked], candidates: Candidates) -> Calibrated:
    """Fit all models; each data set has the same weight, shared by its images."""
    weight = np.array([1 / max(1, len(one.images)) for one in looked])[candidates.source]
    plain = Said("score so far (presence)", candidates.presence, candidates.right, weight, candidates.image)
    found, found_probability = _fit(candidates, FOUND_TERMS, plain)
    followed, followed_probability = _fit(candidates, FOLLOWED_TERMS, plain)
    on_finding = replace(plain, name="calibrated, on finding", probability=found_probability)
    following = replace(plain, name="calibrated, while following", probability=followed_probability)
    shown = found_probability >= HAND_SCORE
    side_before = replace(plain, probability=candidates.handedness_probability, right=candidates.side_correct)
    side_before = side_before.only(candidates.right & shown, "handedness_probability")
    side, side_probability = _fit(candidates, SIDE_TERMS, side_before, candidates.right & shown)
    sides = [side_before, replace(side_before, name="side, calibrated", probability=side_probability)]
    scores = [
        plain,
        replace(plain, name="detector's score", probability=candidates.detector),
        on_finding,
        following,
        plain.only(candidates.shown_so_far, f"{plain.name}, shown"),
        on_finding.only(shown, f"{on_finding.name}, shown"),
        following.only(followed_probability >= HAND_SCORE, f"{following.name}, shown"),
        *(on_finding.only(candidates.source == k, f"on finding, {one.name}") for k, one in enumerate(looked)),
    ]
    # It pays to look from a detector's score that one in two hundred right hands has less than, where hard synthetic
    # hands are among them; lower down there are as many places that the mesh network alone takes for hands.
    of_right = candidates.detector[candidates.right & shown]
    proposed = float(np.clip(np.quantile(of_right, 0.005), PROPOSED, THRESHOLD)) if len(of_right) else THRESHOLD
    joints = joint_errors(looked, candidates, shown)
    scales: dict[Unit, float] = {unit: uncertainty_scale(joints, unit) for unit in get_args(Unit)}
    confidence = Confidence(found, followed, proposed)
    return Calibrated(confidence, side, scores, sides, found_probability, followed_probability, joints, scales)


def _fit(
    candidates: Candidates, terms: Sequence[str], said: Said, rows: np.ndarray | slice = slice(None)
) -> tuple[Logistic, np.ndarray]:
    """The model of what came in `said`, which is of these rows, and what models of the other half say of each."""
    probabilities = {name: getattr(candidates, name)[rows] for name in terms}
    model = fit_logistic(probabilities, said.right, said.weight)
    return model, held_out(probabilities, said.right, said.weight, said.image)


def operating_points(
    looked: Sequence[Looked], candidates: Candidates, probability: np.ndarray
) -> dict[str, list[Metric]]:
    """What would be shown by the rule so far, and from each threshold of (N,) `probability` on: metrics of each data
    set."""
    rules = {"so far": candidates.shown_so_far} | {f"{limit:g}": probability >= limit for limit in THRESHOLDS}
    points: dict[str, list[Metric]] = {name: [] for name in rules}
    for (rule, shown), (k, data) in product(rules.items(), enumerate(looked)):
        of_data = shown & (candidates.source == k)
        right = of_data & candidates.right
        false = np.bincount(candidates.image[of_data & ~right], minlength=data.images.stop)[data.images]
        found = metric(f"{data.name}: hands found", 100 * np.isin(data.hands, candidates.hand[right]), "%")
        side = metric(f"{data.name}: side correct", 100 * candidates.side_correct[right], "%")
        points[rule] += [found] if data.hands else []
        points[rule].append(metric(f"{data.name}: false positives", 100 * false, "per 100 images"))
        points[rule] += [side] if data.hands else []
    return points


# Files and the report: tables, reliability diagrams, and expected against actual errors of joints.

Metrics = Mapping[str, Mapping[str, Sequence[Metric]]]
"""By what they are of (scores, sides, what is shown, joints), and by its name."""

_GREY = "#999999"


def mixture(looked: Sequence[Looked]) -> str:
    """What the probabilities refer to, for people."""
    sets = ", ".join(f"{one.name} ({len(one.images)} images)" for one in looked)
    return (
        f"all candidates that the detector gives at least {PROPOSED:g} in an image drawn with equal probability from "
        f"one of {len(looked)} data sets: {sets}; right: the nearest to a labelled hand, with a mean 2D "
        f"error of at most {FOUND_WITHIN:g} of its longer box side"
    )


def _as_json(
    setting: Setting, looked: Sequence[Looked], calibrated: Calibrated, metrics: Metrics
) -> dict[str, dict[str, object]]:
    """The contents of calibration.json, which goes into an exported file, and of metrics.json."""
    models = {"confidence": calibrated.confidence.as_metadata(), "side": calibrated.side.as_plain()}
    models |= {"uncertainty": calibrated.scales, "mixture": mixture(looked)}
    sets = [{"name": one.name, "images": len(one.images), "unreadable": one.unreadable} for one in looked]
    content = {"setting": setting.as_json(), "data": sets, **models}
    content |= {kind: {name: as_json(some) for name, some in each.items()} for kind, each in metrics.items()}
    networks = {"model_sha256": setting.model_sha256, "detector_sha256": setting.detector_sha256}
    return {"calibration.json": models | networks, "metrics.json": content}


def _columns(looked: Sequence[Looked], candidates: Candidates, calibrated: Calibrated) -> dict[str, np.ndarray]:
    """One row a candidate, for who wants to look closer."""
    plain = [f.name for f in fields(Candidates) if getattr(candidates, f.name).ndim == 1]
    return {
        "data": np.array([one.name for one in looked])[candidates.source],
        "file": np.array([name for one in looked for name in one.files])[candidates.image],
        **{name: getattr(candidates, name) for name in plain if name not in ("source", "image")},
        "found": calibrated.found,
        "followed": calibrated.followed,
    }


def _report(setting: Setting, looked: Sequence[Looked], calibrated: Calibrated, metrics: Metrics) -> Report:
    count = sum(len(one.images) for one in looked)
    judged = f"a hand, where the mesh says: candidates in {count} images, each judged by models of the other half"
    plots = {
        "reliability": _draw_reliability(judged, calibrated.scores[:4], metrics["scores"]),
        "side": _draw_reliability("the side of right hands that are shown", calibrated.sides, metrics["sides"]),
    }
    diagrams = [Image.of_figure(*one) for one in plots.items()]
    spread = [Image.of_figure("uncertainty", _draw_spreads(calibrated.joints))] if calibrated.joints else []
    said = _table("How often what is said comes true (95 % intervals)", {**metrics["scores"], **metrics["sides"]})
    shown = []
    for prefix in (f"{one.name}: " for one in looked):
        of_data = {
            rule: [one._replace(name=one.name.removeprefix(prefix)) for one in some if one.name.startswith(prefix)]
            for rule, some in metrics["shown"].items()
        }
        shown.append(_table(f"Shown of {prefix[:-2]} from each score on", of_data))
    errors = [
        Table(name, ["", "value", "of"], [[one.title, str(one), str(one.count)] for one in some])
        for name, some in metrics["joints"].items()
    ]
    return Report(
        title="Calibration of probabilities and expected errors",
        subtitle=f"{Path(setting.model).name} on {', '.join(one.name for one in looked)}",
        setting=setting.described() | _models_in_words(calibrated),
        sections=[
            Section("What is said comes true", [said], diagrams),
            Section("What would be shown", shown),
            Section("Errors expected of joints", errors, spread),
        ],
        notes=[mixture(looked)],
    )


def _table(title: str, rows: Mapping[str, Sequence[Metric]]) -> Table:
    """A row for each name, a column for each metric."""
    columns = ["", *(one.title for one in next(iter(rows.values()))), "of"]
    return Table(title, columns, [[name, *map(str, some), str(some[0].count)] for name, some in rows.items()])


def _models_in_words(calibrated: Calibrated) -> dict[str, str]:
    confidence = calibrated.confidence
    models = {"found": confidence.found, "followed": confidence.followed, "side": calibrated.side}
    told = {
        name: f"logit = {model.bias:.3f}" + "".join(f" + {w:.3f} logit({term})" for term, w in model.weights.items())
        for name, model in models.items()
    }
    told["look from"] = f"a detector's score of {confidence.proposed:.2f} on"
    factors = " and ".join(f"{scale:.3f} ({unit})" for unit, scale in calibrated.scales.items())
    return told | {"expected errors of joints": f"should be multiplied by {factors}"}


def _draw_reliability(title: str, scores: Sequence[Said], metrics: Mapping[str, Sequence[Metric]]) -> Figure:
    """A diagram of each score with its metrics, and under it how many candidates lie in each bin."""
    scores = [said for said in scores if len(said.probability)]
    figure, axes = panels(2, len(scores), (3.5 * len(scores), 5.4), sharex=True, height_ratios=(3, 1.3))
    for (upper, lower), said in zip(axes.T, scores, strict=True):
        bins, (width, mass, brier) = bins_of(said), metrics[said.name]
        probability, right, low, high = np.array([one[:4] for one in bins]).T
        upper.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
        upper.vlines(probability, low, high, color=COLOURS[0], linewidth=1.2, alpha=0.6)
        areas = 12 * (1 + np.log2([one.count for one in bins]))  # a bin of one candidate should not look like much
        upper.scatter(probability, right, s=areas, color=COLOURS[0], zorder=3)
        upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        values = f"ECE {width.value:.3f} ({width.low:.3f}-{width.high:.3f}), of equal mass {mass.value:.3f}"
        upper.set_title(f"{said.name}\n{values}\nBrier score {brier.value:.3f}", fontsize=8)
        counts, edges = np.histogram(said.probability, BINS, (0.0, 1.0))
        middles = (edges[:-1] + edges[1:]) / 2
        lower.grid(False)
        lower.bar(middles, counts, 0.92 / BINS, color=COLOURS[0], alpha=0.5)
        for k in np.flatnonzero(counts):
            lower.text(middles[k], counts[k], f" {counts[k]}", ha="center", va="bottom", fontsize=6, rotation=90)
        lower.set(yscale="log", ylim=(0.7, 12 * counts.max()), xlabel="predicted probability")
    axes[0, 0].set_ylabel("fraction that is right")
    axes[1, 0].set_ylabel("candidates")
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_spreads(sets: Sequence[JointErrors]) -> Figure:
    """For each set, expected against actual errors of all joints, and under it both joint by joint."""
    figure, axes = panels(2, len(sets), (3.9 * len(sets), 6.6), height_ratios=(3, 2))
    for (upper, lower), errors in zip(axes.T, sets, strict=True):
        said, came = binned(errors.expected, errors.actual)
        high = 1.1 * max(said.max(), came.max())
        upper.plot([0, high], [0, high], color=_GREY, linewidth=1, linestyle="--")
        upper.plot(said, came, color=COLOURS[0], marker="o", markersize=5, linewidth=1.2)
        upper.set(xlim=(0, high), ylim=(0, high), aspect="equal")
        upper.set(xlabel=f"expected, {errors.unit}", ylabel=f"came, {errors.unit}")
        upper.set_title(f"{errors.name}: {len(errors.image)} hands", fontsize=9)
        positions, means = np.arange(len(errors.joints)), errors.expected.mean(0)
        lower.grid(False)
        lower.bar(positions, errors.actual.mean(0), 0.7, color=_GREY, alpha=0.6, label="came")
        lower.plot(positions, means, color=COLOURS[0], marker="o", markersize=3, linewidth=1, label="expected")
        lower.set_xticks(positions, errors.joints, rotation=90, fontsize=7)
        lower.set_ylabel(errors.unit)
        lower.set_ylim(bottom=0)
        lower.legend(fontsize=7)
    figure.suptitle("errors of the joints of right hands that are shown", fontsize=10)
    return figure
