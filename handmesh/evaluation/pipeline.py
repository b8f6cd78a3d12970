"""Whole evaluations: images in, a table on the screen, `metrics.json` and contact sheets in a folder out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console

from handmesh.assets import DETECTOR, detector_path, model_path
from handmesh.data.photos import MIN_SCORE, Photo, Split, labelled_folders, list_images, read_photos
from handmesh.data.shards import read_shards
from handmesh.detection import Detector
from handmesh.evaluation.datasets import (
    FOUND_WITHIN,
    RECOLOURINGS,
    Case,
    Example,
    Predict,
    Run,
    ask,
    folder_names,
    from_files,
    from_photos,
    from_shards,
    hard_cases_of,
    joined,
    recoloured,
    true_meshes,
    with_detected_boxes,
    with_given_boxes,
    without_unsure_labels,
)
from handmesh.evaluation.metrics import Metric
from handmesh.evaluation.report import Image, Report, Section, Setting, Table, setting_of
from handmesh.evaluation.review import case_sheet, false_positive_sheet
from handmesh.evaluation.scoring import (
    ALL_UNSEEN,
    COMBINED,
    NO_HANDS,
    PROTOCOLS,
    TRAINED_ON,
    UNSEEN,
    Boxes,
    Result,
    aligned_mm,
    all_unseen,
    answered,
    background_metrics,
    mean_error_2d,
    photo_metrics,
    photo_table,
    recoloured_metrics,
    synthetic_metrics,
    tables_of,
)
from handmesh.files import write_json
from handmesh.tracking.backends import Session, open_session
from handmesh.tracking.estimator import Estimator
from handmesh.tracking.tracker import HandTracker

NOTE = "3D errors are about the root (the middle finger's knuckle); PA-: after similarity alignment"

PHOTO_NOTE = (
    "2D errors are fractions of the longer side of the labelled box; tips along finger: negative is drawn too short; "
    f"combined: the mean 2D error, {FOUND_WITHIN} for a hand that is not found; "
    "in grey, swapped: hands found as a fraction of those found in colour; "
    f"labels that score below {MIN_SCORE} are left out; 95 % intervals are in metrics.json"
)

Which = Literal["given", "detected", "both"]


@dataclass(frozen=True)
class Options:
    """What all evaluations share."""

    model: str = "balanced"
    """A bundled network by name, or the path of an exported .onnx file."""
    detector: str = DETECTOR
    """The bundled detector by name, or the path of an exported .onnx file."""
    boxes: Which = "both"
    """Where the hands are: told (given), found by the product's own detector (detected), or both in turn."""
    limit: int | None = None
    """Take the first so many images of each data set. Default: all."""
    output: Path = Path("outputs/evaluation")
    """Folder for the report, metrics.json and the contact sheets."""
    threads: int | None = None
    """Cores that the network may use. Default: all but one."""
    num_hands: int = 2
    """The most hands that the tracker may find in an image."""


@dataclass(frozen=True)
class SyntheticOptions(Options):
    """Errors of joints and meshes on synthetic shards, each folder by itself, and each kind of image of a hard set."""

    shards: tuple[Path, ...] = ()
    """Folders of shard-*.tar that the network was not trained on."""


@dataclass(frozen=True)
class BackgroundOptions(Options):
    """Hands seen in images without any."""

    root: Path = Path("data/backgrounds")
    """Folder of images."""
    split: Split = "val"
    """The held-out files (val), those for training, or all."""


@dataclass(frozen=True)
class PhotoOptions(Options):
    """Finding and placing of labelled hands in photographs: those that are trained on, and those that never are.

    Ends with `combined`, the number to decide by: the mean 2D error over all unseen hands, a fraction of
    the longer side of the labelled box; a hand that the whole tracker does not find counts as 0.5.
    """

    root: tuple[Path, ...] = ()
    """Folders of labelled photographs that are trained on, of which `split` is taken. A folder has a
    pseudo_labels.json, or its sub-folders do."""
    unseen: tuple[Path, ...] = ()
    """Folders of labelled photographs that are never trained on: all their images are taken, and
    their hands together give the number to decide by."""
    backgrounds: Path | None = None
    """A folder of images without hands, of which `split` is taken."""
    split: Split = "val"
    """The held-out files (val), those for training, or all."""
    colours: bool = False
    """Look again at images in grey and with red and blue swapped, and say how many hands are still found."""


class Job(NamedTuple):
    """A data set, and what to measure on it."""

    data: str
    examples: Sequence[Example]
    metrics: Callable[[Run], list[Metric]]
    rank_by: Callable[[Sequence[Case]], np.ndarray]  # (N,) of answered cases, orders the contact sheet
    unit: str
    boxes: Sequence[Boxes]
    part_of: Mapping[str, str] = {}  # by the image's name, where the images are of several kinds
    group: str = ""
    recolourings: Sequence[str] = ()  # in which to look again with the detector


class Done(NamedTuple):
    """A job under one crop protocol."""

    job: Job
    boxes: Boxes
    run: Run
    recoloured: Mapping[str, Run] = {}


def evaluate_photos(options: PhotoOptions) -> list[Result]:
    """Score on folders of labelled photographs, each by itself and all unseen ones together; see `data.photos`.

    Labels that score below `photos.MIN_SCORE` are left out. Raises ValueError for options that do not go
    together, among them a folder that is named twice.
    """
    if not (options.root or options.unseen):
        raise ValueError("no data sets: name at least one folder of labelled photographs with --root or --unseen")
    if options.colours and options.boxes == "given":
        raise ValueError("--colours asks what the detector finds: take --boxes detected or both")
    trained_on = [folder for root in options.root for folder in labelled_folders(root)]
    unseen = [folder for root in options.unseen for folder in labelled_folders(root)]
    folders = [*trained_on, *unseen, *([options.backgrounds] if options.backgrounds else [])]
    _check_named_once(folders)
    names = dict(zip(folders, folder_names(folders), strict=True))
    jobs = [
        *(_photo_job(names[folder], read_photos(folder, options.split), TRAINED_ON, options) for folder in trained_on),
        *(_photo_job(names[folder], read_photos(folder, "all"), UNSEEN, options) for folder in unseen),
    ]
    if options.backgrounds:
        jobs.append(_background_job(names[options.backgrounds], options.backgrounds, options.split))
    results = _evaluate(jobs, options, _photo_tables, PHOTO_NOTE)
    _print_combined(results)
    return results


def _photo_tables(setting: Setting, results: Sequence[Result]) -> list[Table]:
    """One table of all sets on the screen; their intervals in the report."""
    title = f"{Path(setting.model).name} with {Path(setting.detector).name}"
    return [photo_table(title, results), *(table._replace(on_screen=False) for table in tables_of(results))]


def _print_combined(results: Sequence[Result]) -> None:
    """The unseen sets together, and last the number to decide by; nothing where there are none."""
    if (pooled := all_unseen(results)) is None:
        return
    console, combined = Console(), pooled.metric(COMBINED)
    found, side = (pooled.metric(name) for name in ("hands found", "side correct"))
    said = f"found {found} %, side correct {side} %, combined {combined}; 95 % intervals"
    console.print(f"{ALL_UNSEEN}, {combined.count} hands: {said}", highlight=False)
    console.print(f"[bold]combined (unseen): {combined.value:.3f}[/]", highlight=False)


def _check_named_once(folders: Sequence[Path]) -> None:
    paths = [folder.resolve() for folder in folders]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"{path} is named twice: a folder is either trained on, unseen or without hands")


def _photo_job(name: str, photos: Sequence[Photo], group: str, options: PhotoOptions) -> Job:
    recolourings = tuple(RECOLOURINGS) if options.colours else ()
    boxes = _each(options.boxes)
    return Job(name, from_photos(photos), photo_metrics, mean_error_2d, "", boxes, {}, group, recolourings)


def evaluate_synthetic(options: SyntheticOptions) -> list[Result]:
    """Score on folders of synthetic shards, each by itself, whose meshes are known; see `data.shards`."""
    if not options.shards:
        raise ValueError("no data sets: name at least one folder of shard-*.tar with --shards")
    named = zip(folder_names(options.shards), options.shards, strict=True)
    return _evaluate([_synthetic_job(*one, options) for one in named], options)


def _synthetic_job(name: str, folder: Path, options: Options) -> Job:
    shards = read_shards(folder, options.limit, progress=True)
    metrics = partial(synthetic_metrics, truth=true_meshes(shards))
    return Job(name, from_shards(shards), metrics, aligned_mm, " mm", _each(options.boxes), hard_cases_of(shards))


def evaluate_backgrounds(options: BackgroundOptions) -> list[Result]:
    """Count the hands seen in images that have none, by the whole product."""
    return _evaluate([_background_job(options.root.resolve().name, options.root, options.split)], options)


def _background_job(name: str, root: Path, split: Split) -> Job:
    examples = from_files(list_images(root, split))
    return Job(name, examples, background_metrics, mean_error_2d, "", ["none"], group=NO_HANDS)


def _each(boxes: Which) -> list[Boxes]:
    return ["given", "detected"] if boxes == "both" else [boxes]


Tables = Callable[[Setting, Sequence[Result]], list[Table]]


def _tables(setting: Setting, results: Sequence[Result]) -> list[Table]:
    model = Path(setting.model).name
    return [table._replace(title=f"{model} on {table.title}") for table in tables_of(results)]


def _evaluate(jobs: Sequence[Job], options: Options, tables: Tables = _tables, note: str = "") -> list[Result]:
    """Do all jobs under all their protocols, write and print; the metrics are on disk before the next job begins."""
    model, detector = model_path(options.model), detector_path(options.detector)
    mesh = open_session(model, "mesh", options.threads)
    finder = open_session(detector, "detector", options.threads)
    setting = setting_of(model, mesh, options.threads, detector)
    results: list[Result] = []
    sheets: list[Image] = []
    for boxes in PROTOCOLS:
        of_protocol = [job for job in jobs if boxes in job.boxes]
        answer = _predict(boxes, mesh, finder, options) if of_protocol else None
        unseen: list[Done] = []
        for job in of_protocol:
            done = _do(job, boxes, answer, options.limit)
            results += [_result(done), *_part_results(done)]
            unseen += [done] if job.group == UNSEEN else []
            sheets += _sheets(done)
            write_json(options.output / "metrics.json", _as_json(setting, results))
        if unseen:
            results.append(_result(_pooled(unseen)))
    report = _report(setting, results, tables(setting, results), sheets, note)
    report.write(options.output, {"metrics.json": _as_json(setting, results)})
    report.print(Console())
    Console().print(f"written to {options.output}: report.html, report.md, metrics.json and contact sheets")
    return results


def _as_json(setting: Setting, results: Sequence[Result]) -> dict[str, object]:
    content = {"setting": setting.as_json(), "note": NOTE}
    content["reports"] = [result.as_json(setting.box_scale) for result in results]
    pooled = all_unseen(results)
    return content | ({"combined": pooled.metric(COMBINED).value} if pooled else {})


def _report(
    setting: Setting, results: Sequence[Result], tables: Sequence[Table], sheets: Sequence[Image], note: str
) -> Report:
    used = dict.fromkeys(result.boxes for result in results)
    described = {f"boxes {boxes}": PROTOCOLS[boxes].format(box_scale=setting.box_scale) for boxes in used}
    bad = {result.data: result.unreadable for result in results if result.unreadable}
    return Report(
        title="Hands found, placed and posed",
        subtitle=f"{Path(setting.model).name} on {', '.join(dict.fromkeys(result.data for result in results))}",
        setting=described | setting.described(),
        sections=[
            Section("Metrics", tables),
            Section("Best, median and worst", (), sheets, "Above what is labelled, below what was predicted."),
        ],
        warnings=[f"{data}: images that could not be read: {count}" for data, count in bad.items()],
        notes=[NOTE, *([note] if note else [])],
    )


def _do(job: Job, boxes: Boxes, answer: Predict, limit: int | None) -> Done:
    what, examples = f"{job.data}, boxes {boxes}", job.examples[:limit]

    def look(examples: Sequence[Example], what: str) -> Run:
        return without_unsure_labels(ask(answer, examples, what))

    again = job.recolourings if boxes == "detected" else ()
    others = {name: look([recoloured(example, name) for example in examples], f"{what}, {name}") for name in again}
    return Done(job, boxes, look(examples, what), others)


def _pooled(unseen: Sequence[Done]) -> Done:
    """The hands of several data sets as those of one."""
    first = unseen[0]
    others = {name: joined([done.recoloured[name] for done in unseen]) for name in first.recoloured}
    return Done(first.job._replace(data=ALL_UNSEEN), first.boxes, joined([done.run for done in unseen]), others)


def _predict(boxes: Boxes, mesh: Session, finder: Session, options: Options) -> Predict:
    if boxes == "given":
        return with_given_boxes(Estimator(mesh))
    return with_detected_boxes(HandTracker(Estimator(mesh), Detector(finder), options.num_hands))


def _result(done: Done, part: str = "") -> Result:
    job, boxes, run, recoloured = done
    metrics = (*job.metrics(run), *recoloured_metrics(run, recoloured))
    hands = len(answered(run.cases))
    return Result(job.data, boxes, len(run.said), hands, len(run.unreadable), metrics, part, job.group)


def _part_results(done: Done) -> list[Result]:
    """One for each kind of image, in the order of their names."""
    part_of = done.job.part_of
    said = {part: [one for one in done.run.said if part_of.get(one[0].name) == part] for part in part_of.values()}
    return [_result(Done(done.job, done.boxes, Run(said[part])), part) for part in sorted(said) if said[part]]


def _sheets(done: Done) -> list[Image]:
    """The contact sheet, where there is something to show."""
    job, boxes, run, _ = done
    sheet = (
        case_sheet(run.cases, _rank(run.cases, job), job.unit)
        if run.cases
        else false_positive_sheet(run.false_positives)
    )
    name = f"{job.data}-{boxes}"
    return [] if sheet is None else [Image.of_image(name, sheet, f"{job.data}, boxes {boxes}")]


def _rank(cases: Sequence[Case], job: Job) -> np.ndarray:
    """(N,) what the job ranks by; not a number where there was no answer."""
    has_hand = np.array([case.answer.hand is not None for case in cases])
    values = np.full(len(cases), np.nan)
    values[has_hand] = job.rank_by(answered(cases))
    return values
