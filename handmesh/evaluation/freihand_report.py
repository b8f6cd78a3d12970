"""A whole evaluation on FreiHAND: of a network, or of anybody's prediction file; its scores, a report and the
server's file.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from handmesh import skeleton
from handmesh.data.freihand import FreihandSet, read_freihand
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
from handmesh.evaluation.metrics import PCK_THRESHOLDS_M, Metric, as_json, auc, pck_curve
from handmesh.evaluation.predictor import (
    CropPredictor,
    FreihandOptions,
    Predictor,
    ReadingOptions,
    ScoreOptions,
    open_predictor,
)
from handmesh.evaluation.report import COLOURS, Headline, Image, Report, Section, Table, heat_map
from handmesh.evaluation.review import Posed, case_image, tiled
from handmesh.files import sha256_of, write_csv, write_json, write_text

# Score anybody's prediction file as FreiHAND's server does, and beside it our own metrics.


NOTE = (
    "official: FreiHAND's own definitions, means in centimetres. metrics: means over samples with 95 % bootstrap "
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
    console.print(official_table(scores))
    if scores.vertices_rooted_m is None:
        console.print(f"[yellow]{OTHER_MESH.format(**counts)}[/]", highlight=False)
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
    """What metrics.json says of scores: the official metrics, ours with intervals, and the joints' errors."""
    per_joint = {
        kind: dict(zip(skeleton.KEYPOINTS, values.tolist(), strict=True))
        for kind, values in scores.per_joint_mm().items()
    }
    metrics = as_json(scores.metrics())
    return {"note": NOTE, "official": official_scores(scores.mesh), "metrics": metrics, "per_joint_mm": per_joint}


# The report of an evaluation on FreiHAND.


KINDS = {"camera": "in the camera's frame", "root": "roots together", "similarity": "after alignment (PA)"}

_HEADLINES = {
    "PA-MPJPE": "joints, aligned (PA-MPJPE)",
    "RA-MPJPE": "joints, roots together (RA-MPJPE)",
    "PA-MPVPE": "vertices, aligned (PA-MPVPE)",
    "PA-F@5": "F-score at 5 mm, aligned",
    "PA-F@15": "F-score at 15 mm, aligned",
}


def official_table(scores: Scores) -> Table:
    """The twelve official metrics by what they are of, with the server's names."""
    found = official_scores(scores.mesh)
    rows = []
    for points, text in (("xyz", "joints"), ("mesh", "vertices")):
        for kind, how in (("", "in the camera's frame"), ("al_", "after alignment")):
            mean, area = (f"{points}_{kind}{name}" for name in ("mean3d", "auc3d"))
            told = ["-", "-"] if found[mean] < 0 else [f"{10 * found[mean]:.4f} mm", f"{found[area]:.6f}"]
            rows.append([text, how, f"{mean}, {area}", *told])
    for at in (5, 15):
        for kind, how in (("f_score", "in the camera's frame"), ("f_al_score", "after alignment")):
            rows.append([f"F-score at {at} mm", how, f"{kind}_{at}", f"{found[f'{kind}_{at}']:.6f}", ""])
    note = "By the data set's own definitions; scores.txt holds the server's twelve lines (means in centimetres)."
    columns = ("", "", "the server's name", "mean", "area under PCK")
    return Table(f"{len(scores)} samples", columns, rows, words=3, note=note)


def _placing_table(scores: Scores) -> Table:
    wanted = {
        "MPJPE": "joints in the camera's frame", "MPVPE": "vertices in the camera's frame",
        "RA-MPJPE": "joints, roots together", "RA-MPVPE": "vertices, roots together",
        "root error": "the root joint's position", "root depth error": "its depth alone",
    }  # fmt: skip
    columns, found = scores.per_sample(), {one.name: one for one in scores.metrics()}
    rows = [
        [text, name, f"{found[name].value:.2f}", _interval(found[name]), f"{np.median(columns[name]):.2f}"]
        for name, text in wanted.items()
        if name in found
    ]
    note = "The root is the middle finger's knuckle. Intervals by bootstrap over samples."
    return Table("", ("", "", "mean, mm", "95 % interval", "median, mm"), rows, words=2, note=note, on_screen=False)


def _interval(metric: Metric) -> str:
    return f"{metric.low:.2f} to {metric.high:.2f}"


def _published_table(model: str, data: str, setting: Mapping[str, str], scores: Scores) -> Table:
    """The published table with our row in its place."""
    columns = ("method", "", "crops", "test-time augmentation", "note", "PA-MPJPE, mm", "PA-MPVPE, mm", "F@5", "F@15")
    rows = [
        (row.joints_mm, [row.method, "published", row.crop or "not said", "none", row.note, f"{row.joints_mm:.1f}",
         f"{row.vertices_mm:.1f}", _or_dash(row.f_5), _or_dash(row.f_15)])
        for row in TABLE
    ]  # fmt: skip
    rows.append(_own_row(model, setting, scores))
    rows.sort(key=lambda row: -row[0])
    own = [i for i, (_, cells) in enumerate(rows) if cells[1] == "measured"]
    note = f"Published numbers are of FreiHAND's {OFFICIAL_COUNT:,} evaluation images, without test-time augmentation."
    if len(scores) != OFFICIAL_COUNT:
        note += f" The measured row is of {len(scores):,} images of {data}: not to be compared with them."
    return Table("", columns, [cells for _, cells in rows], words=5, note=note, marked=own, on_screen=False)


def _own_row(model: str, setting: Mapping[str, str], scores: Scores) -> tuple[float, list[str]]:
    found = {one.name: one.value for one in scores.metrics()}
    note = f"{setting['time'].partition(',')[0]}, batch {setting['batch']}, {setting['hardware']}"
    comparable = scores.vertices_rooted_m is not None
    cells = [model, "measured", setting["crop protocol"].partition(":")[0], setting["test-time augmentation"], note]
    cells += [f"{found['PA-MPJPE']:.2f}", f"{found['PA-MPVPE']:.2f}" if comparable else "-"]
    cells += [_or_dash(found[name] if comparable else None) for name in ("PA-F@5", "PA-F@15")]
    return found["PA-MPJPE"], cells


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _joint_maps(scores: Scores) -> Figure:
    """Fingers by joints for each kind of error, in millimetres."""
    grids, titles = [], []
    for kind, values in scores.per_joint_mm().items():
        of = dict(zip(skeleton.KEYPOINTS, values.tolist(), strict=True))
        grids.append([[of[f"{finger}{k}"] for k in (1, 2, 3, 4)] for finger in skeleton.FINGERS])
        titles.append(f"{KINDS[kind]}; wrist {of['wrist']:.1f}")
    unit = "mean error, mm; joint 1 is the one nearest to the wrist"
    return heat_map(np.array(grids), skeleton.FINGERS, ["1", "2", "3", "tip"], titles, unit)


def _pck_curves(scores: Scores) -> Figure:
    mesh = scores.mesh
    panels = {"joints": (mesh.joints_m, scores.joints_rooted_m, mesh.joints_aligned_m)}
    if scores.vertices_rooted_m is not None:
        panels["vertices"] = (mesh.vertices_m, scores.vertices_rooted_m, mesh.vertices_aligned_m)
    figure = Figure(figsize=(4.8 * len(panels), 3.6), layout="constrained")
    for axes, (name, errors_m) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for kind, values, colour in zip(KINDS.values(), errors_m, COLOURS, strict=False):
            label = f"{kind}, area {float(auc(values)):.3f}"
            axes.plot(1000 * PCK_THRESHOLDS_M, 100 * pck_curve(values), color=colour, label=label)
        axes.set(title=name, xlabel="distance, mm", ylabel="points within it, %", ylim=(0, 100), xlim=(0, 50))
        axes.grid(color="#eeeeee")
        axes.legend(fontsize=8)
    return figure


# The samples that a report on FreiHAND shows, drawn.


SHOWN = 6
"""Samples of each group."""

_BEHIND = np.float32([0, 0, -1])  # of the camera: nothing is drawn


def shown_cases(
    freihand: FreihandSet, predictions: Predictions, errors_mm: np.ndarray | None, faces: np.ndarray
) -> list[Image]:
    """The best, the median and the worst by (N,) `errors_mm`; without errors, samples from all over the set.

    faces: of the predicted meshes.
    """
    return [
        Image.of_image(group, tiled([_case(freihand, predictions, i, errors_mm, faces) for i in samples]), group)
        for group, samples in _chosen(len(predictions), errors_mm).items()
    ]


def _chosen(count: int, errors_mm: np.ndarray | None) -> dict[str, list[int]]:
    if errors_mm is None:
        return {"all over the set": np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int).tolist()}
    order = np.argsort(errors_mm, kind="stable").tolist()
    middle = max(0, (count - SHOWN) // 2)
    return {"best": order[:SHOWN], "median": order[middle : middle + SHOWN], "worst": order[::-1][:SHOWN]}


def _case(
    freihand: FreihandSet, predictions: Predictions, i: int, errors_mm: np.ndarray | None, faces: np.ndarray
) -> tuple[np.ndarray, str]:
    """A sample, see `sheets.case_image`, and its caption."""
    predicted = Posed(predictions.joints_m[i], predictions.vertices_m[i])
    if not predictions.is_hand[i]:
        predicted = Posed(predicted.joints_m - _BEHIND, predicted.vertices_m + _BEHIND)
    truth = None if errors_mm is None else Posed(freihand.xyz[i], np.asarray(freihand.verts[i]))
    caption = f"{i:08d}" + ("" if errors_mm is None else f", {errors_mm[i]:.1f} mm")
    return case_image(freihand.image(i), freihand.camera(i), predicted, truth, faces), caption


# A whole evaluation on FreiHAND: predictions, official and own metrics, a report, and the server's file.


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation made, and of what."""

    options: FreihandOptions
    freihand: FreihandSet
    predictor: Predictor
    predictions: Predictions
    scores: Scores | None  # None: the set has no labels

    def setting(self) -> dict[str, str]:
        """How the metrics came about, in words."""
        options, count = self.options, len(self.predictions)
        return {
            **reading_setting(options, self.freihand, self.predictor, count),
            "hand size": "the given bone length (scale.json)" if options.use_scale else "as the network says",
            "position in space": "closed form, from the joints in the image and the camera K",
            "time": f"{1000 * self.predictions.seconds / count:.1f} ms an image, reading and cropping included",
        }

    def notes(self) -> list[str]:
        """What a reader must know before the metrics."""
        notes, predictions = [], self.predictions
        if self.scores is None:
            notes.append("Without evaluation_xyz.json and evaluation_verts.json nothing can be measured here.")
        elif self.scores.vertices_rooted_m is None:
            counts = {"predicted": predictions.vertices_m.shape[1], "true": self.freihand.verts.shape[1]}
            notes.append(OTHER_MESH.format(**counts))
        if missed := int((~predictions.located).sum()):
            notes.append(f"The detector found no hand in {missed} images; there the crop was centre-130.")
        if missed := int((~predictions.is_hand).sum()):
            notes.append(f"In {missed} images the network's numbers were no hand; zeros stand for them.")
        if self.options.submission and len(predictions) != OFFICIAL_COUNT:
            notes.append(f"pred.zip holds {len(predictions)} samples; FreiHAND's server takes {OFFICIAL_COUNT}.")
        return notes


def reading_setting(options: ReadingOptions, freihand: FreihandSet, predictor: Predictor, count: int) -> dict[str, str]:
    """What was looked at, and how, in words."""
    return {
        "data": f"{freihand.root.resolve().name}, evaluation split, {count:,} of {len(freihand):,} images",
        "model": f"{predictor.name} (SHA-256 {predictor.file_sha256[:12]})",
        "hand model": predictor.hand,
        **options.predict_options.described(predictor.box_scale),
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
    _write(done).print(Console())
    Console().print(f"written to {options.output}: report.html, metrics.json, samples.csv and more")
    return done.scores


def open_set(options: ReadingOptions) -> FreihandSet:
    """The evaluation split, with the labels that the crop protocol wants."""
    freihand = read_freihand(options.root, "evaluation")
    if options.predict_options.crop == "gt-keypoints":
        freihand.require("xyz")
    return freihand


def _predictions(options: FreihandOptions, freihand: FreihandSet, predictor: Predictor) -> Predictions:
    predict_options = options.predict_options
    kept = configuration(freihand, predictor, predict_options, options.use_scale)
    cache = ArrayCache(options.output / "predictions", kept, options.overwrite)
    reader = CropPredictor(predictor, predict_options, finder(predict_options, options.device, options.threads))
    return predict(freihand, reader, cache, predict_options, options.use_scale, options.batch, options.limit)


def _score(freihand: FreihandSet, predictions: Predictions) -> Scores | None:
    if freihand.xyz is None or freihand.verts is None:
        return None
    # The set keeps float32; the lists themselves give the last digits that the server gives.
    joints, vertices = (
        islice(true_points(freihand.root, *of), len(predictions)) for of in (("xyz", 21), ("verts", None))
    )
    return score_samples(predictions.joints_m, predictions.vertices_m, np.stack(list(joints)), vertices, "scoring")


def _write(done: Evaluation) -> Report:
    output, predictions, scores = done.options.output, done.predictions, done.scores
    if done.options.submission:
        write_submission(output / "pred.zip", predictions.joints_m, predictions.vertices_m)
    content = {"setting": done.setting(), "notes": done.notes(), "samples": len(predictions)}
    columns = {"sample": np.arange(len(predictions)), "is_hand": predictions.is_hand, "located": predictions.located}
    files: dict[str, object] = {"metrics.json": content, "samples.csv": columns}
    if scores is not None:
        files["metrics.json"] = content | metrics_of(scores)
        files["samples.csv"] = columns | scores.per_sample()
        files["scores.txt"] = official_text(official_scores(scores.mesh))
    report = _report(done)
    report.write(output, files)
    return report


def _report(done: Evaluation) -> Report:
    """Without labels it has no metrics, only what was predicted."""
    scores, setting, data = done.scores, done.setting(), done.freihand.root.resolve().name
    model = short_name(done.predictor.name)
    errors_mm = None if scores is None else scores.per_sample()["PA-MPJPE"]
    cases = shown_cases(done.freihand, done.predictions, errors_mm, done.predictor.faces)
    truth = "" if scores is None else "the image with the labelled joints, "
    legend = f"Each: {truth}the predicted mesh, and the view from the right: true grey, predicted blue, roots together."
    shown = Section("What was predicted" if scores is None else "Best, median and worst", (), cases, legend)
    sections = [shown] if scores is None else [
        Section("Official metrics", [official_table(scores)]),
        Section("Where the hand is", [_placing_table(scores)]),
        Section("Beside published results", [_published_table(model, data, setting, scores)]),
        Section("Joint by joint", (), [Image.of_figure("joints", _joint_maps(scores))]),
        Section("Points within a distance", (), [Image.of_figure("pck", _pck_curves(scores))]),
        shown,
    ]  # fmt: skip
    return Report(
        title="Hands in FreiHAND's evaluation images",
        subtitle=f"{model} on {data}, crops {setting['crop protocol'].partition(':')[0]}",
        setting=setting,
        sections=sections,
        headline=_headline(scores),
        warnings=done.notes(),
    )


def _headline(scores: Scores | None) -> list[Headline]:
    if scores is None:
        return []
    names = [name for name in _HEADLINES if name != "RA-MPJPE"]
    if scores.vertices_rooted_m is None:
        names = ["PA-MPJPE", "RA-MPJPE"]
    found = {one.name: one for one in scores.metrics()}
    return [Headline(_HEADLINES[n], f"{found[n].value:.{2 if found[n].unit else 3}f}", found[n].unit) for n in names]


def short_name(model: str) -> str:
    """A model's name for a table: a run's weights are called by the run's folder."""
    path = Path(model)
    return path.resolve().parent.name if path.name == "weights.safetensors" else path.stem
