"""A sheet that somebody fills in finger by finger, and what it comes to."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from handmesh.evaluation.figures import Figure, figure
from handmesh.evaluation.files import write_csv
from handmesh.evaluation.report import cell

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
    lies_right: dict[str, bool]  # by finger
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


def read_judgement(path: Path) -> list[Judged]:
    """The filled-in sheet; ValueError naming the hand where an answer is missing or neither y nor n."""
    judged = []
    for row in _rows(path):
        answers = {finger: row.get(finger, "").strip().lower() for finger in FINGERS}
        if wrong := {finger: answer for finger, answer in answers.items() if answer not in (YES, NO)}:
            raise ValueError(f"{path}: hand {row.get('number')}: expected {YES} or {NO} for each finger, got {wrong}")
        lies_right = {finger: answer == YES for finger, answer in answers.items()}
        judged.append(Judged(int(row["number"]), row["file"], lies_right, row.get("note", "")))
    return judged


def judgement_figures(judged: Sequence[Judged]) -> list[Figure]:
    """The share of pictures in which every finger of every hand lies right, of such hands, and of each finger.

    judged: the largest hand of each picture before its others.
    """
    hands = [all(one.lies_right.values()) for one in judged]
    of_files: dict[str, list[bool]] = {}
    for one, right in zip(judged, hands, strict=True):
        of_files.setdefault(one.file, []).append(right)
    return [
        figure("pictures, all fingers of the largest hand", [100.0 * some[0] for some in of_files.values()], "%"),
        figure("pictures, all fingers of all hands", [100.0 * all(some) for some in of_files.values()], "%"),
        figure("hands, all fingers", [100.0 * right for right in hands], "%"),
        *(figure(name, [100.0 * one.lies_right[name] for one in judged], "%") for name in FINGERS),
    ]


def count_judgement(path: Path) -> list[Figure]:
    """Print what the sheet comes to, and the hands that are not right with their notes."""
    console, judged = Console(), read_judgement(path)
    figures = judgement_figures(judged)
    for one in figures:
        console.print(f"{round(one.value * one.count / 100)} of {one.count} {one.name}: {cell(one)} %", highlight=False)
    for one in judged:
        if wrong := [finger for finger, right in one.lies_right.items() if not right]:
            console.print(f"{one.number} {one.file}: {', '.join(wrong)}. {one.note}", highlight=False)
    return figures
