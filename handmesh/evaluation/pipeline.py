"""Whole evaluations: images in; metrics with intervals, a report, `metrics.json` and contact sheets in a folder out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console

from handmesh import skeleton
from handmesh.assets import DETECTOR, detector_path, model_path
from handmesh.data.photos import MIN_SCORE, LabelledHand, Split, labelled_folders, list_images, read_photos
from handmesh.data.shards import read_shards
from handmesh.detection import Detector
from handmesh.evaluation import datasets
from handmesh.evaluation.beside import MEDIAPIPE, PYTHON, MediaPipe
from handmesh.evaluation.datasets import Case, Example, Mesh, Predict, Run
from handmesh.evaluation.metrics import (
    FOUND_WITHIN,
    Metric,
    align,
    as_json,
    bootstrap,
    errors,
    errors_2d,
    mesh_errors,
    metric,
    tip_errors_along_finger,
)
from handmesh.evaluation.report import Image, Report, Section, Setting, Table, setting_of
from handmesh.evaluation.review import case_sheet, false_positive_sheet
from handmesh.files import write_json
from handmesh.tracking.backends import Session, open_session
from handmesh.tracking.estimator import Estimator
from handmesh.tracking.tracker import HandTracker

Which = Literal["given", "detected", "both"]
Boxes = Literal["given", "detected", "none"]

PROTOCOLS: dict[Boxes, str] = {
    "given": "turned square around the labelled joints x {box_scale}, told which side; errors over all labelled hands",
    "detected": "the product's own detector in the whole image; errors over the hands found",
    "none": "the product's own detector; no hand is in any image",
}

TRAINED_ON, UNSEEN, NO_HANDS = "trained on", "unseen", "without hands"
"""Groups of data sets."""

ALL_UNSEEN = "all unseen"
"""What the hands of all unseen data sets together are called."""

COMBINED = "combined"
"""The name of the metric to decide by."""

PCK_FRACTION = 0.2

TIP_FRACTION = 0.1
"""A fingertip is right within this fraction of the longer box side."""

NOTE = "3D errors are about the root (the middle finger's knuckle); PA-: after similarity alignment"

FOUND_BY_ALL = "found by all"
"""What errors are called that are over the hands which all who are judged beside each other found."""

JUDGE_NOTE = "Labels that MediaPipe made itself, as those of most photographs here, favour it: it is judge and judged."

PHOTO_NOTE = (
    "2D errors are fractions of the longer side of the labelled box; tips along finger: negative is drawn too short; "
    f"combined: the mean 2D error, {FOUND_WITHIN} for a hand that is not found; "
    "in grey, swapped: hands found as a fraction of those found in colour; "
    f"labels that score below {MIN_SCORE} are left out; 95 % intervals are in metrics.json"
)


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
    beside: tuple[str, ...] = ()
    """Judge others on the same images, too: mediapipe for MediaPipe Hands, which detects; or what --model takes."""
    beside_python: Path = PYTHON
    """The Python of an environment of its own in which mediapipe==0.10.21 is installed."""

    @property
    def protocols(self) -> list[Boxes]:
        """Those of data sets with labelled hands."""
        return ["given", "detected"] if self.boxes == "both" else [self.boxes]


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


# The metrics of what was said of a data set's hands.


def answered(cases: Sequence[Case]) -> list[Case]:
    """The cases with a hand to measure."""
    return [case for case in cases if case.answer.hand is not None]


def case_errors_2d(cases: Sequence[Case]) -> np.ndarray:
    """(N, 21) 2D errors of answered cases, as a fraction of the longer box side."""
    if not cases:
        return np.zeros((0, 21))
    return errors_2d([c.answer.hand.joints_px for c in cases], [c.label.joints_px for c in cases])


def mean_error_2d(cases: Sequence[Case]) -> np.ndarray:
    """(N,) mean 2D error of each answered case."""
    return case_errors_2d(cases).mean(1)


def aligned_mm(cases: Sequence[Case]) -> np.ndarray:
    """(N,) PA-MPJPE of answered cases against the labels' own 3D joints."""
    if not cases:
        return np.zeros(0)
    truth = np.stack([case.label.joints_m for case in cases])
    return 1000 * errors(align([case.answer.hand.joints_m for case in cases], truth), truth).mean(1)


def combined_errors(cases: Sequence[Case]) -> np.ndarray:
    """(N,) mean 2D error of each labelled hand as a fraction of the longer box side, FOUND_WITHIN if it is not found.

    Its mean is one number for finding and placing. Over several data sets it is the mean over all their
    hands together, so that each hand weighs the same, not each set.
    """
    found = np.array([case.answer.found for case in cases], bool)
    combined = np.full(len(cases), FOUND_WITHIN)
    combined[found] = mean_error_2d([case for case in cases if case.answer.found])
    return combined


def photo_metrics(run: Run) -> list[Metric]:
    """How many labelled hands are found, and how well those are placed, posed and told apart."""
    cases = answered(run.cases)
    tips = case_errors_2d(cases)[:, list(skeleton.KEYPOINT_TIPS)]
    joints_px = [(case.answer.hand.joints_px, case.label.joints_px) for case in cases]
    along = tip_errors_along_finger(*zip(*joints_px, strict=True)).mean(1) if cases else []
    return [
        *_placing_metrics(run),
        metric("PA-MPJPE (weak 3D)", aligned_mm(cases), "mm"),
        metric(f"all fingertips within {TIP_FRACTION}", 100 * (tips <= TIP_FRACTION).all(1), "%"),
        metric("fingertips along the finger", along, "of box"),
        metric(COMBINED, combined_errors(run.cases), "of box"),
        metric("extra hands", 100 * _extra_counts(run), "per 100 images"),
        _time_metric(run),
    ]


def synthetic_metrics(run: Run, truth: Mapping[str, Mesh]) -> list[Metric]:
    """As for photographs, and the official errors of joints and mesh about the root.

    truth: the true mesh by the name of the image.
    """
    mesh = _mesh_errors(answered(run.cases), truth)
    return [
        *_placing_metrics(run),
        *(metric(name, values, "mm" if "MP" in name else "") for name, values in mesh.items()),
        metric("extra hands", 100 * _extra_counts(run), "per 100 images"),
        _time_metric(run),
    ]


def _mesh_errors(cases: Sequence[Case], truth: Mapping[str, Mesh]) -> dict[str, np.ndarray]:
    """(N,) errors of answered cases by their names; those of joints alone where there are no meshes."""
    if not cases:
        return {}
    true = [truth[case.example.name] for case in cases]
    if any(isinstance(case.answer.hand, LabelledHand) for case in cases):
        joints_m = np.stack([case.answer.hand.joints_m for case in cases])
        raw_m = errors(joints_m - joints_m[:, [skeleton.ROOT]], [mesh.joints_m for mesh in true])
        return {"MPJPE": 1000 * raw_m.mean(1), "PA-MPJPE": aligned_mm(cases)}
    hands = [datasets.about_root(case.answer.hand.joints_m, case.answer.hand.vertices_m) for case in cases]
    return mesh_errors(*zip(*hands, strict=True), *zip(*true, strict=True)).per_sample()


def background_metrics(run: Run) -> list[Metric]:
    """How often hands are seen where there are none."""
    counts = _extra_counts(run)
    return [
        metric("false positives", 100 * counts, "per 100 images"),
        metric("images with a false positive", 100 * (counts > 0), "%"),
        _time_metric(run),
    ]


def _placing_metrics(run: Run) -> list[Metric]:
    cases = answered(run.cases)
    in_image = case_errors_2d(cases)
    return [
        metric("hands found", [100 * case.answer.found for case in run.cases], "%"),
        metric("side correct", [100.0 * case.answer.side_correct for case in cases], "%"),
        metric("2D error, median", in_image.mean(1), "of box", median=True),
        metric("2D error, mean", in_image.mean(1), "of box"),
        metric(f"PCK@{PCK_FRACTION}", 100 * (in_image <= PCK_FRACTION).mean(1), "%"),
    ]


def _extra_counts(run: Run) -> np.ndarray:
    """(P,) hands that nobody labelled, of the images in which they were looked for."""
    return np.array([len(answers.extra) for _, answers in run.said if answers.extra is not None])


def _time_metric(run: Run) -> Metric:
    return metric("time an image, median", [answers.time_ms for _, answers in run.said], "ms", median=True)


def _found_relative(name: str, in_colour: Run, other: Run) -> Metric:
    """Of the same images in other colours, the hands found as a fraction of those found in colour."""
    pairs = zip(in_colour.cases, other.cases, strict=True)
    found = np.array([(one.answer.found, another.answer.found) for one, another in pairs], float)

    def ratio(found: np.ndarray, axis: int = 0) -> float:
        before, after = found.sum(axis)
        return after / before if before else math.nan

    unit = "of those in colour"
    if not found.any():
        return metric(name, [], unit)
    return Metric(name, ratio(found), *bootstrap(found, ratio), unit, len(found))


# What is measured on which data set, and the loop over all of it.


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


@dataclass(frozen=True)
class Result:
    """The metrics of one data set under one crop protocol."""

    data: str
    boxes: Boxes
    images: int  # that were looked at
    hands: int  # labelled ones that got an answer
    unreadable: int  # images that were not, because they do not decode
    metrics: tuple[Metric, ...]
    part: str = ""  # which of its images, where these are not all
    group: str = ""  # of data sets, where they are told apart
    by: str = ""  # who found the hands, where it is not the network that is evaluated

    def metric(self, name: str) -> Metric | None:
        """The metric of that name, if there is one."""
        return next((one for one in self.metrics if one.name == name), None)

    def as_json(self, box_scale: float) -> dict[str, object]:
        """For metrics.json."""
        protocol = PROTOCOLS[self.boxes].format(box_scale=box_scale)
        fields = {"data": self.data, "boxes": self.boxes, "protocol": protocol, "images": self.images}
        fields |= {name: getattr(self, name) for name in ("part", "group", "by") if getattr(self, name)}
        return fields | {"hands": self.hands, "unreadable": self.unreadable, "metrics": as_json(self.metrics)}


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
    paths = [folder.resolve() for folder in folders]
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise ValueError(f"{twice[0]} is named twice: a folder is either trained on, unseen or without hands")
    names = dict(zip(folders, datasets.folder_names(folders), strict=True))
    colours = tuple(datasets.RECOLOURINGS) if options.colours else ()

    def job(folder: Path, split: Split, group: str) -> Job:
        examples, boxes = datasets.from_photos(read_photos(folder, split)), options.protocols
        return Job(names[folder], examples, photo_metrics, mean_error_2d, "", boxes, {}, group, colours)

    jobs = [job(folder, options.split, TRAINED_ON) for folder in trained_on]
    jobs += [job(folder, "all", UNSEEN) for folder in unseen]
    if options.backgrounds:
        jobs.append(_background_job(names[options.backgrounds], options.backgrounds, options.split))
    results = _evaluate(jobs, options, photos=True)
    if pooled := all_unseen(results):
        combined = pooled.metric(COMBINED)
        found, side = (pooled.metric(name) for name in ("hands found", "side correct"))
        said = f"found {found} %, side correct {side} %, combined {combined}; 95 % intervals"
        Console().print(f"{ALL_UNSEEN}, {combined.count} hands: {said}", highlight=False)
        Console().print(f"[bold]combined (unseen): {combined.value:.3f}[/]", highlight=False)
    return results


def evaluate_synthetic(options: SyntheticOptions) -> list[Result]:
    """Score on folders of synthetic shards, each by itself, whose meshes are known; see `data.shards`."""
    if not options.shards:
        raise ValueError("no data sets: name at least one folder of shard-*.tar with --shards")
    jobs = []
    for name, folder in zip(datasets.folder_names(options.shards), options.shards, strict=True):
        shards = read_shards(folder, options.limit, progress=True)
        metrics, kinds = partial(synthetic_metrics, truth=datasets.true_meshes(shards)), datasets.hard_cases_of(shards)
        jobs.append(Job(name, datasets.from_shards(shards), metrics, aligned_mm, " mm", options.protocols, kinds))
    return _evaluate(jobs, options)


def evaluate_backgrounds(options: BackgroundOptions) -> list[Result]:
    """Count the hands seen in images that have none, by the whole product."""
    return _evaluate([_background_job(options.root.resolve().name, options.root, options.split)], options)


def _background_job(name: str, root: Path, split: Split) -> Job:
    examples = datasets.from_files(list_images(root, split))
    return Job(name, examples, background_metrics, mean_error_2d, "", ["none"], group=NO_HANDS)


def all_unseen(results: Sequence[Result]) -> Result | None:
    """All unseen hands together, looked for by the detector: its `COMBINED` is the number to decide by."""
    wanted = (ALL_UNSEEN, "detected", "")
    return next((result for result in results if (result.data, result.boxes, result.by) == wanted), None)


Judged = Mapping[str, Callable[[Boxes], Predict | None]]
"""By name, '' for the network that is evaluated, who answers under a protocol; None where it cannot."""


class Looked(NamedTuple):
    """What one of the judged said of a data set."""

    run: Run
    recoloured: Mapping[str, Run]  # by recolouring, of the same images


def _evaluate(jobs: Sequence[Job], options: Options, photos: bool = False) -> list[Result]:
    """Do all jobs under all their protocols, write and print; the metrics are on disk before the next job begins."""
    model, detector = model_path(options.model), detector_path(options.detector)
    mesh, finder = open_session(model, "mesh", options.threads), open_session(detector, "detector", options.threads)
    setting = setting_of(model, mesh, options.threads, detector)
    results: list[Result] = []
    sheets: list[Image] = []
    with ExitStack() as stack:
        judged, others = _judged(mesh, finder, options, stack)
        for boxes in PROTOCOLS:
            of_protocol = [job for job in jobs if boxes in job.boxes]
            unseen: list[dict[str, Looked]] = []
            answers = {by: answer for by, one in judged.items() if of_protocol and (answer := one(boxes))}
            for job in of_protocol:
                looked = {by: _look(job, boxes, by, answer, options.limit) for by, answer in answers.items()}
                results += _results(job, boxes, looked)
                unseen += [looked] if job.group == UNSEEN else []
                sheets += _sheets(job, boxes, looked[""].run)
                write_json(options.output / "metrics.json", _as_json(setting, others, results))
            if unseen:
                pooled = next(job for job in of_protocol if job.group == UNSEEN)._replace(data=ALL_UNSEEN, part_of={})
                results += _results(pooled, boxes, {by: _joined([one[by] for one in unseen]) for by in answers})
    report = _report(setting, others, results, sheets, photos)
    report.publish(options.output, {"metrics.json": _as_json(setting, others, results)})
    return results


def _judged(mesh: Session, finder: Session, options: Options, stack: ExitStack) -> tuple[Judged, dict[str, str]]:
    """All who are judged, and what those beside are, in words; `stack` closes them."""
    judged: dict[str, Callable[[Boxes], Predict | None]] = {"": partial(_answerer, mesh, finder, options)}
    others: dict[str, str] = {}
    for name in options.beside:
        if name.lower() == MEDIAPIPE.lower():
            mediapipe = stack.enter_context(MediaPipe(options.beside_python, options.num_hands))
            answer = datasets.with_mediapipe(mediapipe)
            judged[MEDIAPIPE] = lambda boxes, answer=answer: None if boxes == "given" else answer
            others[MEDIAPIPE] = (
                f"Hands {mediapipe.version}, full model, static images, {options.num_hands} hands asked for"
            )
        else:
            path = model_path(name)
            session = open_session(path, "mesh", options.threads)
            judged[path.stem] = partial(_answerer, session, finder, options)
            others[path.stem] = setting_of(path, session, options.threads).described()["model"]
    return judged, others


def _answerer(mesh: Session, finder: Session, options: Options, boxes: Boxes) -> Predict:
    if boxes == "given":
        return datasets.with_given_boxes(Estimator(mesh))
    return datasets.with_detected_boxes(HandTracker(Estimator(mesh), Detector(finder), options.num_hands))


def _look(job: Job, boxes: Boxes, by: str, answer: Predict, limit: int | None) -> Looked:
    """What is said of the images, and of them in other colours."""
    examples, what = job.examples[:limit], f"{job.data}, boxes {boxes}{by and f', {by}'}"

    def look(some: Sequence[Example], what: str) -> Run:
        return datasets.without_unsure_labels(datasets.ask(answer, some, what))

    colours = job.recolourings if boxes == "detected" else ()
    others = {one: look([datasets.recoloured(image, one) for image in examples], f"{what}, {one}") for one in colours}
    return Looked(look(examples, what), others)


def _joined(looked: Sequence[Looked]) -> Looked:
    others = {name: datasets.joined([one.recoloured[name] for one in looked]) for name in looked[0].recoloured}
    return Looked(datasets.joined([one.run for one in looked]), others)


def _results(job: Job, boxes: Boxes, looked: Mapping[str, Looked]) -> list[Result]:
    """One for each of the judged, and for each kind of image."""
    results = []
    for by, (run, recoloured) in looked.items():
        relative = [_found_relative(f"hands found {name}", run, one) for name, one in recoloured.items()]
        shared = (
            _shared_metrics([one.run.cases for one in looked.values()], run.cases)
            if len(looked) > 1 and run.cases
            else []
        )
        results.append(_result(job, boxes, run, by, [*relative, *shared]))
        results += _part_results(job, boxes, run, by)
    return results


def _shared_metrics(of_all: Sequence[Sequence[Case]], own: Sequence[Case]) -> list[Metric]:
    """Errors over the hands that all of them found: who finds hard hands is not the worse for it."""
    everybody = np.all([[case.answer.found for case in cases] for cases in of_all], axis=0)
    cases = answered([case for case, found in zip(own, everybody, strict=True) if found])
    return [
        metric(f"2D error, {FOUND_BY_ALL}", mean_error_2d(cases), "of box"),
        metric(f"PA-MPJPE, {FOUND_BY_ALL}", aligned_mm(cases), "mm"),
    ]


def _result(job: Job, boxes: Boxes, run: Run, by: str, more: Sequence[Metric] = (), part: str = "") -> Result:
    metrics, hands = (*job.metrics(run), *more), len(answered(run.cases))
    return Result(job.data, boxes, len(run.said), hands, len(run.unreadable), metrics, part, job.group, by)


def _part_results(job: Job, boxes: Boxes, run: Run, by: str) -> list[Result]:
    """One for each kind of image, in the order of their names."""
    parts = {part: [one for one in run.said if job.part_of.get(one[0].name) == part] for part in job.part_of.values()}
    return [_result(job, boxes, Run(parts[part]), by, part=part) for part in sorted(parts) if parts[part]]


def _sheets(job: Job, boxes: Boxes, run: Run) -> list[Image]:
    """The contact sheet, where there is something to show."""
    if cases := run.cases:
        errors = np.full(len(cases), np.nan)
        errors[[case.answer.hand is not None for case in cases]] = job.rank_by(answered(cases))
        sheet = case_sheet(cases, errors, job.unit)
    else:
        sheet = false_positive_sheet(run.false_positives)
    return [] if sheet is None else [Image.of_image(f"{job.data}-{boxes}", sheet, f"{job.data}, boxes {boxes}")]


# The results as JSON, in tables and in a report.


def _as_json(setting: Setting, others: Mapping[str, str], results: Sequence[Result]) -> dict[str, object]:
    reports = [result.as_json(setting.box_scale) for result in results]
    pooled = all_unseen(results)
    combined = {"combined": pooled.metric(COMBINED).value} if pooled else {}
    beside = {"beside": dict(others)} if others else {}
    return {"setting": setting.as_json(), **beside, "note": NOTE, "reports": reports} | combined


def _report(
    setting: Setting, others: Mapping[str, str], results: Sequence[Result], sheets: Sequence[Image], photos: bool
) -> Report:
    """photos: one table of all sets for the screen, their intervals in the report alone."""
    model, data = Path(setting.model).name, list(dict.fromkeys(result.data for result in results))
    used = dict.fromkeys(result.boxes for result in results)
    described = {f"boxes {boxes}": PROTOCOLS[boxes].format(box_scale=setting.box_scale) for boxes in used}
    bad = {result.data: result.unreadable for result in results if result.unreadable}
    tables = [table._replace(title=f"{model} on {table.title}", on_screen=not photos) for table in tables_of(results)]
    if photos:
        table = photo_table(f"{model} with {Path(setting.detector).name}", results, Path(model).stem)
        tables.insert(0, table._replace(note=JUDGE_NOTE if MEDIAPIPE in others else ""))
    return Report(
        title="Hands found, placed and posed",
        subtitle=f"{model} on {', '.join(data)}",
        setting=described | setting.described() | {f"beside, {by}": what for by, what in others.items()},
        sections=[
            Section("Metrics", tables),
            Section("Best, median and worst", (), sheets, "Above what is labelled, below what was predicted."),
        ],
        warnings=[f"{data}: images that could not be read: {count}" for data, count in bad.items()],
        notes=[NOTE, *([PHOTO_NOTE] if photos else [])],
    )


def tables_of(results: Sequence[Result]) -> list[Table]:
    """For each data set a row for each metric, a column for each crop protocol; and one of its parts."""
    tables = []
    for data in dict.fromkeys(result.data for result in results):
        of_data = [result for result in results if result.data == data]
        tables.append(_table(data, [result for result in of_data if not result.part]))
        for boxes, by in dict.fromkeys((result.boxes, result.by) for result in of_data if result.part):
            parts = [result for result in of_data if result.part and (result.boxes, result.by) == (boxes, by)]
            tables.append(_table(f"parts of {data}, {boxes} boxes{by and f', {by}'}", parts))
    return tables


def _table(title: str, results: Sequence[Result]) -> Table:
    columns = [
        r.part or ", ".join(filter(None, ["" if r.boxes == "none" else f"{r.boxes} boxes", r.by])) for r in results
    ]
    rows = [[name, *(str(getattr(result, key)) for result in results)]
            for name, key in (("images", "images"), ("hands measured", "hands"))]  # fmt: skip
    titles = {one.name: one.title for result in results for one in result.metrics}
    rows += [[shown, *(str(result.metric(name) or "-") for result in results)] for name, shown in titles.items()]
    return Table(f"{title}, 95 % bootstrap intervals", ["", *columns], rows, ends=[1])


_COLUMNS: dict[str, tuple[str, ...]] = {
    "found\n%": ("hands found",),
    "side\nright %": ("side correct",),
    "2D\nmedian": ("2D error, median",),
    "2D\nmean": ("2D error, mean",),
    "PCK\n@0.2 %": ("PCK@0.2",),
    "PA-MPJPE\nmm": ("PA-MPJPE (weak 3D)",),
    "tips in\n0.1 %": ("all fingertips within 0.1",),
    "tips along\nfinger": ("fingertips along the finger",),
    "combined\n2D": (COMBINED,),
    "extra\n/100": ("extra hands", "false positives"),
    "2D\nall found": (f"2D error, {FOUND_BY_ALL}",),
    "PA-MPJPE\nall found": (f"PA-MPJPE, {FOUND_BY_ALL}",),
    "found\nin grey": ("hands found in grey",),
    "red-blue\nswapped": ("hands found with red and blue swapped",),
}
"""Metrics of photographs by the head of their column; the first that a data set has."""


def photo_table(title: str, results: Sequence[Result], own: str = "") -> Table:
    """All sets of photographs, a row for each; where others are beside, one for each of them.

    own: what the network that is evaluated is called then.
    """

    def cell(result: Result, names: Sequence[str]) -> str:
        return next((one.short for one in map(result.metric, names) if one and one.short), "")

    values = [[cell(result, names) for names in _COLUMNS.values()] for result in results]
    shown = [k for k in range(len(_COLUMNS)) if any(row[k] for row in values)]
    by = ["by"] if any(result.by for result in results) else []
    columns = ["", *by, "hands", *(list(_COLUMNS)[k] for k in shown)]
    rows, heads = [], []
    pairs = zip(results, values, strict=True)
    for (boxes, group), some in groupby(pairs, lambda pair: (pair[0].boxes, pair[0].group)):
        heads.append(len(rows))
        rows.append([group if boxes == "none" else f"{group}, {boxes}", *[""] * (len(columns) - 1)])
        for result, row in some:
            found = result.metric("hands found")
            words = ["" if result.by else result.data, *([result.by or own] if by else [])]
            rows.append([*words, str(found.count) if found else "", *(row[k] for k in shown)])
    ends = [k - 1 for k in heads[1:]]
    return Table(title, columns, rows, words=1 + len(by), marked=heads, ends=ends)
