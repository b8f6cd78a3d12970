"""What was predicted of a data set's hands, scored: metrics with intervals, and their tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np

from handmesh import skeleton
from handmesh.evaluation.datasets import FOUND_WITHIN, Case, Mesh, Run, about_root
from handmesh.evaluation.metrics import (
    MeshErrors,
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
from handmesh.evaluation.report import Table

PCK_FRACTION = 0.2

TIP_FRACTION = 0.1
"""A fingertip is right within this fraction of the longer box side."""

COMBINED = "combined"
"""The name of the metric to decide by."""


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


def photo_metrics(run: Run) -> list[Metric]:
    """How many labelled hands are found, and how well those are placed, posed and told apart."""
    cases = answered(run.cases)
    return [
        *_finding_metrics(run),
        *_placing_metrics(cases),
        metric("PA-MPJPE (weak 3D)", aligned_mm(cases), "mm"),
        *_fingertip_metrics(cases),
        metric(COMBINED, combined_errors(run.cases), "of box"),
        *_cost_metrics(run),
    ]


def combined_errors(cases: Sequence[Case]) -> np.ndarray:
    """(N,) mean 2D error of each labelled hand as a fraction of the longer box side, FOUND_WITHIN if it is not found.

    Its mean is one number for finding and placing. Over several data sets it is the mean over all their
    hands together, so that each hand weighs the same, not each set.
    """
    found = np.array([case.answer.found for case in cases], bool)
    combined = np.full(len(cases), FOUND_WITHIN)
    combined[found] = mean_error_2d([case for case in cases if case.answer.found])
    return combined


def recoloured_metrics(run: Run, recoloured: Mapping[str, Run]) -> list[Metric]:
    """For each recolouring of the same images, the hands found as a fraction of those found in colour."""
    return [_found_relative(f"hands found {name}", run.cases, other.cases) for name, other in recoloured.items()]


def _found_relative(name: str, in_colour: Sequence[Case], other: Sequence[Case]) -> Metric:
    found = np.array([(a.answer.found, b.answer.found) for a, b in zip(in_colour, other, strict=True)], float)

    def ratio(found: np.ndarray, axis: int = 0) -> float:
        before, after = found.sum(axis)
        return after / before if before else math.nan

    unit = "of those in colour"
    if not found.any():
        return metric(name, [], unit)
    return Metric(name, ratio(found), *bootstrap(found, ratio), unit, len(found))


def _finding_metrics(run: Run) -> list[Metric]:
    sides = [case.answer.side_correct for case in answered(run.cases)]
    return [
        metric("hands found", [100 * case.answer.found for case in run.cases], "%"),
        metric("side correct", 100 * np.array(sides, float), "%"),
    ]


def _placing_metrics(cases: Sequence[Case]) -> list[Metric]:
    in_image = case_errors_2d(cases)
    return [
        metric("2D error, median", in_image.mean(1), "of box", median=True),
        metric("2D error, mean", in_image.mean(1), "of box"),
        metric(f"PCK@{PCK_FRACTION}", 100 * (in_image <= PCK_FRACTION).mean(1), "%"),
    ]


def _fingertip_metrics(cases: Sequence[Case]) -> list[Metric]:
    tips = case_errors_2d(cases)[:, list(skeleton.KEYPOINT_TIPS)]
    joints_px = [[hand.joints_px for hand in (case.answer.hand, case.label)] for case in cases]
    along = tip_errors_along_finger(*zip(*joints_px, strict=True)).mean(1) if cases else []
    return [
        metric(f"all fingertips within {TIP_FRACTION}", 100 * (tips <= TIP_FRACTION).all(1), "%"),
        metric("fingertips along the finger", along, "of box"),
    ]


def aligned_mm(cases: Sequence[Case]) -> np.ndarray:
    """(N,) PA-MPJPE against the labels' own 3D joints."""
    if not cases:
        return np.zeros(0)
    truth = np.stack([case.label.joints_m for case in cases])
    return 1000 * errors(align([case.answer.hand.joints_m for case in cases], truth), truth).mean(1)


def _cost_metrics(run: Run) -> list[Metric]:
    return [
        metric("extra hands", 100 * _extra_counts(run), "per 100 images"),
        metric("time an image, median", [answers.time_ms for _, answers in run.said], "ms", median=True),
    ]


def _extra_counts(run: Run) -> np.ndarray:
    """(P,) hands that nobody labelled, of the images in which they were looked for."""
    return np.array([len(answers.extra) for _, answers in run.said if answers.extra is not None])


def background_metrics(run: Run) -> list[Metric]:
    """How often hands are seen where there are none."""
    counts = _extra_counts(run)
    return [
        metric("false positives", 100 * counts, "per 100 images"),
        metric("images with a false positive", 100 * (counts > 0), "%"),
        metric("time an image, median", [answers.time_ms for _, answers in run.said], "ms", median=True),
    ]


def synthetic_metrics(run: Run, truth: Mapping[str, Mesh]) -> list[Metric]:
    """As for photographs, and the official errors of joints and mesh about the root.

    truth: the true mesh by the name of the image.
    """
    cases = answered(run.cases)
    mesh = score_meshes(cases, truth).per_sample() if cases else {}
    return [
        *_finding_metrics(run),
        *_placing_metrics(cases),
        *(metric(name, values, "mm" if "MP" in name else "") for name, values in mesh.items()),
        *_cost_metrics(run),
    ]


def score_meshes(cases: Sequence[Case], truth: Mapping[str, Mesh]) -> MeshErrors:
    """Answered cases against their true meshes, both about the root joint."""
    hands = [about_root(case.answer.hand.joints_m, case.answer.hand.vertices_m) for case in cases]
    true = [truth[case.example.name] for case in cases]
    return mesh_errors(*zip(*hands, strict=True), *zip(*true, strict=True))


# The metrics of a data set under one crop protocol, as JSON and in tables.


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

    def metric(self, name: str) -> Metric | None:
        """The metric of that name, if there is one."""
        return next((one for one in self.metrics if one.name == name), None)

    def as_json(self, box_scale: float) -> dict[str, object]:
        """For metrics.json."""
        protocol = PROTOCOLS[self.boxes].format(box_scale=box_scale)
        fields = {"data": self.data, "boxes": self.boxes, "protocol": protocol, "images": self.images}
        fields |= {name: getattr(self, name) for name in ("part", "group") if getattr(self, name)}
        return fields | {"hands": self.hands, "unreadable": self.unreadable, "metrics": as_json(self.metrics)}


def all_unseen(results: Sequence[Result]) -> Result | None:
    """All unseen hands together, looked for by the detector: its `COMBINED` is the number to decide by."""
    return next((result for result in results if (result.data, result.boxes) == (ALL_UNSEEN, "detected")), None)


def tables_of(results: Sequence[Result]) -> list[Table]:
    """For each data set a row for each metric, a column for each crop protocol; and one of its parts."""
    tables = []
    for data in dict.fromkeys(result.data for result in results):
        of_data = [result for result in results if result.data == data]
        tables.append(_table(data, [result for result in of_data if not result.part]))
        for boxes in dict.fromkeys(result.boxes for result in of_data if result.part):
            parts = [result for result in of_data if result.part and result.boxes == boxes]
            tables.append(_table(f"parts of {data}, {boxes} boxes", parts))
    return tables


def _table(title: str, results: Sequence[Result]) -> Table:
    columns = [r.part or ("" if r.boxes == "none" else f"{r.boxes} boxes") for r in results]
    rows = [[name, *(str(getattr(result, key)) for result in results)]
            for name, key in (("images", "images"), ("hands measured", "hands"))]  # fmt: skip
    titles = {one.name: one.title for result in results for one in result.metrics}
    for name, shown in titles.items():
        rows.append([shown, *(str(result.metric(name) or "-") for result in results)])
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
    "found\nin grey": ("hands found in grey",),
    "red-blue\nswapped": ("hands found with red and blue swapped",),
}
"""Metrics of photographs by the head of their column; the first that a data set has."""


def photo_table(title: str, results: Sequence[Result]) -> Table:
    """All sets of photographs, a row for each."""
    values = [[_first(result, names) for names in _COLUMNS.values()] for result in results]
    shown = [k for k in range(len(_COLUMNS)) if any(row[k] for row in values)]
    columns = ["", "hands", *(list(_COLUMNS)[k] for k in shown)]
    rows, heads = [], []
    pairs = zip(results, values, strict=True)
    for (boxes, group), some in groupby(pairs, lambda pair: (pair[0].boxes, pair[0].group)):
        heads.append(len(rows))
        rows.append([group if boxes == "none" else f"{group}, {boxes}", *[""] * (len(columns) - 1)])
        for result, row in some:
            found = result.metric("hands found")
            rows.append([result.data, str(found.count) if found else "", *(row[k] for k in shown)])
    return Table(title, columns, rows, marked=heads, ends=[k - 1 for k in heads[1:]])


def _first(result: Result, names: Sequence[str]) -> str:
    found = (result.metric(name) for name in names)
    return next((one.short for one in found if one and one.short), "")
