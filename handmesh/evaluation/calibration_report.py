"""A whole calibration: data sets in; models that calibrate the probabilities, tables and plots in a folder out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from handmesh.assets import detector_path, model_path
from handmesh.data.photos import Photo, list_pictures, read_photos
from handmesh.data.shards import read_shards
from handmesh.detection import THRESHOLD, Detector
from handmesh.evaluation.calibration import (
    PRESENT,
    PROPOSED,
    CalibrationOptions,
    Candidates,
    JointErrors,
    Looked,
    Said,
    Source,
    Unit,
    figures_of,
    joined,
    joint_errors,
    look,
    spread_figures,
    spread_scale,
)
from handmesh.evaluation.datasets import (
    FOUND_WITHIN,
    HAND_SCORE,
    RECOLOURINGS,
    ArrayCache,
    Picture,
    from_files,
    from_photos,
    from_shards,
    recoloured,
)
from handmesh.evaluation.intervals import Figure, figure
from handmesh.evaluation.plots import write_reliability, write_spreads
from handmesh.evaluation.report import cell, figures_as_json, folder_names, setting_of
from handmesh.files import write_csv, write_json
from handmesh.geometry import logistic, logit
from handmesh.tracking.backends import Session, open_session
from handmesh.tracking.estimator import Confidence, Estimator, Logistic

# Fitting of the models that make chances of scores, and what they say of pictures that they were not fitted to.


RIDGE = 1.0
"""The penalty on squared weights, in candidates' worth of likelihood: it keeps them finite where all are told apart."""

FOLDS = 2


def fit_logistic(chances: Mapping[str, np.ndarray], right: np.ndarray, weight: np.ndarray) -> Logistic:
    """The model that makes (N,) `right` likeliest from (N,) `chances`, each row as often as its `weight` says.

    No weight of the model is negative: nobody should become less sure where a network becomes surer.
    """
    inputs = np.stack([np.ones(len(right)), *map(logit, chances.values())], axis=1)
    signs, share = np.where(right, 1.0, -1.0), weight * len(weight) / weight.sum()

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signs * (inputs @ parameters)
        penalty = np.concatenate([[0.0], RIDGE * parameters[1:]])
        slope = -signs * share * logistic(-margin)
        value = share @ np.logaddexp(0.0, -margin) + 0.5 * penalty @ parameters
        return float(value), slope @ inputs + penalty

    bounds = [(None, None), *[(0.0, None)] * len(chances)]
    bias, *weights = minimize(loss, np.zeros(inputs.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x.tolist()
    return Logistic(bias, dict(zip(chances, weights, strict=True)))


def held_out(
    chances: Mapping[str, np.ndarray], right: np.ndarray, weight: np.ndarray, picture: np.ndarray, seed: int = 0
) -> np.ndarray:
    """(N,) what models say that were fitted to the other half of the pictures.

    picture: (N,) whole numbers; what lies in one picture lies in one half.
    """
    said = np.zeros(len(right))
    halves = np.random.default_rng(seed).permutation(picture.max() + 1)[picture] % FOLDS
    for half in range(FOLDS):
        rest, here = halves != half, halves == half
        model = fit_logistic({name: values[rest] for name, values in chances.items()}, right[rest], weight[rest])
        said[here] = model(**{name: values[here] for name, values in chances.items()})
    return said


# The models that make chances of what the networks say, and all that they are held against.


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


# The whole calibration: data sets in; models, tables and plots in a folder out.


def evaluate_calibration(options: CalibrationOptions) -> Calibrated:
    """Look at all pictures, fit, print, and write all to the output folder.

    What was seen of a data set is kept in the output folder, so that a killed run goes on. Raises
    CacheMismatch (a ValueError) where that folder holds what another model or other pictures gave.
    """
    session = open_session(model_path(options.model), "mesh", options.threads)
    setting = asdict(setting_of(model_path(options.model), session, options.threads, detector_path(options.detector)))
    looked, candidates = joined(*_look(options, session, setting))
    calibrated = calibrate(looked, candidates)
    joints = joint_errors(looked, candidates, calibrated.found >= HAND_SCORE)
    scales: dict[Unit, float] = {unit: spread_scale(joints, unit) for unit in get_args(Unit)}
    results = Results(
        scores={said.name: figures_of(said) for said in calibrated.scores},
        sides={said.name: figures_of(said) for said in calibrated.sides},
        shown=operating_points(looked, candidates, calibrated.found),
        joints={errors.name: spread_figures(errors, scales[errors.unit]) for errors in joints},
        scales=scales,
    )
    _print(Console(), looked, calibrated, results)
    _write(options.output, setting, looked, calibrated, results)
    write_csv(options.output / "candidates.csv", _columns(looked, candidates, calibrated))
    _plot(options.output, looked, calibrated, results, joints)
    Console().print(f"written to {options.output}")
    return calibrated


class Results(NamedTuple):
    """Figures by the name of what they are of."""

    scores: Mapping[str, Sequence[Figure]]
    sides: Mapping[str, Sequence[Figure]]
    shown: Mapping[str, Sequence[Figure]]  # by the least score, of all data sets
    joints: Mapping[str, Sequence[Figure]]
    scales: Mapping[Unit, float]  # what the errors that are expected of joints should be multiplied by


def _look(
    options: CalibrationOptions, session: Session, setting: Mapping[str, object]
) -> tuple[list[str], list[dict[str, np.ndarray]]]:
    """The data sets' names and what was seen of each, now or before."""
    detector = Detector(open_session(detector_path(options.detector), "detector", options.threads))
    estimator, sources = Estimator(session), sources_of(options)
    asked = {name: setting[name] for name in ("model_sha256", "detector_sha256")} | {
        "split": options.split,
        "colours": options.colours,
    }
    asked |= {source.name: [len(source.pictures), source.pictures[0].name] for source in sources if source.pictures}
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

    def spread(pictures: Sequence[Picture]) -> list[Picture]:
        step = max(1, len(pictures) // options.limit) if options.limit else 1
        return list(pictures[::step][: options.limit])

    def photos(root: Path, hands: int) -> list[Photo]:
        return [photo for photo in read_photos(root, options.split) if len(photo.hands) >= hands]

    given = [
        *((root, from_photos(photos(root, 1))) for root in options.photos),
        *((root, from_photos(photos(root, 2))) for root in options.people),
        *((root, from_shards(read_shards(root))) for root in options.shards),
        *((root, from_files(list_pictures(root, options.split))) for root in options.backgrounds),
    ]
    made = options.shards

    def shown(root: Path, pictures: Sequence[Picture]) -> list[Picture]:
        chosen = spread(pictures)
        names = RECOLOURINGS if options.colours and root not in made else ()
        return chosen + [recoloured(picture, name) for name in names for picture in chosen]

    return [Source(names[root], shown(root, pictures), root not in made, root in made) for root, pictures in given]


def mixture(looked: Sequence[Looked]) -> str:
    """What the chances refer to, for people."""
    sets = ", ".join(f"{one.name} ({len(one.pictures)} pictures)" for one in looked)
    return (
        f"all places that the detector gives at least {PROPOSED:g} in a picture drawn with equal chance from one of "
        f"{len(looked)} data sets: {sets}; right: the nearest to a labelled hand, with a mean 2D "
        f"error of at most {FOUND_WITHIN:g} of its longer box side"
    )


def _write(
    folder: Path, setting: Mapping[str, object], looked: Sequence[Looked], calibrated: Calibrated, results: Results
) -> None:
    side = calibrated.side.as_plain()
    models = {"confidence": calibrated.confidence.as_metadata(), "side": side, "spread": dict(results.scales)}
    models |= {"mixture": mixture(looked)}
    networks = {name: setting[name] for name in ("model_sha256", "detector_sha256")}
    write_json(folder / "calibration.json", models | networks)
    sets = [{"name": one.name, "pictures": len(one.pictures), "unreadable": one.unreadable} for one in looked]
    figures = {
        kind: {name: figures_as_json(some) for name, some in of_kind.items()}
        for kind, of_kind in results._asdict().items()
        if kind != "scales"
    }
    write_json(folder / "metrics.json", {"setting": setting, "data": sets, **models, **figures})


def _plot(
    folder: Path, looked: Sequence[Looked], calibrated: Calibrated, results: Results, joints: Sequence[JointErrors]
) -> None:
    count = sum(len(one.pictures) for one in looked)
    title = f"a hand, where the mesh says: candidates in {count} pictures, each judged by models of the other half"
    write_reliability(folder / "reliability.png", title, calibrated.scores[:4], results.scores)
    write_reliability(folder / "side.png", "the side of right hands that are shown", calibrated.sides, results.sides)
    if joints:
        write_spreads(folder / "spread.png", "errors of the joints of right hands that are shown", joints)


def _columns(looked: Sequence[Looked], candidates: Candidates, calibrated: Calibrated) -> dict[str, np.ndarray]:
    """One row a candidate, for who wants to look closer."""
    files = np.array([name for one in looked for name in one.files])
    plain = [f.name for f in fields(Candidates) if getattr(candidates, f.name).ndim == 1]
    return {
        "data": np.array([one.name for one in looked])[candidates.source],
        "file": files[candidates.picture],
        **{name: getattr(candidates, name) for name in plain if name not in ("source", "picture")},
        "found": calibrated.found,
        "followed": calibrated.followed,
    }


def _print(console: Console, looked: Sequence[Looked], calibrated: Calibrated, results: Results) -> None:
    title = "How often what is said comes true (95 % intervals)"
    console.print(_table(title, {**results.scores, **results.sides}))
    for data in looked:
        own = {name: _of_data(some, data.name) for name, some in results.shown.items()}
        console.print(_table(f"Shown of {data.name} from each score on", own))
    for name, figures in results.joints.items():
        rows = {_titled(figure): [figure._replace(name="value", unit="")] for figure in figures}
        console.print(_table(name, rows))
    confidence = calibrated.confidence
    for name, model in {"found": confidence.found, "followed": confidence.followed, "side": calibrated.side}.items():
        weights = "".join(f" + {weight:.3f} logit({term})" for term, weight in model.weights.items())
        console.print(f"{name}: logit = {model.bias:.3f}{weights}", highlight=False)
    scales = " and ".join(f"{scale:.3f} ({unit})" for unit, scale in results.scales.items())
    console.print(f"look from a detector's score of {confidence.proposed:.2f} on", highlight=False)
    console.print(f"expected errors of joints should be multiplied by {scales}", highlight=False)
    console.print(mixture(looked), highlight=False)


def _of_data(figures: Sequence[Figure], name: str) -> list[Figure]:
    prefix = f"{name}: "
    return [one._replace(name=one.name.removeprefix(prefix)) for one in figures if one.name.startswith(prefix)]


def _table(title: str, rows: Mapping[str, Sequence[Figure]]) -> Table:
    """A row for each name, a column for each figure."""
    table = Table("", title=title)
    for column in next(iter(rows.values())):
        table.add_column(_titled(column), justify="right")
    table.add_column("of", justify="right")
    for name, figures in rows.items():
        table.add_row(name, *map(cell, figures), str(figures[0].count))
    return table


def _titled(figure: Figure) -> str:
    return f"{figure.name}, {figure.unit}" if figure.unit else figure.name
