"""Whole evaluations: pictures in, a table on the screen, `metrics.json` and contact sheets in a folder out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console

from handmesh.data.photos import Split, list_pictures, read_photos
from handmesh.data.shards import read_shards
from handmesh.evaluation.answers import Answerer, Picture, with_detected_boxes, with_given_boxes
from handmesh.evaluation.figures import (
    Figure,
    aligned_mm,
    answered,
    background_figures,
    mean_error_2d,
    photo_figures,
    synthetic_figures,
)
from handmesh.evaluation.pictures import Case, Run, ask, challenges_of, from_files, from_photos, from_shards
from handmesh.evaluation.report import Boxes, Report, folder_names, print_reports, setting_of, write_metrics
from handmesh.evaluation.sheet import case_sheet, false_hand_sheet, write_sheet
from handmesh.evaluation.truth import true_meshes
from handmesh.runtime.backend import Session, open_session
from handmesh.runtime.estimator import Estimator
from handmesh.runtime.models import model_path
from handmesh.runtime.tracker import HandTracker

Which = Literal["given", "detected", "both"]


@dataclass(frozen=True)
class Options:
    """What all evaluations share."""

    model: str = "balanced"
    """A bundled network by name, or the path of an exported .onnx file."""
    boxes: Which = "both"
    """Where the hands are: told (given), found by the product's own detector (detected), or both in turn."""
    limit: int | None = None
    """Take the first so many pictures of each data set; all if not given."""
    output: Path = Path("outputs/evaluation")
    """Folder for metrics.json and the contact sheets."""
    threads: int | None = None
    """Cores that the network may use; all but one if not given."""
    num_hands: int = 2
    """The most hands that the tracker may find in a picture."""


class Job(NamedTuple):
    """A data set, and what to measure on it."""

    data: str
    pictures: Sequence[Picture]
    figures: Callable[[Run], list[Figure]]
    rank_by: Callable[[Sequence[Case]], np.ndarray]  # (N,) of answered cases, orders the contact sheet
    unit: str
    part_of: Mapping[str, str] = {}  # by the picture's name, where the pictures are of several kinds


def evaluate_photos(roots: Sequence[Path], split: Split, options: Options) -> list[Report]:
    """Score on folders of labelled photographs, each by itself; see `data.photos`."""
    if not roots:
        raise ValueError("no data sets: name at least one folder with a pseudo_labels.json")
    named = zip(folder_names(roots), roots, strict=True)
    jobs = [Job(name, from_photos(read_photos(root, split)), photo_figures, mean_error_2d, "") for name, root in named]
    return _evaluate(jobs, options, _each(options.boxes))


def evaluate_synthetic(folders: Sequence[Path], options: Options) -> list[Report]:
    """Score on folders of synthetic shards, each by itself, whose meshes are known; see `data.shards`."""
    if not folders:
        raise ValueError("no data sets: name at least one folder of shard-*.tar")
    named = zip(folder_names(folders), folders, strict=True)
    return _evaluate([_synthetic_job(*one, options.limit) for one in named], options, _each(options.boxes))


def _synthetic_job(name: str, folder: Path, limit: int | None) -> Job:
    shards = read_shards(folder, limit, progress=True)
    figures = partial(synthetic_figures, truth=true_meshes(shards))
    return Job(name, from_shards(shards), figures, aligned_mm, " mm", challenges_of(shards))


def evaluate_backgrounds(root: Path, split: Split, options: Options) -> list[Report]:
    """Count the hands seen in pictures that have none, by the whole product."""
    job = Job(root.resolve().name, from_files(list_pictures(root, split)), background_figures, mean_error_2d, "")
    return _evaluate([job], options, ["none"])


def _each(boxes: Which) -> list[Boxes]:
    return ["given", "detected"] if boxes == "both" else [boxes]


def _evaluate(jobs: Sequence[Job], options: Options, protocols: Sequence[Boxes]) -> list[Report]:
    """Do all jobs under all protocols; what is done is on disk before the next begins."""
    console = Console()
    session = open_session(model_path(options.model), "mesh", options.threads)
    setting = setting_of(model_path(options.model), session, options.threads)
    reports: list[Report] = []
    for boxes in protocols:
        answer = _answerer(boxes, session, options)
        for job in jobs:
            run = ask(answer, job.pictures[: options.limit], f"{job.data}, boxes {boxes}")
            reports += [_report(job, boxes, run), *_part_reports(job, boxes, run)]
            _write_sheet(options.output / f"{job.data}-{boxes}.png", run, job)
            write_metrics(options.output / "metrics.json", setting, reports)
    print_reports(console, setting, reports)
    console.print(f"written to {options.output}")
    return reports


def _answerer(boxes: Boxes, session: Session, options: Options) -> Answerer:
    if boxes == "given":
        return with_given_boxes(Estimator(session))
    return with_detected_boxes(HandTracker.load(options.model, num_hands=options.num_hands, threads=options.threads))


def _report(job: Job, boxes: Boxes, run: Run, part: str = "") -> Report:
    hands = len(answered(run.cases))
    return Report(job.data, boxes, len(run.said), hands, len(run.unreadable), tuple(job.figures(run)), part)


def _part_reports(job: Job, boxes: Boxes, run: Run) -> list[Report]:
    """One for each kind of picture, in the order of their names."""
    said = {part: [one for one in run.said if job.part_of.get(one[0].name) == part] for part in job.part_of.values()}
    return [_report(job, boxes, Run(said[part]), part) for part in sorted(said) if said[part]]


def _write_sheet(path: Path, run: Run, job: Job) -> None:
    sheet = case_sheet(run.cases, _rank(run.cases, job), job.unit) if run.cases else false_hand_sheet(run.false_hands)
    if sheet is not None:
        write_sheet(path, sheet)


def _rank(cases: Sequence[Case], job: Job) -> np.ndarray:
    """(N,) what the job ranks by; not a number where there was no answer."""
    has_hand = np.array([case.answer.hand is not None for case in cases])
    values = np.full(len(cases), np.nan)
    values[has_hand] = job.rank_by(answered(cases))
    return values
