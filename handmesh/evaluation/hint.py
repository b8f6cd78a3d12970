"""HInt's measure: how many of 21 labelled points are found, those in view and those that are hidden (PCK).

As in HaMeR's evaluation (https://github.com/geopavlakos/hamer, `EvaluatorPCK`): a point is found where it lies no
farther from its label than a fraction of the hand's size; the fraction found is taken of each of the 21 points, over
the hands in which it counts, and then the mean of these. The hand's side is given, and the box that it is shown in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import cv2
import numpy as np
import tyro

from handmesh import skeleton
from handmesh.crop import crop_affine, warp
from handmesh.data.sets.hint import FOLDERS, read_hint
from handmesh.data.sets.table import HandTable, SetError
from handmesh.evaluation.datasets import ArrayCache
from handmesh.evaluation.hands import dependencies, read_hands, reader_of, reading_setting, short_name
from handmesh.evaluation.metrics import Metric, as_json, image_metric
from handmesh.evaluation.predictor import (
    CropPredictor,
    PredictOptions,
    Predictor,
    ReadingOptions,
    View,
    open_predictor,
)
from handmesh.evaluation.report import Headline, Image, Report, Section, Table, heat_map
from handmesh.evaluation.review import best_median_worst, tiled
from handmesh.geometry import apply_affine, project
from handmesh.types import Box, Camera

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THRESHOLDS = (0.05, 0.1, 0.15)
"""Of the hand's size, as in the paper."""

TITLES = {"newdays": "New Days", "epick": "VISOR", "ego4d": "Ego4D"}
SHOWN, SHOWN_PX, MARGIN = 6, 192, 1.6

Size = Literal["keypoints", "box"]


@dataclass(frozen=True)
class HintOptions(ReadingOptions):
    """PCK on HInt's test images: New Days, VISOR and Ego4D; all points, those in view, hidden ones; with a report."""

    root: tyro.conf.Positional[Path]
    """HInt's folder, which holds TEST_newdays_img and the others."""
    folders: tuple[str, ...] = FOLDERS[:3]
    """Which of its folders to measure on; those without images are left out with a warning."""
    size: Size = "keypoints"
    """What a distance is a fraction of: the longer side of the upright rectangle around the labelled points, or of the
    labelled box, which is about a quarter wider and gives higher numbers."""
    output: Path = Path("outputs/hint")
    """Folder for the report, metrics.json, samples.csv and the predictions."""


class Scored(NamedTuple):
    """One folder's hands and how far off their points are."""

    title: str
    table: HandTable
    predicted_px: np.ndarray  # (N, 21, 2); NaN where the network's numbers were no hand
    distances: np.ndarray  # (N, 21) in sizes of the hand; infinite without a prediction

    @property
    def kinds(self) -> dict[str, np.ndarray]:
        """(N, 21) bool: which points count, by what is measured. Points that do not exist never do."""
        exists = np.isfinite(self.table.joints_px).all(-1)
        return {"all": exists, "visible": exists & self.table.visible, "occluded": exists & ~self.table.visible}


def evaluate_hint(options: HintOptions) -> list[Metric]:
    """Measure as the options say; the metrics, which are also written.

    Raises ValueError (SetError, CacheMismatch, ModelFileError ...) for what cannot be done.
    """
    crop = options.predict_options.crop
    if crop not in ("gt-keypoints", "given-box"):
        raise ValueError(
            f"the crop {crop!r} does not know which of an image's hands HInt labels: take --crop given-box"
        )
    tables, warnings = _tables(options)
    predictor = open_predictor(options.model, options.hand_model, options.device, options.threads)
    reader = reader_of(options, predictor)
    scored = []
    for folder, table in tables.items():
        kept = dependencies(predictor, options.predict_options) | {"data": str(options.root.resolve())}
        cache = ArrayCache(options.output / "predictions" / folder, kept, options.overwrite)
        scored.append(_score(folder, table, predict(table, options.predict_options, reader, cache), options.size))
    metrics = [metric for one in scored for metric in metrics_of(one)]
    warnings += [
        f"In {missed} images of {one.title} the network's numbers were no hand; all points of these are missed."
        for one in scored
        if (missed := int(np.isnan(one.predicted_px).all((1, 2)).sum()))
    ]
    setting = _setting(options, tables, predictor)
    content = {"setting": setting, "notes": warnings, "metrics": as_json(metrics)}
    _report(options, scored, metrics, setting, warnings).publish(
        options.output, {"metrics.json": content, "samples.csv": _samples(scored)}
    )
    return metrics


def _tables(options: HintOptions) -> tuple[dict[str, HandTable], list[str]]:
    """The folders that can be measured on, and why others cannot. SetError where none can."""
    unknown = [folder for folder in options.folders if folder not in FOLDERS]
    if unknown or not options.folders:
        raise ValueError(f"unknown folders {unknown} of HInt; choose from {', '.join(FOLDERS)}")
    tables, reasons = {}, []
    for folder in options.folders:
        try:
            table = read_hint(options.root, folder)
        except SetError as error:
            reasons.append(str(error))
        else:
            tables[folder] = table.rows(np.arange(min(options.limit or len(table), len(table))))
    if not tables:
        raise SetError(reasons[0])
    return tables, reasons


def predict(table: HandTable, options: PredictOptions, reader: CropPredictor, cache: ArrayCache) -> np.ndarray:
    """(N, 21, 2) the joints of each hand's mesh in its image, NaN where the network's numbers are no hand; what the
    cache holds is not done again."""
    cameras = [Camera.from_fov(*size) for size in table.camera[:, 4:].astype(int).tolist()]  # as the tracker assumes

    def view(i: int) -> View:
        labelled = table.joints_px[i][np.isfinite(table.joints_px[i]).all(-1)]
        around = labelled if options.crop == "gt-keypoints" else table.box[i].reshape(2, 2)
        return View(table.image(i), cameras[i], around, table.side(i))

    seen = read_hands(view, len(table), reader, cache)
    joints = zip(seen.joints_m, cameras, seen.is_hand, strict=True)
    nowhere = np.full((21, 2), np.nan)
    return np.stack([project(points, camera) if there else nowhere for points, camera, there in joints])


# Scores.


def _score(folder: str, table: HandTable, predicted_px: np.ndarray, size: Size) -> Scored:
    title = TITLES[folder.split("_")[1]] + ("" if folder.endswith("_img") else ", sequences")
    distances = distances_of(predicted_px, table.joints_px, table.box if size == "box" else None)
    return Scored(title, table, predicted_px, distances)


def distances_of(predicted_px: np.ndarray, joints_px: np.ndarray, box: np.ndarray | None = None) -> np.ndarray:
    """(N, 21) distances between (N, 21, 2) points in sizes of each hand: NaN where a point has no label, infinite where
    it has one and there is no prediction.

    The size is the longer side of the (N, 4) box (left, top, right, bottom) or, without one, of the upright rectangle
    around the labelled points.
    """
    if box is None:
        box = np.concatenate([np.nanmin(joints_px, 1), np.nanmax(joints_px, 1)], axis=1)
    size = (box[:, 2:] - box[:, :2]).max(1).astype(np.float64)
    distances = np.linalg.norm(predicted_px.astype(np.float64) - joints_px, axis=-1) / size[:, None]
    labelled = np.isfinite(joints_px).all(-1)
    return np.where(labelled, np.where(np.isnan(distances), np.inf, distances), np.nan)


def pck(distances: np.ndarray, counts: np.ndarray, threshold: float, times: np.ndarray | None = None) -> float:
    """The mean over points of the fraction of hands in which a point is found.

    distances: (N, J); counts: (N, J) bool, which points count; times: (N,) how often each hand does (None: once).
    Points that count nowhere are left out; not a number where none counts.
    """
    of_points = pck_of_points(distances, counts, threshold, times)
    return float(np.mean(of_points[np.isfinite(of_points)])) if np.isfinite(of_points).any() else float("nan")


def pck_of_points(
    distances: np.ndarray, counts: np.ndarray, threshold: float, times: np.ndarray | None = None
) -> np.ndarray:
    """(J,) the fraction of each point; see `pck`."""
    times = np.ones(len(distances)) if times is None else times
    counted, found = times @ counts, times @ (counts & (distances <= threshold))
    return np.divide(found, counted, out=np.full(counts.shape[1], np.nan), where=counted > 0)


def metrics_of(scored: Scored) -> list[Metric]:
    """PCK in percent by what counts and by threshold, with 95 % intervals by bootstrap over images."""
    images = np.unique(scored.table.images, return_inverse=True)[1]

    def percent(times: np.ndarray, counts: np.ndarray, threshold: float) -> float:
        return 100 * pck(scored.distances, counts, threshold, times)

    return [
        image_metric(f"{scored.title}, {kind} @{threshold:g}", "%", images,
                     partial(percent, counts=counts, threshold=threshold))
        for kind, counts in scored.kinds.items()
        for threshold in THRESHOLDS
    ]  # fmt: skip


# The report.


def _setting(options: HintOptions, tables: dict[str, HandTable], predictor: Predictor) -> dict[str, str]:
    counts = ", ".join(f"{len(table):,} of {folder}" for folder, table in tables.items())
    around = "labelled points" if options.size == "keypoints" else "labelled box"
    setting = reading_setting(options, predictor, f"{options.root.resolve().name}: {counts}")
    return setting | {"hand's side": "given", "hand's size": f"the longer side of its {around}"}


def _samples(scored: Sequence[Scored]) -> dict[str, np.ndarray]:
    means = [np.nanmean(one.distances, axis=1) for one in scored]
    return {
        "image": np.concatenate([one.table.images for one in scored]).astype(str),
        "mean distance": np.concatenate(means),
        "points": np.concatenate([one.kinds["all"].sum(1) for one in scored]),
        "visible": np.concatenate([one.kinds["visible"].sum(1) for one in scored]),
    }


def _report(
    options: HintOptions, scored: Sequence[Scored], metrics: Sequence[Metric], setting: dict[str, str],
    warnings: list[str],
) -> Report:  # fmt: skip
    by_name = {one.name: one for one in metrics}
    rows = []
    for one in scored:
        for kind, counts in one.kinds.items():
            numbers = [by_name[f"{one.title}, {kind} @{threshold:g}"] for threshold in THRESHOLDS]
            rows.append([one.title, kind, f"{int(counts.sum()):,}", *map(str, numbers)])
    columns = ("images of", "points", "count", *(f"PCK @{threshold:g}, %" for threshold in THRESHOLDS))
    note = (
        "The mean over 21 points of the fraction found, as HaMeR's evaluation takes it; 95 % intervals by bootstrap "
        "over images. Published numbers are of sizes in HaMeR's own metadata, which HInt lacks: compare with care."
    )
    sections = [
        Section("Points found", [Table("", columns, rows, words=2, note=note)]),
        Section("Point by point", (), [Image.of_figure("joints", _by_joint(scored))]),
        *(Section(f"Best, median and worst of {one.title}", (), _cases(one), _LEGEND) for one in scored),
    ]
    first = scored[0].title
    return Report(
        title="Hands in HInt's images",
        subtitle=f"{short_name(options.model)}: points found within fractions of the hand's size",
        setting=setting,
        sections=sections,
        headline=[Headline(f"{first}, all points, {metric.name.split()[-1]}", f"{metric.value:.1f}", "%")
                  for metric in metrics[: len(THRESHOLDS)]],
        warnings=warnings,
    )  # fmt: skip


def _by_joint(scored: Sequence[Scored]) -> Figure:
    """PCK @0.1 of all points: fingers by joints, a map each folder."""
    grids = []
    for one in scored:
        of = dict(zip(skeleton.KEYPOINTS, 100 * pck_of_points(one.distances, one.kinds["all"], 0.1), strict=True))
        grids.append([[of[f"{finger}{k}"] for k in (1, 2, 3, 4)] for finger in skeleton.FINGERS])
    unit = "found @0.1, %; joint 1 is the one nearest to the wrist"
    return heat_map(np.array(grids), skeleton.FINGERS, ["1", "2", "3", "tip"], [one.title for one in scored], unit)


_LEGEND = "Green: labelled and in view; red: labelled and hidden; each joined to where it was found."


def _cases(one: Scored) -> list[Image]:
    chosen, name = best_median_worst(np.nanmean(one.distances, axis=1), SHOWN), one.title.lower().replace(",", "")
    return [
        Image.of_image(f"{name} {which}", tiled([_case(one, i) for i in rows], 3), which)
        for which, rows in chosen.items()
        if rows
    ]


def _case(one: Scored, i: int) -> tuple[np.ndarray, str]:
    """A square of the image around a hand, its labels and what was found; and how far off it is."""
    labelled = np.isfinite(one.table.joints_px[i]).all(-1)
    box = Box.around(one.table.joints_px[i][labelled], MARGIN, rotation=False)
    affine = crop_affine(box, SHOWN_PX)
    picture = warp(one.table.image(i), affine, SHOWN_PX)
    truth, found = (apply_affine(affine, points) for points in (one.table.joints_px[i], one.predicted_px[i]))
    for joint in np.flatnonzero(labelled):
        colour = (60, 200, 90) if one.table.visible[i, joint] else (230, 60, 60)
        if np.isfinite(found[joint]).all():
            cv2.line(picture, _pixel(truth[joint]), _pixel(found[joint]), colour, 1, cv2.LINE_AA)
        cv2.circle(picture, _pixel(truth[joint]), 3, colour, -1, cv2.LINE_AA)
    return picture, f"{one.table.image_path(i).stem[-24:]}, {np.nanmean(one.distances[i]):.3f}"


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return tuple(np.clip(np.round(point), -10_000, 10_000).astype(int).tolist())
