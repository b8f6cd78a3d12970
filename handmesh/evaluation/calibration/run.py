"""The whole calibration: data sets in; models, tables and plots in a folder out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from handmesh.data.photos import Photo, list_pictures, read_photos
from handmesh.data.shards import read_shards
from handmesh.evaluation.answers import FOUND_WITHIN, HAND_SCORE, Picture
from handmesh.evaluation.cache import ArrayCache
from handmesh.evaluation.calibration.candidates import PROPOSED, Candidates, Looked, Source, joined, look
from handmesh.evaluation.calibration.joints import JointErrors, Unit, joint_errors, spread_figures, spread_scale
from handmesh.evaluation.calibration.models import Calibrated, calibrate, operating_points
from handmesh.evaluation.calibration.options import CalibrationOptions
from handmesh.evaluation.calibration.plots import write_reliability, write_spreads
from handmesh.evaluation.calibration.reliability import figures_of
from handmesh.evaluation.figures import Figure
from handmesh.evaluation.files import write_csv, write_json
from handmesh.evaluation.pictures import RECOLOURINGS, from_files, from_photos, from_shards, recoloured
from handmesh.evaluation.report import cell, figures_as_json, folder_names, setting_of
from handmesh.runtime.backend import Session, open_session
from handmesh.runtime.detector import Detector
from handmesh.runtime.estimator import Estimator
from handmesh.runtime.models import model_path


def evaluate_calibration(options: CalibrationOptions) -> Calibrated:
    """Look at all pictures, fit, print, and write all to the output folder.

    What was seen of a data set is kept in the output folder, so that a killed run goes on. Raises
    CacheMismatch (a ValueError) where that folder holds what another model or other pictures gave.
    """
    session = open_session(model_path(options.model), "mesh", options.threads)
    setting = asdict(setting_of(model_path(options.model), session, options.threads, options.detector))
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
    detector = Detector(open_session(options.detector, "detector", options.threads))
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
    for figure in next(iter(rows.values())):
        table.add_column(_titled(figure), justify="right")
    table.add_column("of", justify="right")
    for name, figures in rows.items():
        table.add_row(name, *map(cell, figures), str(figures[0].count))
    return table


def _titled(figure: Figure) -> str:
    return f"{figure.name}, {figure.unit}" if figure.unit else figure.name
