"""A whole calibration: data sets in; models that calibrate the probabilities, tables and plots in a folder out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from scipy.optimize import minimize

from handmesh.assets import detector_path, model_path
from handmesh.data.photos import Photo, list_images, read_photos
from handmesh.data.shards import read_shards
from handmesh.detection import THRESHOLD, Detector
from handmesh.evaluation.calibration import (
    BINS,
    PRESENT,
    PROPOSED,
    CalibrationOptions,
    Candidates,
    JointErrors,
    Looked,
    Said,
    Source,
    Unit,
    binned,
    bins_of,
    joined,
    joint_errors,
    look,
    metrics_of,
    spread_metrics,
    uncertainty_scale,
)
from handmesh.evaluation.datasets import (
    FOUND_WITHIN,
    HAND_SCORE,
    RECOLOURINGS,
    ArrayCache,
    Example,
    folder_names,
    from_files,
    from_photos,
    from_shards,
    recoloured,
)
from handmesh.evaluation.metrics import Metric, as_json, metric
from handmesh.evaluation.report import COLOURS, Image, Report, Section, Setting, Table, setting_of
from handmesh.geometry import logistic, logit
from handmesh.tracking.backends import Session, open_session
from handmesh.tracking.estimator import Confidence, Estimator, Logistic

# Fitting of the models that make probabilities of scores, and what they say of images that they were not fitted to.


RIDGE = 1.0
"""The penalty on squared weights, in candidates' worth of likelihood: it keeps them finite where all are told apart."""

FOLDS = 2


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


# The models that make probabilities of what the networks say, and all that they are held against.


FOUND_TERMS = ("detector", "presence", "handedness_probability")
FOLLOWED_TERMS = ("presence", "handedness_probability")
SIDE_TERMS = ("handedness_probability",)

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Models fitted to all candidates, and what models fitted to the other half of the images say of each."""

    confidence: Confidence
    side: Logistic
    scores: list[Said]  # of different scores: that this is a hand, where the mesh says
    sides: list[Said]  # of right hands that are sure enough to be shown: that their side is right
    found: np.ndarray  # (N,) the probability on finding
    followed: np.ndarray  # (N,) the probability while following


def calibrate(looked: Sequence[Looked], candidates: Candidates) -> Calibrated:
    """Fit all models; each data set has the same weight, shared by its images."""
    weight = np.array([1 / max(1, len(one.images)) for one in looked])[candidates.source]
    plain = Said("score so far (presence)", candidates.presence, candidates.right, weight, candidates.image)
    everything = np.ones(len(weight), bool)
    found, found_probability = _fit(candidates, FOUND_TERMS, everything, plain)
    followed, followed_probability = _fit(candidates, FOLLOWED_TERMS, everything, plain)
    on_finding = replace(plain, name="calibrated, on finding", probability=found_probability)
    following = replace(plain, name="calibrated, while following", probability=followed_probability)
    side, sides = _calibrate_side(candidates, plain, candidates.right & (found_probability >= HAND_SCORE))
    scores = [
        plain,
        replace(plain, name="detector's score", probability=candidates.detector),
        on_finding,
        following,
        plain.only(shown_so_far(candidates), f"{plain.name}, shown"),
        on_finding.only(found_probability >= HAND_SCORE, f"{on_finding.name}, shown"),
        following.only(followed_probability >= HAND_SCORE, f"{following.name}, shown"),
        *(on_finding.only(candidates.source == k, f"on finding, {one.name}") for k, one in enumerate(looked)),
    ]
    confidence = Confidence(found, followed, _proposed(candidates, found_probability))
    return Calibrated(confidence, side, scores, sides, found_probability, followed_probability)


def _proposed(candidates: Candidates, probability: np.ndarray) -> float:
    """The detector's score from which it pays to look: of the right hands that are shown, one in a thousand has less
    (a hundred would do for images like those that it learnt from: the detector is fainter on strangers')."""
    shown = candidates.detector[candidates.right & (probability >= HAND_SCORE)]
    return float(np.clip(np.quantile(shown, 0.001), PROPOSED, THRESHOLD)) if len(shown) else THRESHOLD


def shown_so_far(candidates: Candidates) -> np.ndarray:
    """(N,) what a tracker without calibration shows: each network sure enough by itself."""
    return (candidates.detector >= THRESHOLD) & (candidates.presence >= PRESENT)


def _fit(candidates: Candidates, terms: Sequence[str], rows: np.ndarray, said: Said) -> tuple[Logistic, np.ndarray]:
    """The model of what came in `said`, which is of these rows, and what models of the other half say of each."""
    probabilities = {name: getattr(candidates, name)[rows] for name in terms}
    return fit_logistic(probabilities, said.right, said.weight), held_out(
        probabilities, said.right, said.weight, said.image
    )


def _calibrate_side(candidates: Candidates, plain: Said, rows: np.ndarray) -> tuple[Logistic, list[Said]]:
    before = replace(plain, probability=candidates.handedness_probability, right=candidates.side_correct).only(
        rows, "handedness_probability"
    )
    model, probability = _fit(candidates, SIDE_TERMS, rows, before)
    return model, [before, replace(before, name="side, calibrated", probability=probability)]


def operating_points(
    looked: Sequence[Looked], candidates: Candidates, probability: np.ndarray
) -> dict[str, list[Metric]]:
    """What would be shown by the rule so far, and from each threshold of (N,) `probability` on: metrics of each data
    set."""
    rules = {"so far": shown_so_far(candidates)} | {f"{limit:g}": probability >= limit for limit in THRESHOLDS}
    points: dict[str, list[Metric]] = {name: [] for name in rules}
    for k, data in enumerate(looked):
        for name, shown in rules.items():
            points[name] += _point(data, candidates, shown & (candidates.source == k))
    return points


def _point(data: Looked, candidates: Candidates, shown: np.ndarray) -> list[Metric]:
    right = shown & candidates.right
    found = np.isin(data.hands, candidates.hand[right])
    false = np.bincount(candidates.image[shown & ~right], minlength=data.images.stop)[data.images]
    metrics = [metric(f"{data.name}: false positives", 100 * false, "per 100 images")]
    if len(data.hands):
        metrics.insert(0, metric(f"{data.name}: hands found", 100 * found, "%"))
        metrics.append(metric(f"{data.name}: side correct", 100 * candidates.side_correct[right], "%"))
    return metrics


# The whole calibration: data sets in; models, tables and plots in a folder out.


def evaluate_calibration(options: CalibrationOptions) -> Calibrated:
    """Look at all images, fit, print, and write all to the output folder.

    What was seen of a data set is kept in the output folder, so that a killed run goes on. Raises
    CacheMismatch (a ValueError) where that folder holds what another model or other images gave.
    """
    session = open_session(model_path(options.model), "mesh", options.threads)
    setting = setting_of(model_path(options.model), session, options.threads, detector_path(options.detector))
    looked, candidates = joined(*_look(options, session, setting))
    calibrated = calibrate(looked, candidates)
    joints = joint_errors(looked, candidates, calibrated.found >= HAND_SCORE)
    scales: dict[Unit, float] = {unit: uncertainty_scale(joints, unit) for unit in get_args(Unit)}
    results = Results(
        scores={said.name: metrics_of(said) for said in calibrated.scores},
        sides={said.name: metrics_of(said) for said in calibrated.sides},
        shown=operating_points(looked, candidates, calibrated.found),
        joints={errors.name: spread_metrics(errors, scales[errors.unit]) for errors in joints},
        scales=scales,
    )
    report = _report(setting, looked, calibrated, results, joints)
    columns = {"candidates.csv": _columns(looked, candidates, calibrated)}
    report.write(options.output, _as_json(setting, looked, calibrated, results) | columns)
    report.print(Console())
    Console().print(f"written to {options.output}: report.html, report.md, calibration.json, metrics.json and more")
    return calibrated


class Results(NamedTuple):
    """Metrics by the name of what they are of."""

    scores: Mapping[str, Sequence[Metric]]
    sides: Mapping[str, Sequence[Metric]]
    shown: Mapping[str, Sequence[Metric]]  # by the least score, of all data sets
    joints: Mapping[str, Sequence[Metric]]
    scales: Mapping[Unit, float]  # what the errors that are expected of joints should be multiplied by


def _look(
    options: CalibrationOptions, session: Session, setting: Setting
) -> tuple[list[str], list[dict[str, np.ndarray]]]:
    """The data sets' names and what was seen of each, now or before."""
    detector = Detector(open_session(detector_path(options.detector), "detector", options.threads))
    estimator, sources = Estimator(session), sources_of(options)
    asked = {name: getattr(setting, name) for name in ("model_sha256", "detector_sha256")} | {
        "split": options.split,
        "colours": options.colours,
    }
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


def sources_of(options: CalibrationOptions) -> list[Source]:
    """The data sets by the names of their folders."""
    folders = [*options.photos, *options.people, *options.shards, *options.backgrounds]
    names = dict(zip(folders, folder_names(folders), strict=True))

    def spread(images: Sequence[Example]) -> list[Example]:
        step = max(1, len(images) // options.limit) if options.limit else 1
        return list(images[::step][: options.limit])

    def photos(root: Path, hands: int) -> list[Photo]:
        return [photo for photo in read_photos(root, options.split) if len(photo.hands) >= hands]

    given = [
        *((root, from_photos(photos(root, 1))) for root in options.photos),
        *((root, from_photos(photos(root, 2))) for root in options.people),
        *((root, from_shards(read_shards(root))) for root in options.shards),
        *((root, from_files(list_images(root, options.split))) for root in options.backgrounds),
    ]
    made = options.shards

    def shown(root: Path, images: Sequence[Example]) -> list[Example]:
        chosen = spread(images)
        names = RECOLOURINGS if options.colours and root not in made else ()
        return chosen + [recoloured(image, name) for name in names for image in chosen]

    return [Source(names[root], shown(root, images), root not in made, root in made) for root, images in given]


def mixture(looked: Sequence[Looked]) -> str:
    """What the probabilities refer to, for people."""
    sets = ", ".join(f"{one.name} ({len(one.images)} images)" for one in looked)
    return (
        f"all candidates that the detector gives at least {PROPOSED:g} in an image drawn with equal probability from "
        f"one of "
        f"{len(looked)} data sets: {sets}; right: the nearest to a labelled hand, with a mean 2D "
        f"error of at most {FOUND_WITHIN:g} of its longer box side"
    )


def _as_json(
    setting: Setting, looked: Sequence[Looked], calibrated: Calibrated, results: Results
) -> dict[str, dict[str, object]]:
    """The contents of calibration.json, which goes into an exported file, and of metrics.json."""
    side = calibrated.side.as_plain()
    models = {"confidence": calibrated.confidence.as_metadata(), "side": side, "uncertainty": dict(results.scales)}
    models |= {"mixture": mixture(looked)}
    networks = {name: getattr(setting, name) for name in ("model_sha256", "detector_sha256")}
    sets = [{"name": one.name, "images": len(one.images), "unreadable": one.unreadable} for one in looked]
    metrics = {
        kind: {name: as_json(some) for name, some in of_kind.items()}
        for kind, of_kind in results._asdict().items()
        if kind != "scales"
    }
    content = {"setting": setting.as_json(), "data": sets, **models, **metrics}
    return {"calibration.json": models | networks, "metrics.json": content}


def _columns(looked: Sequence[Looked], candidates: Candidates, calibrated: Calibrated) -> dict[str, np.ndarray]:
    """One row a candidate, for who wants to look closer."""
    files = np.array([name for one in looked for name in one.files])
    plain = [f.name for f in fields(Candidates) if getattr(candidates, f.name).ndim == 1]
    return {
        "data": np.array([one.name for one in looked])[candidates.source],
        "file": files[candidates.image],
        **{name: getattr(candidates, name) for name in plain if name not in ("source", "image")},
        "found": calibrated.found,
        "followed": calibrated.followed,
    }


# The report: tables, reliability diagrams, and expected against actual errors of joints.


def _report(
    setting: Setting,
    looked: Sequence[Looked],
    calibrated: Calibrated,
    results: Results,
    joints: Sequence[JointErrors],
) -> Report:
    count = sum(len(one.images) for one in looked)
    title = f"a hand, where the mesh says: candidates in {count} images, each judged by models of the other half"
    scores = Image.of_figure("reliability", draw_reliability(title, calibrated.scores[:4], results.scores))
    title = "the side of right hands that are shown"
    sides = Image.of_figure("side", draw_reliability(title, calibrated.sides, results.sides))
    title = "errors of the joints of right hands that are shown"
    spread = [Image.of_figure("uncertainty", draw_spreads(title, joints))] if joints else []
    points = [_table(f"Shown of {data.name} from each score on", _of_data(results.shown, data.name)) for data in looked]
    said = _table("How often what is said comes true (95 % intervals)", {**results.scores, **results.sides})
    return Report(
        title="Calibration of probabilities and expected errors",
        subtitle=f"{Path(setting.model).name} on {', '.join(one.name for one in looked)}",
        setting=setting.described() | _models_in_words(calibrated, results.scales),
        sections=[
            Section("What is said comes true", [said], [scores, sides]),
            Section("What would be shown", points),
            Section("Errors expected of joints", [_joint_table(*one) for one in results.joints.items()], spread),
        ],
        notes=[mixture(looked)],
    )


def _of_data(shown: Mapping[str, Sequence[Metric]], data: str) -> dict[str, list[Metric]]:
    prefix = f"{data}: "
    return {
        rule: [one._replace(name=one.name.removeprefix(prefix)) for one in some if one.name.startswith(prefix)]
        for rule, some in shown.items()
    }


def _table(title: str, rows: Mapping[str, Sequence[Metric]]) -> Table:
    """A row for each name, a column for each metric."""
    columns = ["", *(one.title for one in next(iter(rows.values()))), "of"]
    return Table(title, columns, [[name, *map(str, some), str(some[0].count)] for name, some in rows.items()])


def _joint_table(title: str, metrics: Sequence[Metric]) -> Table:
    return Table(title, ["", "value", "of"], [[one.title, str(one), str(one.count)] for one in metrics])


def _models_in_words(calibrated: Calibrated, scales: Mapping[Unit, float]) -> dict[str, str]:
    confidence = calibrated.confidence
    models = {"found": confidence.found, "followed": confidence.followed, "side": calibrated.side}
    told = {
        name: f"logit = {model.bias:.3f}" + "".join(f" + {w:.3f} logit({term})" for term, w in model.weights.items())
        for name, model in models.items()
    }
    told["look from"] = f"a detector's score of {confidence.proposed:.2f} on"
    factors = " and ".join(f"{scale:.3f} ({unit})" for unit, scale in scales.items())
    return told | {"expected errors of joints": f"should be multiplied by {factors}"}


_GREY = "#999999"


def draw_reliability(title: str, scores: Sequence[Said], metrics: Mapping[str, Sequence[Metric]]) -> Figure:
    """A diagram of each score with its metrics, and under it how many candidates lie in each bin."""
    scores = [said for said in scores if len(said.probability)]
    figure = Figure(figsize=(3.5 * len(scores), 5.4), layout="constrained")
    axes = figure.subplots(2, len(scores), sharex=True, squeeze=False, height_ratios=(3, 1.3))
    for k, said in enumerate(scores):
        _draw_diagram(axes[0, k], said, metrics[said.name])
        _draw_counts(axes[1, k], said)
    axes[0, 0].set_ylabel("fraction that is right")
    axes[1, 0].set_ylabel("candidates")
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_diagram(axes: Axes, said: Said, metrics: Sequence[Metric]) -> None:
    bins = bins_of(said)
    probability, right, low, high = np.array([one[:4] for one in bins]).T
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
    axes.vlines(probability, low, high, color=COLOURS[0], linewidth=1.2, alpha=0.6)
    areas = 12 * (1 + np.log2([one.count for one in bins]))  # a bin of a single candidate should not look like much
    axes.scatter(probability, right, s=areas, color=COLOURS[0], zorder=3)
    width, mass, brier = metrics
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    values = f"ECE {width.value:.3f} ({width.low:.3f}-{width.high:.3f}), of equal mass {mass.value:.3f}"
    axes.set_title(f"{said.name}\n{values}\nBrier score {brier.value:.3f}", fontsize=8)
    axes.grid(color="#eeeeee")


def _draw_counts(axes: Axes, said: Said) -> None:
    counts, edges = np.histogram(said.probability, BINS, (0.0, 1.0))
    axes.bar((edges[:-1] + edges[1:]) / 2, counts, 0.92 / BINS, color=COLOURS[0], alpha=0.5)
    for k in np.flatnonzero(counts):
        axes.text(
            (edges[k] + edges[k + 1]) / 2, counts[k], f" {counts[k]}", ha="center", va="bottom", fontsize=6, rotation=90
        )
    axes.set(yscale="log", ylim=(0.7, 12 * counts.max()), xlabel="predicted probability")


def draw_spreads(title: str, sets: Sequence[JointErrors]) -> Figure:
    """For each set, expected against actual errors of all joints, and under it both joint by joint."""
    figure = Figure(figsize=(3.9 * len(sets), 6.6), layout="constrained")
    axes = figure.subplots(2, len(sets), squeeze=False, height_ratios=(3, 2))
    for k, errors in enumerate(sets):
        _draw_binned(axes[0, k], errors)
        _draw_joints(axes[1, k], errors)
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_binned(axes: Axes, errors: JointErrors) -> None:
    said, came = binned(errors.expected, errors.actual)
    high = 1.1 * max(said.max(), came.max())
    axes.plot([0, high], [0, high], color=_GREY, linewidth=1, linestyle="--")
    axes.plot(said, came, color=COLOURS[0], marker="o", markersize=5, linewidth=1.2)
    axes.set(xlim=(0, high), ylim=(0, high), aspect="equal")
    axes.set(xlabel=f"expected, {errors.unit}", ylabel=f"came, {errors.unit}")
    axes.set_title(f"{errors.name}: {len(errors.image)} hands", fontsize=9)
    axes.grid(color="#eeeeee")


def _draw_joints(axes: Axes, errors: JointErrors) -> None:
    positions = np.arange(len(errors.joints))
    axes.bar(positions, errors.actual.mean(0), 0.7, color=_GREY, alpha=0.6, label="came")
    axes.plot(
        positions, errors.expected.mean(0), color=COLOURS[0], marker="o", markersize=3, linewidth=1, label="expected"
    )
    axes.set_xticks(positions, errors.joints, rotation=90, fontsize=7)
    axes.set_ylabel(errors.unit)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
