"""Held-out images chosen at random, each hand beside its mesh, for a person to judge finger by finger; and the
count of it.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from handmesh.assets import model_path
from handmesh.data.photos import Split, read_photos
from handmesh.evaluation.datasets import Case, Example, Run, ask, folder_names, from_photos, with_detected_boxes
from handmesh.evaluation.metrics import Metric, metric
from handmesh.evaluation.report import setting_of
from handmesh.evaluation.sheets import CAPTION, GROUND, Tile, strip, tile_views, write_sheet
from handmesh.files import write_csv, write_json
from handmesh.render.overlay import Style
from handmesh.tracking.backends import open_session
from handmesh.tracking.tracker import HandTracker

# A sheet that somebody fills in finger by finger, and what it comes to.


FINGERS = ("thumb", "index", "middle", "ring", "little")
YES, NO = "y", "n"


class Shown(NamedTuple):
    """A hand that is to be judged."""

    number: int  # in its caption
    page: str
    file: str
    side: str
    found: bool  # or there is no mesh, and no finger lies right


class Judged(NamedTuple):
    """A judged hand."""

    number: int
    file: str
    is_correct: dict[str, bool]  # by finger
    note: str


def write_blank(path: Path, shown: Sequence[Shown]) -> None:
    """A row for each hand, with a column for each finger, y or n; those that were not found are filled in already.

    ValueError where the file is there and somebody has begun to fill it in.
    """
    if path.exists() and any(row[finger].strip() == YES for row in _rows(path) for finger in FINGERS):
        raise ValueError(f"{path} has been filled in: take another --output, or move it away")
    columns = {name: [getattr(one, name) for one in shown] for name in ("number", "page", "file", "side")}
    answers = ["" if one.found else NO for one in shown]
    notes = ["" if one.found else "not found" for one in shown]
    write_csv(path, columns | dict.fromkeys(FINGERS, answers) | {"note": notes})


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: value or "" for name, value in row.items()} for row in csv.DictReader(file)]


def read_review(path: Path) -> list[Judged]:
    """The filled-in sheet; ValueError naming the hand where an answer is missing or neither y nor n."""
    judged = []
    for row in _rows(path):
        answers = {finger: row.get(finger, "").strip().lower() for finger in FINGERS}
        if wrong := {finger: answer for finger, answer in answers.items() if answer not in (YES, NO)}:
            raise ValueError(f"{path}: hand {row.get('number')}: expected {YES} or {NO} for each finger, got {wrong}")
        is_correct = {finger: answer == YES for finger, answer in answers.items()}
        judged.append(Judged(int(row["number"]), row["file"], is_correct, row.get("note", "")))
    return judged


def review_metrics(judged: Sequence[Judged]) -> list[Metric]:
    """The fraction of images in which every finger of every hand lies right, of such hands, and of each finger.

    judged: the largest hand of each image before its others.
    """
    hands = [all(one.is_correct.values()) for one in judged]
    of_files: dict[str, list[bool]] = {}
    for one, right in zip(judged, hands, strict=True):
        of_files.setdefault(one.file, []).append(right)
    return [
        metric("images, all fingers of the largest hand", [100.0 * some[0] for some in of_files.values()], "%"),
        metric("images, all fingers of all hands", [100.0 * all(some) for some in of_files.values()], "%"),
        metric("hands, all fingers", [100.0 * right for right in hands], "%"),
        *(metric(name, [100.0 * one.is_correct[name] for one in judged], "%") for name in FINGERS),
    ]


def count_review(path: Path) -> list[Metric]:
    """Print what the sheet comes to, and the hands that are not right with their notes."""
    console, judged = Console(), read_review(path)
    metrics = review_metrics(judged)
    for one in metrics:
        console.print(f"{round(one.value * one.count / 100)} of {one.count} {one.name}: {one} %", highlight=False)
    for one in judged:
        if wrong := [finger for finger, right in one.is_correct.items() if not right]:
            console.print(f"{one.number} {one.file}: {', '.join(wrong)}. {one.note}", highlight=False)
    return metrics


# Held-out images chosen at random, each hand beside its mesh, for somebody to judge finger by finger.


SIZE = 300
"""Pixels of a square's side."""

COLUMNS, ROWS = 3, 4

STYLE = Style(opacity=0.6, skeleton=True)
"""The finger shows through its mesh, and colours say which finger the mesh takes it for."""

REVIEW = "review.csv"


@dataclass(frozen=True)
class ReviewOptions:
    """Held-out images chosen at random, beside the meshes found in them, to be judged finger by finger.

    Fill in review.csv, y or n for each finger; `--sheet review.csv` counts it.
    """

    root: tuple[Path, ...] = ()
    """Folders with a pseudo_labels.json; images are drawn from all of them together."""
    sheet: Path | None = None
    """Count the review in this review.csv, and draw nothing."""
    count: int = 60
    """How many images."""
    seed: int = 0
    """Another one gives other images."""
    split: Split = "val"
    """The held-out files (val), those for training, or all."""
    model: str = "balanced"
    """A bundled network by name, or the path of an exported .onnx file."""
    num_hands: int = 2
    """The most hands that the tracker may find in an image."""
    threads: int | None = None
    """Cores that the network may use. Default: all but one."""
    output: Path = Path("outputs/review")
    """Folder for the pages, index.json and review.csv."""


def review(options: ReviewOptions) -> None:
    """`handmesh evaluate review`: draw a sheet, or count one that is filled in."""
    if options.sheet:
        count_review(options.sheet)
    else:
        draw_overlays(options)


def draw_overlays(options: ReviewOptions) -> list[Case]:
    """Choose, look, write pages and the sheet to fill in; gives the labelled hands, an image's largest first."""
    chosen = choose(_images(options), options.count, options.seed)
    tracker = HandTracker.load(options.model, num_hands=options.num_hands, threads=options.threads)
    said = ask(with_detected_boxes(tracker), chosen, "looking").said
    cases = [case for one in said for case in sorted(Run([one]).cases, key=lambda case: -case.label.box().size_px)]
    shown = [_shown(k, case) for k, case in enumerate(cases)]
    write_blank(options.output / REVIEW, shown)
    for page, start in enumerate(range(0, len(cases), COLUMNS * ROWS)):
        part = slice(start, start + COLUMNS * ROWS)
        write_sheet(options.output / _page_name(page), _page(cases[part], shown[part]))
    _write_index(options, chosen, shown)
    Console().print(f"{len(shown)} hands in {len(chosen)} images, written to {options.output}; fill in {REVIEW}")
    return cases


def choose(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """`count` of the images, each as likely as any other, the same for the same seed; ValueError for too few."""
    if not 1 <= count <= len(examples):
        raise ValueError(f"--count must be between 1 and {len(examples)}, as many images with hands as there are")
    return [examples[i] for i in np.random.default_rng(seed).permutation(len(examples))[:count]]


def _images(options: ReviewOptions) -> list[Example]:
    """All images with hands, named after their data set and file."""
    if not options.root:
        raise ValueError("no data sets: name at least one folder with a pseudo_labels.json, with --root")
    return [
        example._replace(name=f"{name}/{example.name}")
        for name, root in zip(folder_names(options.root), options.root, strict=True)
        for example in from_photos(read_photos(root, options.split))
        if example.hands
    ]


def _page_name(page: int) -> str:
    return f"page-{page + 1:02d}.png"


def _shown(number: int, case: Case) -> Shown:
    page = _page_name(number // (COLUMNS * ROWS))
    return Shown(number + 1, page, case.example.name, case.label.side, case.answer.hand is not None)


def _page(cases: Sequence[Case], shown: Sequence[Shown]) -> np.ndarray:
    height, width = CAPTION + SIZE, 2 * SIZE
    page = np.full((ROWS * height, COLUMNS * width, 3), GROUND, np.uint8)
    for k, (case, one) in enumerate(zip(cases, shown, strict=True)):
        top, left = k // COLUMNS * height, k % COLUMNS * width
        page[top : top + height, left : left + width] = _pair(case, one)
    return page


def _pair(case: Case, shown: Shown) -> np.ndarray:
    """A caption over the hand as it is, and with the mesh."""
    views = tile_views(Tile(case.example, case.label.joints_px, case.answer.hand, ""), SIZE, STYLE)
    drawn = views.drawn if shown.found else np.full_like(views.drawn, GROUND)
    what = "" if shown.found else "NOT FOUND "
    caption = strip(f"{shown.number}  {what}{shown.side}  {shown.file}", 2 * SIZE, (255, 255, 255))
    return np.concatenate([caption, np.concatenate([views.plain, drawn], axis=1)])


def _write_index(options: ReviewOptions, chosen: Sequence[Example], shown: Sequence[Shown]) -> None:
    session = open_session(model_path(options.model), "mesh", options.threads)
    setting = setting_of(model_path(options.model), session, options.threads).as_json()
    asked = {"seed": options.seed, "split": options.split, "images": [example.name for example in chosen]}
    write_json(options.output / "index.json", {"setting": setting, **asked, "hands": [one._asdict() for one in shown]})
