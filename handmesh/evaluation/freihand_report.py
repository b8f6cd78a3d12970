"""A whole evaluation on FreiHAND: of a network, or of anybody's prediction file; its scores, a report and the
server's file.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from handmesh import skeleton
from handmesh.data.freihand import FreihandSet, read_freihand
from handmesh.evaluation import html
from handmesh.evaluation.datasets import ArrayCache
from handmesh.evaluation.freihand import (
    OFFICIAL_COUNT,
    TABLE,
    PredictionError,
    PredictionFile,
    Predictions,
    Scores,
    configuration,
    finder,
    official_scores,
    official_text,
    predict,
    score_samples,
    true_points,
    write_submission,
)
from handmesh.evaluation.html import Series, line_chart
from handmesh.evaluation.intervals import Figure
from handmesh.evaluation.metrics import PCK_THRESHOLDS_M, auc, pck_curve
from handmesh.evaluation.predictor import (
    FreihandOptions,
    Predictor,
    Reader,
    ReadingOptions,
    ScoreOptions,
    open_predictor,
)
from handmesh.evaluation.report import figures_as_json
from handmesh.evaluation.sheets import Posed, case_picture
from handmesh.files import sha256_of, write_csv, write_json, write_text

# Score anybody's prediction file as FreiHAND's server does, and beside it our own figures.


NOTE = (
    "official: FreiHAND's own definitions, means in centimetres. figures: means over samples with 95 % bootstrap "
    "intervals; PA- after similarity alignment, RA- with the roots (middle1) together, the rest in the camera's frame"
)
OTHER_MESH = (
    "The predicted mesh has {predicted} vertices, the true one {true}: there is no vertex error, and by the official "
    "rule the aligned F-score takes the joints' alignment without the prediction's own size, which shrinks the mesh; "
    "compare joints, not F-scores."
)


def score(options: ScoreOptions) -> None:
    """`handmesh evaluate score`."""
    score_file(options.gt, options.pred, options.output)


def score_file(truth: Path, predictions: Path, output: Path) -> Scores:
    """Score a prediction file against evaluation_xyz.json and evaluation_verts.json in the folder `truth`.

    Writes scores.txt (the server's twelve lines), metrics.json and scores.csv (a row a sample)
    into `output`. Raises PredictionError where either side cannot be scored; then nothing is written.
    """
    console = Console()
    with console.status(f"reading {predictions.name}"):
        predicted = PredictionFile(predictions)
        true_joints = np.stack(list(true_points(truth, "xyz", len(skeleton.KEYPOINTS))))
    if len(predicted.joints_m) != len(true_joints):
        raise PredictionError(
            f"{predictions} holds joints of {len(predicted.joints_m)} samples, {truth} the truth of {len(true_joints)}"
        )
    counts: dict[str, int] = {}
    meshes = _counted(predicted.vertices(), "predicted", counts)
    truths = _counted(true_points(truth, "verts", None), "true", counts)
    scores = score_samples(predicted.joints_m, meshes, true_joints, truths, "scoring")
    setting = {"truth": str(truth), "predictions": str(predictions), "predictions_sha256": sha256_of(predictions)}
    write_scores(output, scores, setting | {"vertices": counts})
    _print_file_scores(console, scores, counts)
    console.print(f"written to {output}")
    return scores


def _counted(meshes: Iterable[np.ndarray], whose: str, counts: dict[str, int]) -> Iterator[np.ndarray]:
    """The meshes as they are; the vertex count of the first is noted."""
    for mesh in meshes:
        counts.setdefault(whose, len(mesh))
        yield mesh


def write_scores(output: Path, scores: Scores, setting: dict[str, object]) -> None:
    """Write scores.txt, metrics.json and scores.csv."""
    write_text(output / "scores.txt", official_text(official_scores(scores.mesh)))
    write_csv(output / "scores.csv", {"sample": np.arange(len(scores))} | scores.per_sample())
    write_json(output / "metrics.json", {"setting": setting, "samples": len(scores)} | metrics_of(scores))


def metrics_of(scores: Scores) -> dict[str, object]:
    """What metrics.json says of scores: the official figures, ours with intervals, and the joints' errors."""
    per_joint = {
        kind: dict(zip(skeleton.KEYPOINTS, values.tolist(), strict=True))
        for kind, values in scores.per_joint_mm().items()
    }
    figures = figures_as_json(scores.figures())
    return {"note": NOTE, "official": official_scores(scores.mesh), "figures": figures, "per_joint_mm": per_joint}


def print_scores(console: Console, scores: Scores) -> None:
    """The official figures as a table."""
    table = Table("official figure", title=f"{len(scores)} samples")
    table.add_column("", justify="right")
    for name, value in official_scores(scores.mesh).items():
        table.add_row(f"{name}, cm" if "mean" in name else name, f"{value:.6f}")
    console.print(table)


def _print_file_scores(console: Console, scores: Scores, counts: dict[str, int]) -> None:
    print_scores(console, scores)
    if scores.vertices_rooted_m is None:
        console.print(f"[yellow]{OTHER_MESH.format(**counts)}[/]", highlight=False)


# `report.html` of an evaluation on FreiHAND: one file to read, to print, and to show to others.


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
        _headline(scores), html.section("Official figures", _official(scores)),
        html.section("Where the hand is", _placing(scores)), html.section("Beside published results", *_beside(report)),
        html.section("Joint by joint", *_joints(scores)),
        html.section("Share of points within a distance", _curves(scores)),
    ]  # fmt: skip
    notes = [html.paragraph(note, "warning") for note in report.notes]
    shown = html.section("Best, median and worst" if scores else "What was predicted", *_cases(report))
    made = html.section("How this was measured", html.facts(report.setting))
    return html.page("Hands in FreiHAND's evaluation pictures", subtitle, *notes, *measured, shown, made)


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
    return html.cards([(text, _number(found[name], unit), unit) for name, (text, unit) in names.items()])


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
    return _table_with_names(rows) + html.paragraph(note, "note")


def _table_with_names(rows: list[list[str]]) -> str:
    header = ["", "", "the server's name", "mean", "area under PCK"]
    return html.table(header, [[a, b, name, mean, area] for a, b, mean, area, name in rows], text_columns=3)


def _placing(scores: Scores) -> str:
    wanted = {
        "MPJPE": "joints in the camera's frame", "MPVPE": "vertices in the camera's frame",
        "RA-MPJPE": "joints, roots together", "RA-MPVPE": "vertices, roots together",
        "root error": "the root joint's place", "root depth error": "its depth alone",
    }  # fmt: skip
    found = {figure.name: figure for figure in scores.figures()}
    medians = {name: float(np.median(column)) for name, column in scores.per_sample().items()}
    rows = [[t, name, *_interval(found[name]), f"{medians[name]:.2f}"] for name, t in wanted.items() if name in found]
    table = html.table(["", "", "mean, mm", "95 % interval", "median, mm"], rows, text_columns=2)
    return table + html.paragraph(
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
        html.table(header, [cells for _, cells in rows], ours, text_columns=5),
        html.paragraph(official + (other if count != OFFICIAL_COUNT else ""), "note"),
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
        heat = html.heat_table(skeleton.FINGERS, ["1", "2", "3", "tip"], grid, limits=limits)
        blocks.append(f"<h3>{KINDS[kind]}; wrist {of['wrist']:.1f}</h3>{heat}")
    return [
        html.row(*blocks),
        html.paragraph("Mean error in millimetres; joint 1 is the one nearest to the wrist.", "note"),
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
    return html.row(*charts)


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
        f"<h3>{name}</h3>" + html.tiles([html.picture(case.picture, case.name) for case in cases])
        for name, cases in report.cases.items()
        if cases
    ]
    return [html.paragraph(legend, "note"), *groups]


# The samples that a report on FreiHAND shows, drawn.


SHOWN = 6
"""Samples of each group."""

_BEHIND = np.float32([0, 0, -1])  # of the camera: nothing is drawn


def shown_cases(
    freihand: FreihandSet, predictions: Predictions, errors_mm: np.ndarray | None, faces: np.ndarray
) -> dict[str, list[Case]]:
    """The best, the median and the worst by (N,) `errors_mm`; without errors, samples from all over the set.

    faces: of the predicted meshes.
    """
    return {
        group: [_case(freihand, predictions, i, errors_mm, faces) for i in samples]
        for group, samples in _chosen(len(predictions), errors_mm).items()
    }


def _chosen(count: int, errors_mm: np.ndarray | None) -> dict[str, list[int]]:
    if errors_mm is None:
        return {"from all over the set": np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int).tolist()}
    order = np.argsort(errors_mm, kind="stable").tolist()
    middle = max(0, (count - SHOWN) // 2)
    return {"best": order[:SHOWN], "median": order[middle : middle + SHOWN], "worst": order[::-1][:SHOWN]}


def _case(
    freihand: FreihandSet, predictions: Predictions, i: int, errors_mm: np.ndarray | None, faces: np.ndarray
) -> Case:
    predicted = Posed(predictions.joints_m[i], predictions.vertices_m[i])
    if not predictions.is_hand[i]:
        predicted = Posed(predicted.joints_m - _BEHIND, predicted.vertices_m + _BEHIND)
    truth = None if errors_mm is None else Posed(freihand.xyz[i], np.asarray(freihand.verts[i]))
    name = f"{i:08d}" + ("" if errors_mm is None else f", {errors_mm[i]:.1f} mm")
    return Case(name, case_picture(freihand.image(i), freihand.camera(i), predicted, truth, faces))


# A whole evaluation on FreiHAND: predictions, official and own figures, a report, and the server's file.


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation made, and of what."""

    options: FreihandOptions
    freihand: FreihandSet
    predictor: Predictor
    predictions: Predictions
    scores: Scores | None  # None: the set has no labels

    def setting(self) -> dict[str, str]:
        """How the figures came about, in words."""
        options, count = self.options, len(self.predictions)
        return {
            **reading_setting(options, self.freihand, self.predictor, count),
            "hand size": "the given bone length (scale.json)" if options.use_scale else "as the network says",
            "place in space": "closed form, from the joints in the picture and the camera K",
            "time": f"{1000 * self.predictions.seconds / count:.1f} ms a picture, reading and cropping included",
        }

    def notes(self) -> list[str]:
        """What a reader must know before the figures."""
        notes, predictions = [], self.predictions
        if self.scores is None:
            notes.append("Without evaluation_xyz.json and evaluation_verts.json nothing can be measured here.")
        elif self.scores.vertices_rooted_m is None:
            counts = {"predicted": predictions.vertices_m.shape[1], "true": self.freihand.verts.shape[1]}
            notes.append(OTHER_MESH.format(**counts))
        if missed := int((~predictions.located).sum()):
            notes.append(f"The detector found no hand in {missed} pictures; there the crop was centre-130.")
        if missed := int((~predictions.is_hand).sum()):
            notes.append(f"In {missed} pictures the network's numbers were no hand; zeros stand for them.")
        if self.options.submission and len(predictions) != OFFICIAL_COUNT:
            notes.append(f"pred.zip holds {len(predictions)} samples; FreiHAND's server takes {OFFICIAL_COUNT}.")
        return notes


def reading_setting(options: ReadingOptions, freihand: FreihandSet, predictor: Predictor, count: int) -> dict[str, str]:
    """What was looked at, and how, in words."""
    return {
        "data": f"{freihand.root.resolve().name}, evaluation split, {count:,} of {len(freihand):,} pictures",
        "model": f"{predictor.name} (SHA-256 {predictor.file_sha256[:12]})",
        "hand model": predictor.hand,
        **options.looks.described(predictor.box_scale),
        "crop size": f"{predictor.crop_size} x {predictor.crop_size} pixels",
        "batch": str(options.batch),
        "hardware": predictor.runs_on,
        "made with": f"handmesh {version('handmesh')}, {datetime.date.today().isoformat()}",
    }


def evaluate_freihand(options: FreihandOptions) -> Scores | None:
    """Evaluate as the options say; the scores, None where the set has no labels.

    Raises ValueError (FreihandError, CacheMismatch, ModelFileError ...) for what cannot be done.
    """
    freihand = open_set(options)
    predictor = open_predictor(options.model, options.hand_model, options.device, options.threads)
    predictions = _predictions(options, freihand, predictor)
    done = Evaluation(options, freihand, predictor, predictions, _score(freihand, predictions))
    _write(done)
    _print_evaluation(Console(), done)
    return done.scores


def open_set(options: ReadingOptions) -> FreihandSet:
    """The evaluation split, with the labels that the crop protocol wants."""
    freihand = read_freihand(options.root, "evaluation")
    if options.looks.crop == "gt-keypoints":
        freihand.require("xyz")
    return freihand


def _predictions(options: FreihandOptions, freihand: FreihandSet, predictor: Predictor) -> Predictions:
    looks = options.looks
    kept = configuration(freihand, predictor, looks, options.use_scale)
    cache = ArrayCache(options.output / "predictions", kept, options.overwrite)
    reader = Reader(predictor, looks, finder(looks, options.device, options.threads))
    return predict(freihand, reader, cache, looks, options.use_scale, options.batch, options.limit)


def _score(freihand: FreihandSet, predictions: Predictions) -> Scores | None:
    if freihand.xyz is None or freihand.verts is None:
        return None
    # The set keeps float32; the lists themselves give the last digits that the server gives.
    joints, vertices = (
        islice(true_points(freihand.root, *of), len(predictions)) for of in (("xyz", 21), ("verts", None))
    )
    return score_samples(predictions.joints_m, predictions.vertices_m, np.stack(list(joints)), vertices, "scoring")


def _write(done: Evaluation) -> None:
    output, predictions, scores = done.options.output, done.predictions, done.scores
    if done.options.submission:
        write_submission(output / "pred.zip", predictions.joints_m, predictions.vertices_m)
    content = {"setting": done.setting(), "notes": done.notes(), "samples": len(predictions)}
    columns = {"sample": np.arange(len(predictions)), "is_hand": predictions.is_hand, "located": predictions.located}
    if scores is not None:
        content |= metrics_of(scores)
        columns |= scores.per_sample()
        write_text(output / "scores.txt", official_text(official_scores(scores.mesh)))
    write_json(output / "metrics.json", content)
    write_csv(output / "samples.csv", columns)
    write_text(output / "report.html", report_html(_report(done)))


def _report(done: Evaluation) -> Report:
    errors_mm = None if done.scores is None else done.scores.per_sample()["PA-MPJPE"]
    return Report(
        data=done.freihand.root.resolve().name,
        model=short_name(done.predictor.name),
        setting=done.setting(),
        scores=done.scores,
        notes=done.notes(),
        cases=shown_cases(done.freihand, done.predictions, errors_mm, done.predictor.faces),
    )


def short_name(model: str) -> str:
    """A model's name for a table: a run's weights are called by the run's folder."""
    path = Path(model)
    return path.resolve().parent.name if path.name == "weights.safetensors" else path.stem


def _print_evaluation(console: Console, done: Evaluation) -> None:
    if done.scores is not None:
        print_scores(console, done.scores)
    for name, text in done.setting().items():
        console.print(f"[bold]{name}[/]: {text}", highlight=False)
    for note in done.notes():
        console.print(f"[yellow]{note}[/]", highlight=False)
    console.print(f"written to {done.options.output}: report.html, metrics.json, samples.csv and more")
