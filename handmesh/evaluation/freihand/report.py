"""`report.html` of an evaluation on FreiHAND: one file to read, to print, and to show to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from handmesh import skeleton
from handmesh.evaluation import page
from handmesh.evaluation.chart import Series, line_chart
from handmesh.evaluation.figures import Figure
from handmesh.evaluation.freihand.published import TABLE
from handmesh.evaluation.freihand.scores import Scores, official_scores
from handmesh.evaluation.freihand.submission import OFFICIAL_COUNT
from handmesh.metrics import PCK_THRESHOLDS_M, auc, pck_curve

KINDS = {"camera": "in the camera's frame", "root": "roots together", "similarity": "after alignment (PA)"}


@dataclass(frozen=True)
class Case:
    """A sample that is shown."""

    name: str
    picture: np.ndarray  # (S, 3 S, 3) uint8, see `case_pictures`


@dataclass(frozen=True)
class Report:
    """All that the page tells."""

    data: str
    model: str
    setting: Mapping[str, str]  # how the figures came about, in words
    scores: Scores | None  # None: the set has no labels
    notes: Sequence[str]  # what a reader must know before the figures
    cases: Mapping[str, Sequence[Case]]  # by the name of the group

    @property
    def protocol(self) -> str:
        """The crop protocol's name and the test-time augmentation, short."""
        return self.setting["crop protocol"].partition(":")[0]


def report_html(report: Report) -> str:
    """The page. Without labels it has no figures, only what was predicted."""
    scores = report.scores
    subtitle = f"{report.model} on {report.data}, crops {report.protocol}"
    measured = [] if scores is None else [
        _headline(scores), page.section("Official figures", _official(scores)),
        page.section("Where the hand is", _placing(scores)), page.section("Beside published results", *_beside(report)),
        page.section("Joint by joint", *_joints(scores)),
        page.section("Share of points within a distance", _curves(scores)),
    ]  # fmt: skip
    notes = [page.paragraph(note, "warning") for note in report.notes]
    shown = page.section("Best, median and worst" if scores else "What was predicted", *_cases(report))
    made = page.section("How this was measured", page.facts(report.setting))
    return page.page("Hands in FreiHAND's evaluation pictures", subtitle, *notes, *measured, shown, made)


def _headline(scores: Scores) -> str:
    found = {figure.name: figure.value for figure in scores.figures()}
    names = {
        "PA-MPJPE": ("joints, aligned (PA-MPJPE)", "mm"),
        "PA-MPVPE": ("vertices, aligned (PA-MPVPE)", "mm"),
        "PA-F@5": ("F-score at 5 mm, aligned", ""),
        "PA-F@15": ("F-score at 15 mm, aligned", ""),
    }
    if scores.vertices_rooted_m is None:
        names = {"PA-MPJPE": names["PA-MPJPE"], "RA-MPJPE": ("joints, roots together (RA-MPJPE)", "mm")}
    return page.cards([(text, _number(found[name], unit), unit) for name, (text, unit) in names.items()])


def _number(value: float, unit: str) -> str:
    return f"{value:.2f}" if unit == "mm" else f"{value:.3f}"


def _official(scores: Scores) -> str:
    """The twelve figures by what they are of, with the server's names."""
    found = official_scores(scores.mesh)
    rows = []
    for points, text in (("xyz", "joints"), ("mesh", "vertices")):
        for kind, how in (("", "in the camera's frame"), ("al_", "after alignment")):
            mean, area = found[f"{points}_{kind}mean3d"], found[f"{points}_{kind}auc3d"]
            told = ["-", "-"] if mean < 0 else [f"{10 * mean:.3f} mm", f"{area:.4f}"]
            rows.append([text, how, *told, f"{points}_{kind}mean3d, {points}_{kind}auc3d"])
    for at in (5, 15):
        for kind, how in (("f_score", "in the camera's frame"), ("f_al_score", "after alignment")):
            rows.append([f"F-score at {at} mm", how, f"{found[f'{kind}_{at}']:.4f}", "", f"{kind}_{at}"])
    note = "By the data set's own definitions; scores.txt holds the server's twelve lines (means in centimetres)."
    return _table_with_names(rows) + page.paragraph(note, "note")


def _table_with_names(rows: list[list[str]]) -> str:
    header = ["", "", "the server's name", "mean", "area under PCK"]
    return page.table(header, [[a, b, name, mean, area] for a, b, mean, area, name in rows], text_columns=3)


def _placing(scores: Scores) -> str:
    wanted = {
        "MPJPE": "joints in the camera's frame", "MPVPE": "vertices in the camera's frame",
        "RA-MPJPE": "joints, roots together", "RA-MPVPE": "vertices, roots together",
        "root error": "the root joint's place", "root depth error": "its depth alone",
    }  # fmt: skip
    found = {figure.name: figure for figure in scores.figures()}
    medians = {name: float(np.median(column)) for name, column in scores.per_sample().items()}
    rows = [[t, name, *_interval(found[name]), f"{medians[name]:.2f}"] for name, t in wanted.items() if name in found]
    table = page.table(["", "", "mean, mm", "95 % interval", "median, mm"], rows, text_columns=2)
    return table + page.paragraph(
        "The root is the middle finger's knuckle. Intervals by bootstrap over samples.", "note"
    )


def _interval(figure: Figure) -> list[str]:
    return [f"{figure.value:.2f}", f"{figure.low:.2f} to {figure.high:.2f}"]


def _beside(report: Report) -> list[str]:
    """The published table with our row in its place."""
    header = ["method", "", "crops", "test-time augmentation", "note", "PA-MPJPE, mm", "PA-MPVPE, mm", "F@5", "F@15"]
    rows = [
        (row.joints_mm, [row.method, "published", row.crop or "not said", "none", row.note, f"{row.joints_mm:.1f}",
         f"{row.vertices_mm:.1f}", _or_dash(row.f_5), _or_dash(row.f_15)])
        for row in TABLE
    ]  # fmt: skip
    rows.append(_our_row(report))
    rows.sort(key=lambda row: -row[0])
    ours = [i for i, (_, cells) in enumerate(rows) if cells[1] == "measured"]
    count = len(report.scores)
    official = (
        f"Published figures are of FreiHAND's {OFFICIAL_COUNT:,} evaluation pictures, without test-time augmentation."
    )
    other = f" The measured row is of {count:,} pictures of {report.data}: not to be compared with them."
    return [
        page.table(header, [cells for _, cells in rows], ours, text_columns=5),
        page.paragraph(official + (other if count != OFFICIAL_COUNT else ""), "note"),
    ]


def _our_row(report: Report) -> tuple[float, list[str]]:
    found = {figure.name: figure.value for figure in report.scores.figures()}
    setting = report.setting
    note = f"{setting['time'].partition(',')[0]}, batch {setting['batch']}, {setting['hardware']}"
    comparable = report.scores.vertices_rooted_m is not None
    cells = [report.model, "measured", report.protocol, setting["test-time augmentation"], note]
    cells += [f"{found['PA-MPJPE']:.2f}", f"{found['PA-MPVPE']:.2f}" if comparable else "-"]
    cells += [_or_dash(found[name] if comparable else None) for name in ("PA-F@5", "PA-F@15")]
    return found["PA-MPJPE"], cells


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _joints(scores: Scores) -> list[str]:
    """A grid of fingers by joints for each kind of error, in millimetres."""
    blocks = []
    for kind, values in scores.per_joint_mm().items():
        of = dict(zip(skeleton.KEYPOINTS, values.tolist(), strict=True))
        grid = np.array([[of[f"{finger}{k}"] for k in (1, 2, 3, 4)] for finger in skeleton.FINGERS])
        limits = (float(values.min()), float(values.max()))
        heat = page.heat_table(skeleton.FINGERS, ["1", "2", "3", "tip"], grid, limits=limits)
        blocks.append(f"<h3>{KINDS[kind]}; wrist {of['wrist']:.1f}</h3>{heat}")
    return [
        page.row(*blocks),
        page.paragraph("Mean error in millimetres; joint 1 is the one nearest to the wrist.", "note"),
    ]


def _curves(scores: Scores) -> str:
    joints = {
        "camera": scores.mesh.joints_m, "root": scores.joints_rooted_m, "similarity": scores.mesh.joints_aligned_m
    }  # fmt: skip
    vertices = {
        "camera": scores.mesh.vertices_m,
        "root": scores.vertices_rooted_m,
        "similarity": scores.mesh.vertices_aligned_m,
    }
    charts = [f"<h3>joints</h3>{_pck_chart(joints)}"]
    if scores.vertices_rooted_m is not None:
        charts.append(f"<h3>vertices</h3>{_pck_chart(vertices)}")
    return page.row(*charts)


def _pck_chart(errors_m: Mapping[str, np.ndarray]) -> str:
    at_mm = 1000 * PCK_THRESHOLDS_M
    series = [
        Series(f"{KINDS[kind]}, area {float(auc(values)):.3f}", at_mm, 100 * pck_curve(values))
        for kind, values in errors_m.items()
    ]
    return line_chart(series, "distance, mm", "share of points, %", y_limits=(0, 100), size=(450, 320))


def _cases(report: Report) -> list[str]:
    truth = (
        "the picture with the labelled joints, the predicted mesh, and " if report.scores else "the predicted mesh and "
    )
    legend = f"Each: {truth}the view from the right (true grey, predicted blue, roots together)."
    groups = [
        f"<h3>{name}</h3>" + page.tiles([page.picture(case.picture, case.name) for case in cases])
        for name, cases in report.cases.items()
        if cases
    ]
    return [page.paragraph(legend, "note"), *groups]
