"""FreiHAND's evaluation: a network's predictions, or anybody's prediction file; official scores, a report, the server's
file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console

from handmesh import skeleton
from handmesh.data.freihand import FreihandSet, read_freihand
from handmesh.evaluation.datasets import ArrayCache, Mesh
from handmesh.evaluation.hands import (
    Predictions,
    Scores,
    cases,
    dependencies,
    joint_maps,
    pck_curves,
    read_hands,
    reader_of,
    reading_setting,
    score_samples,
    short_name,
)
from handmesh.evaluation.metrics import F_THRESHOLDS_M, MeshErrors, as_json, auc
from handmesh.evaluation.predictor import (
    CropPredictor,
    PredictionError,
    PredictionFile,
    PredictOptions,
    Predictor,
    ReadingOptions,
    View,
    open_predictor,
    true_points,
    write_submission,
)
from handmesh.evaluation.published import FREIHAND, Published, published_table
from handmesh.evaluation.report import UNKNOWN, Headline, Report, Section, Table
from handmesh.files import sha256_of
from handmesh.geometry import project


@dataclass(frozen=True)
class FreihandOptions(ReadingOptions):
    """Official metrics and our own on FreiHAND's evaluation split, with a report to read."""

    use_scale: bool = False
    """Make each hand as large as the given length of its middle finger's first bone says."""
    submission: bool = False
    """Also write pred.zip for the server."""
    output: Path = Path("outputs/freihand")
    """Folder for the report, metrics.json, scores.txt, samples.csv and the predictions."""


@dataclass(frozen=True)
class ScoreOptions:
    """Score a prediction file in the format of FreiHAND's server, as the server does."""

    gt: Path
    """Folder with evaluation_xyz.json and evaluation_verts.json."""
    pred: Path
    """pred.json, or a zip that holds it: [N x 21 x 3 joints, N x V x 3 vertices], metres."""
    output: Path = Path("outputs/score")
    """Folder for the report, scores.txt (the server's twelve lines), metrics.json and scores.csv."""


NOTE = (
    "official: FreiHAND's own definitions, means in centimetres. metrics: means over samples with 95 % bootstrap "
    "intervals; PA- after similarity alignment, RA- with the roots (middle1) together, the rest in the camera's frame"
)
OTHER_MESH = (
    "The predicted mesh has {predicted} vertices, the true one {true}: there is no vertex error, and by the official "
    "rule the aligned F-score takes the joints' alignment without the prediction's own size, which shrinks the mesh; "
    "compare joints, not F-scores."
)
OFFICIAL_COUNT = 3960
"""Samples of FreiHAND's own evaluation set, all of which the server wants."""


def score(options: ScoreOptions) -> Scores:
    """Score a prediction file against evaluation_xyz.json and evaluation_verts.json in a folder.

    Raises PredictionError where either side cannot be scored; then nothing is written.
    """
    truth, path = options.gt, options.pred
    with Console().status(f"reading {path.name}"):
        predicted = PredictionFile(path)
        true_joints = np.stack(list(true_points(truth, "xyz", len(skeleton.KEYPOINTS))))
    if len(predicted.joints_m) != len(true_joints):
        raise PredictionError(
            f"{path} holds joints of {len(predicted.joints_m)} samples, {truth} the truth of {len(true_joints)}"
        )
    counts: dict[str, int] = {}

    def counted(meshes: Iterable[np.ndarray], whose: str) -> Iterator[np.ndarray]:
        for mesh in meshes:
            counts.setdefault(whose, len(mesh))
            yield mesh

    meshes, true_meshes = counted(predicted.vertices(), "predicted"), counted(true_points(truth, "verts", None), "true")
    scores = score_samples(predicted.joints_m, meshes, true_joints, true_meshes, "scoring")
    setting = {"truth": str(truth), "predictions": str(path), "predictions_sha256": sha256_of(path), "vertices": counts}
    report = Report(
        title="Predictions for FreiHAND's evaluation images",
        subtitle=path.name,
        setting=setting,
        sections=_measured(scores),
        warnings=[] if scores.vertices_rooted_m is not None else [OTHER_MESH.format(**counts)],
    )
    files = _files(scores, {"setting": setting, "samples": len(scores)})
    report.publish(options.output, files | {"scores.csv": {"sample": np.arange(len(scores))} | scores.per_sample()})
    return scores


def evaluate_freihand(options: FreihandOptions) -> Scores | None:
    """Evaluate as the options say; the scores, None where the set has no labels.

    Raises ValueError (FreihandError, CacheMismatch, ModelFileError ...) for what cannot be done.
    """
    freihand = open_set(options)
    predictor = open_predictor(options.model, options.hand_model, options.device, options.threads)
    kept = configuration(freihand, predictor, options.predict_options, options.use_scale)
    cache = ArrayCache(options.output / "predictions", kept, options.overwrite)
    predictions = predict(freihand, reader_of(options, predictor), cache, options.use_scale, options.limit)
    scores = None
    if freihand.xyz is not None and freihand.verts is not None:
        # The set keeps float32; the lists themselves give the last digits that the server gives.
        lists = (true_points(freihand.root, *of) for of in (("xyz", 21), ("verts", None)))
        joints, vertices = (islice(points, len(predictions)) for points in lists)
        true_joints = np.stack(list(joints))
        scores = score_samples(predictions.joints_m, predictions.vertices_m, true_joints, vertices, "scoring")
    if options.submission:
        write_submission(options.output / "pred.zip", predictions.joints_m, predictions.vertices_m)
    setting = reading_setting(options, predictor, data_of(freihand, len(predictions))) | {
        "hand size": "the given bone length (scale.json)" if options.use_scale else "as the network says",
        "time": predictions.time(),
    }
    warnings = _warnings(options, freihand, predictions, scores)
    files = _files(scores, {"setting": setting, "notes": warnings, "samples": len(predictions)})
    files["samples.csv"] = predictions.columns() | (scores.per_sample() if scores else {})
    report = _report(freihand, predictor, predictions, scores, setting, warnings)
    report.publish(options.output, files)
    return scores


def _warnings(
    options: FreihandOptions, freihand: FreihandSet, predictions: Predictions, scores: Scores | None
) -> list[str]:
    """What a reader must know before the metrics."""
    told = []
    if scores is None:
        told.append("Without evaluation_xyz.json and evaluation_verts.json nothing can be measured here.")
    elif scores.vertices_rooted_m is None:
        told.append(OTHER_MESH.format(predicted=predictions.vertices_m.shape[1], true=freihand.verts.shape[1]))
    told += predictions.warnings()
    if options.submission and len(predictions) != OFFICIAL_COUNT:
        told.append(f"pred.zip holds {len(predictions)} samples; FreiHAND's server takes {OFFICIAL_COUNT}.")
    return told


def _files(scores: Scores | None, content: dict[str, object]) -> dict[str, object]:
    """metrics.json with `content` and, where there are scores, all about them; scores.txt."""
    if scores is None:
        return {"metrics.json": content}
    joints = {
        kind: dict(zip(skeleton.KEYPOINTS, values.tolist(), strict=True))
        for kind, values in scores.per_joint_mm().items()
    }
    official, metrics = official_scores(scores), as_json(scores.metrics)
    content = content | {"note": NOTE, "official": official, "metrics": metrics, "per_joint_mm": joints}
    return {"metrics.json": content, "scores.txt": official_text(official)}


# The twelve official metrics.


def official_scores(errors_m: MeshErrors) -> dict[str, float]:
    """The twelve metrics that FreiHAND's server gives, by its names and in its order; means in centimetres.

    A mesh of another vertex count gets the server's marks for "not measured": a mean of -100 (its
    -1, put in centimetres with the rest) and an area of -1.
    """
    points = {"xyz": errors_m.joints_m, "xyz_al": errors_m.joints_aligned_m}
    points |= {"mesh": errors_m.vertices_m, "mesh_al": errors_m.vertices_aligned_m}
    scores: dict[str, float] = {}
    for name, values in points.items():
        scores[f"{name}_mean3d"] = -100.0 if values is None else 100 * float(values.mean())
        scores[f"{name}_auc3d"] = -1.0 if values is None else float(auc(values))
    for k, threshold in enumerate(F_THRESHOLDS_M):
        scores[f"f_score_{1000 * threshold:.0f}"] = float(errors_m.f_scores[:, k].mean())
        scores[f"f_al_score_{1000 * threshold:.0f}"] = float(errors_m.f_scores_aligned[:, k].mean())
    return scores


def official_text(scores: dict[str, float]) -> str:
    """The text of the server's `scores.txt`: a line for each metric, six digits behind the point."""
    return "".join(f"{name}: {value:f}\n" for name, value in scores.items())


# A network's predictions for FreiHAND's evaluation split, made in parts that outlive a killed run.

SCALE_BONE = (skeleton.ROOT, skeleton.KEYPOINTS.index("middle2"))
"""The joints between which FreiHAND's `scale` is measured."""


def open_set(options: ReadingOptions) -> FreihandSet:
    """The evaluation split, with the labels that the crop protocol wants."""
    freihand = read_freihand(options.root, "evaluation")
    if options.predict_options.crop == "gt-keypoints":
        freihand.require("xyz")
    if options.predict_options.crop == "given-box":
        raise ValueError("FreiHAND gives no boxes: take --crop gt-keypoints, centre-130 or detected")
    return freihand


def configuration(
    freihand: FreihandSet, predictor: Predictor, options: PredictOptions, use_scale: bool
) -> dict[str, object]:
    """All that predictions depend on. The labels only count where the crop protocol looks at them."""
    lists = ["K", "scale", *(["xyz"] if options.crop == "gt-keypoints" else [])]
    stats = {name: (freihand.root / f"{freihand.split}_{name}.json").stat() for name in lists}
    return dependencies(predictor, options) | {
        "data": str(freihand.root.resolve()),
        "lists": {name: f"{stat.st_size} bytes, {stat.st_mtime_ns}" for name, stat in stats.items()},
        "first image": sha256_of(freihand.image_path(0))[:16],
        "use_scale": use_scale,
    }


def data_of(freihand: FreihandSet, count: int) -> str:
    """What was looked at, in words."""
    return f"{freihand.root.resolve().name}, evaluation split, {count:,} of {len(freihand):,} images"


def view_of(freihand: FreihandSet, i: int, image: np.ndarray) -> View:
    """Sample `i` with an (H, W, 3) uint8 `image` of it, as a `CropPredictor` wants it."""
    camera = freihand.camera(i)
    return View(image, camera, None if freihand.xyz is None else project(freihand.xyz[i], camera))


def predict(
    freihand: FreihandSet, reader: CropPredictor, cache: ArrayCache, use_scale: bool, limit: int | None
) -> Predictions:
    """Predict the first `limit` samples (all if None), with a progress bar; what the cache holds is not done again."""
    count = min(limit or len(freihand), len(freihand))
    bones = (freihand.scale, SCALE_BONE) if use_scale else None
    return read_hands(lambda i: view_of(freihand, i, freihand.image(i)), count, reader, cache, bones)


# The report.


KINDS = {"camera": "in the camera's frame", "root": "roots together", "similarity": "after alignment (PA)"}

_HEADLINES = {
    "PA-MPJPE": "joints, aligned (PA-MPJPE)",
    "RA-MPJPE": "joints, roots together (RA-MPJPE)",
    "PA-MPVPE": "vertices, aligned (PA-MPVPE)",
    "PA-F@5": "F-score at 5 mm, aligned",
    "PA-F@15": "F-score at 15 mm, aligned",
}


def _report(
    freihand: FreihandSet,
    predictor: Predictor,
    predictions: Predictions,
    scores: Scores | None,
    setting: Mapping[str, str],
    warnings: list[str],
) -> Report:
    """Without labels it has no metrics, only what was predicted."""
    model, data = short_name(predictor.name), freihand.root.resolve().name
    sections, headline = [], []
    if scores is not None:
        published = published_table(FREIHAND, OFFICIAL_COUNT, _own(model, setting, scores), len(scores), data)
        sections = [*_measured(scores), Section("Beside published results", [published]), *_plots(scores)]
        names = {"PA-MPJPE", "RA-MPJPE"} if scores.vertices_rooted_m is None else _HEADLINES.keys() - {"RA-MPJPE"}
        headline = [
            Headline(_HEADLINES[one.name], f"{one.value:.{2 if one.unit else 3}f}", one.unit)
            for one in scores.metrics
            if one.name in names
        ]
    drawn = cases(
        lambda i: view_of(freihand, i, freihand.image(i)), predictions, predictor.faces,
        None if scores is None else scores.per_sample()["PA-MPJPE"],
        lambda i: Mesh(freihand.xyz[i], np.asarray(freihand.verts[i])),
    )  # fmt: skip
    return Report(
        title="Hands in FreiHAND's evaluation images",
        subtitle=f"{model} on {data}, crops {setting['crop protocol'].partition(':')[0]}",
        setting=setting,
        sections=[*sections, drawn],
        headline=headline,
        warnings=warnings,
    )


def _own(model: str, setting: Mapping[str, str], scores: Scores) -> Published:
    """Our row of the published table."""
    found = {one.name: one.value for one in scores.metrics}
    of_mesh = ("PA-MPVPE", "PA-F@5", "PA-F@15")
    mesh = [None] * 3 if scores.vertices_rooted_m is None else [found[name] for name in of_mesh]
    note = f"{setting['time'].partition(',')[0]}, batch {setting['batch']}, {setting['hardware']}"
    crop, augmentation = setting["crop protocol"].partition(":")[0], setting["test-time augmentation"]
    return Published(model, found["PA-MPJPE"], *mesh, crop, note, augmentation=augmentation)


def _plots(scores: Scores) -> list[Section]:
    """Joint by joint, and the fraction of points within each distance."""
    kinds = zip(KINDS.values(), scores.per_joint_mm().values(), strict=True)
    points = {"joints": (scores.joints_m, scores.joints_rooted_m, scores.joints_aligned_m)}
    if scores.vertices_rooted_m is not None:
        points["vertices"] = (scores.vertices_m, scores.vertices_rooted_m, scores.vertices_aligned_m)
    curves = {name: dict(zip(KINDS.values(), values, strict=True)) for name, values in points.items()}
    return [joint_maps(dict(kinds)), pck_curves(curves)]


def _measured(scores: Scores) -> list[Section]:
    """The twelve official metrics by what they are of, with the server's names; and where the hand is."""
    official = official_scores(scores)
    rows = []
    for points, text in (("xyz", "joints"), ("mesh", "vertices")):
        for kind, how in (("", "in the camera's frame"), ("al_", "after alignment")):
            mean, area = (f"{points}_{kind}{name}" for name in ("mean3d", "auc3d"))
            measured = [f"{10 * official[mean]:.4f} mm", f"{official[area]:.6f}"]
            rows.append([text, how, f"{mean}, {area}", *([UNKNOWN] * 2 if official[mean] < 0 else measured)])
    for at in (5, 15):
        for kind, how in (("f_score", "in the camera's frame"), ("f_al_score", "after alignment")):
            rows.append([f"F-score at {at} mm", how, f"{kind}_{at}", f"{official[f'{kind}_{at}']:.6f}", ""])
    note = "By the data set's own definitions; scores.txt holds the server's twelve lines (means in centimetres)."
    columns = ("", "", "the server's name", "mean", "area under PCK")
    first = Table(f"{len(scores)} samples", columns, rows, words=3, note=note)
    wanted = {
        "MPJPE": "joints in the camera's frame", "MPVPE": "vertices in the camera's frame",
        "RA-MPJPE": "joints, roots together", "RA-MPVPE": "vertices, roots together",
        "root error": "the root joint's position", "root depth error": "its depth alone",
    }  # fmt: skip
    rows = [
        [wanted[one.name], one.name, f"{one.value:.2f}", f"{one.low:.2f} to {one.high:.2f}", f"{np.median(values):.2f}"]
        for one, values in zip(scores.metrics, scores.per_sample().values(), strict=True)
        if one.name in wanted
    ]
    columns, note = ("", "", "mean, mm", "95 % interval", "median, mm"), "Intervals by bootstrap over samples."
    second = Table("", columns, rows, 2, f"The root is the middle finger's knuckle. {note}", on_screen=False)
    return [Section("Official metrics", [first]), Section("Where the hand is", [second])]
