"""The benchmarks of HO-3D and DexYCB: a network's hands by the definitions of the sets' own evaluation code, a report,
and the file that the server or toolkit takes.

Sources: `eval.py` of https://github.com/shreyashampali/ho3d and `hpe_eval.py` of
https://github.com/NVlabs/dex-ycb-toolkit; both are FreiHAND's with other alignments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

from handmesh import skeleton
from handmesh.data.sets import dexycb, ho3d, read_set
from handmesh.data.sets.table import OPENGL_TO_CAMERA, HandTable, SetError, keypoints_from, keypoints_to
from handmesh.evaluation.datasets import ArrayCache, Mesh
from handmesh.evaluation.hands import (
    Predictions,
    cases,
    dependencies,
    joint_maps,
    pck_curves,
    read_hands,
    reader_of,
    reading_setting,
    short_name,
)
from handmesh.evaluation.metrics import (
    F_THRESHOLDS_M,
    Metric,
    align,
    as_json,
    auc,
    errors,
    mesh_errors,
    metric,
    scale_and_translation,
)
from handmesh.evaluation.predictor import (
    PredictOptions,
    Predictor,
    ReadingOptions,
    View,
    open_predictor,
    true_points,
    write_submission,
)
from handmesh.evaluation.report import Headline, Report, Section, Table
from handmesh.files import write_text
from handmesh.hand.model import MANO_VERTICES

# What is measured, whatever the set.


class Measured(NamedTuple):
    """The errors of N samples' points after one kind of alignment."""

    name: str  # the set's own for it
    points: str  # joints or vertices
    how: str  # they were aligned, in words
    errors_m: np.ndarray  # (N, K)

    def metric(self) -> Metric:
        """The mean in millimetres, with its interval over samples."""
        return metric(self.name, 1000 * self.errors_m.mean(1), "mm")


class FScores(NamedTuple):
    """(N, 2) F-scores of meshes at `F_THRESHOLDS_M`, and after alignment."""

    raw: np.ndarray
    aligned: np.ndarray


class Score(NamedTuple):
    """All that one benchmark says of N samples."""

    measured: Sequence[Measured]
    f_scores: FScores | None  # None: the set asks for none, or there is no true mesh
    text: str  # as the set's own code writes it


def ho3d_score(
    joints_m: np.ndarray, true_joints_m: np.ndarray, meshes: tuple[np.ndarray, np.ndarray] | None = None
) -> Score:
    """HO-3D's official metrics of (N, 21, 3) joints in keypoint order and of (predicted, true) meshes, (N, V, 3) each.

    Joints as they are, after a similarity alignment, and with the wrists together and the bone from the wrist to the
    middle finger's knuckle as long as the true one; meshes as they are and aligned by themselves, and their F-scores.
    A mesh of another vertex count than the true one gets F-scores alone, as on the server. All rules look at distances,
    so that they are the same in the camera's axes as in OpenGL's.
    """
    moved = {
        ("xyz", "in the camera's frame"): joints_m,
        ("xyz_procrustes_al", "after alignment (PA)"): align(joints_m, true_joints_m),
        ("xyz_scale_trans_al", "scale and translation"): scale_and_translation(joints_m, true_joints_m),
    }
    measured = [Measured(*key[:1], "joints", key[1], errors(p, true_joints_m)) for key, p in moved.items()]
    f_scores = None
    if meshes is not None:
        found = mesh_errors(joints_m, meshes[0], true_joints_m, meshes[1])
        f_scores = FScores(found.f_scores, found.f_scores_aligned)
        if found.vertices_m is not None:
            measured += [
                Measured("mesh", "vertices", "in the camera's frame", found.vertices_m),
                Measured("mesh_al", "vertices", "after alignment (PA)", found.vertices_aligned_m),
            ]
    return Score(measured, f_scores, _ho3d_text(measured, f_scores))


def _ho3d_text(measured: Sequence[Measured], f_scores: FScores | None) -> str:
    """The server's `scores.txt`: means in centimetres; -100 and -1 for a mesh that cannot be compared."""
    of = {one.name: (100 * one.errors_m.mean(), auc(one.errors_m)) for one in measured}
    names = [one.name for one in measured if one.points == "joints"] + ["mesh", "mesh_al"] * (f_scores is not None)
    lines = []
    for name in names:
        mean, area = of.get(name, (-100.0, -1.0))
        lines += [f"{name}_mean3d: {mean:f}", f"{name}_auc3d: {area:f}"]
    for k, threshold in enumerate(F_THRESHOLDS_M if f_scores else ()):
        lines.append(f"f_score_{1000 * threshold:.0f}: {f_scores.raw[:, k].mean():f}")
        lines.append(f"f_al_score_{1000 * threshold:.0f}: {f_scores.aligned[:, k].mean():f}")
    return "\n".join(lines) + "\n"


def dexycb_score(joints_m: np.ndarray, true_joints_m: np.ndarray) -> Score:
    """DexYCB's official metrics of (N, 21, 3) joints in keypoint order: absolute, with the wrists together, aligned."""
    wrist, in_mm = [skeleton.WRIST], (1000 * joints_m, 1000 * true_joints_m)  # the toolkit aligns millimetres
    relative = errors(joints_m - joints_m[:, wrist], true_joints_m - true_joints_m[:, wrist])
    measured = [
        Measured("absolute", "joints", "in the camera's frame", errors(joints_m, true_joints_m)),
        Measured("root-relative", "joints", "wrists together", relative),
        Measured("procrustes", "joints", "after alignment (PA)", 1e-3 * errors(align(*in_mm), in_mm[1])),
    ]
    rows = [f"| {one.name} | {1000 * one.errors_m.mean():.4f} | {auc(one.errors_m):.4f} |" for one in measured]
    return Score(measured, None, "\n".join(["| alignment | MPJPE (mm) | AUC |", "|---|---:|---:|", *rows]) + "\n")


def with_tips(predictions: Predictions, tips: Mapping[str, int]) -> np.ndarray:
    """(N, 21, 3) the predicted joints, with the set's own fingertip vertices where the mesh is MANO's."""
    joints_m = predictions.joints_m.copy()
    if predictions.vertices_m.shape[1] == MANO_VERTICES:
        for name, vertex in tips.items():
            joints_m[:, skeleton.KEYPOINTS.index(name)] = predictions.vertices_m[:, vertex]
    return joints_m


# The two commands.


@dataclass(frozen=True)
class Ho3dOptions(ReadingOptions):
    """HO-3D's official metrics on its evaluation split, and the file for its server.

    Metrics need the released evaluation_xyz.json and evaluation_verts.json in the folder. Without them there is the
    submission alone.
    """

    root: tyro.conf.Positional[Path]
    """HO-3D's folder, version 2 or 3: evaluation.txt and evaluation/."""
    predict_options: tyro.conf.OmitArgPrefixes[PredictOptions] = field(
        default_factory=lambda: PredictOptions(crop="given-box")
    )
    submission: bool = False
    """Also write pred.zip for the server: official order of joints, OpenGL's axes."""
    output: Path = Path("outputs/ho3d")
    """Folder for the report, metrics.json, scores.txt, samples.csv and the predictions."""


@dataclass(frozen=True)
class DexycbOptions(ReadingOptions):
    """DexYCB's official metrics of hands on one of its test splits, and the file for its toolkit."""

    root: tyro.conf.Positional[Path]
    """DexYCB's folder: the subjects' folders and calibration/."""
    split: str = "s0_test"
    """One of s0 to s3 with _train, _val or _test."""
    submission: bool = False
    """Also write results.txt for the toolkit's examples/evaluate_hpe.py."""
    output: Path = Path("outputs/dexycb")
    """Folder for the report, metrics.json, scores.txt, samples.csv and the predictions."""


def evaluate_ho3d(options: Ho3dOptions) -> Score | None:
    """`handmesh evaluate ho3d`: the scores, None where the ground truth is not there. Raises ValueError."""
    table = read_set("ho3d", options.root, "evaluation")
    listed = len(ho3d.frame_names(options.root, "evaluation"))
    if len(table) != listed:
        raise SetError(f"{len(table)} of {listed} evaluation frames have their wrist and box: unpack the set again")
    work = _read(options, table)
    joints_m, count = with_tips(work.predictions, ho3d.TIP_VERTICES), len(work.predictions)
    score, true_meshes = None, None
    if np.isfinite(table.joints_m).all():
        if (options.root / ho3d.TRUE_VERTICES).is_file():
            true_meshes = np.stack(list(islice(_true_meshes(options.root), count)))
        meshes = None if true_meshes is None else (work.predictions.vertices_m, true_meshes)
        listed_joints = np.stack(list(islice(true_points(options.root, "xyz", 21), count)))  # with all their digits
        score = ho3d_score(joints_m, keypoints_from(listed_joints @ OPENGL_TO_CAMERA, "mano"), meshes)
    warnings = [] if score else [f"Without {ho3d.TRUE_JOINTS} nothing can be measured here."]
    if options.submission:
        turned = keypoints_to(joints_m @ OPENGL_TO_CAMERA, "mano")
        write_submission(options.output / "pred.zip", turned, work.predictions.vertices_m @ OPENGL_TO_CAMERA)
        sizes = ho3d.SIZES["evaluation"]
        if count not in sizes:
            warnings.append(f"pred.zip holds {count} samples; the servers take {' or '.join(map(str, sizes))}.")
    _publish("HO-3D", work, score, warnings, true_meshes)
    return score


def _true_meshes(root: Path) -> Iterator[np.ndarray]:
    return (mesh @ OPENGL_TO_CAMERA for mesh in true_points(root, "verts", None))


def evaluate_dexycb(options: DexycbOptions) -> Score:
    """`handmesh evaluate dexycb`: the scores. Raises ValueError."""
    table = read_set("dexycb", options.root, options.split)
    work = _read(options, table)
    joints_m, count = with_tips(work.predictions, dexycb.TIP_VERTICES), len(work.predictions)
    score = dexycb_score(joints_m, table.joints_m[:count].astype(np.float64))
    warnings = []
    absent = [name for k, name in enumerate(dexycb.SUBJECTS) if k in dexycb.PARTS[options.split].subjects
              and not (options.root / name).is_dir()]  # fmt: skip
    if absent:
        warnings.append(f"{len(absent)} subjects of {options.split} are not there: not to be compared with others.")
    if options.submission:
        lines = (
            ",".join([str(i), *(f"{value:.4f}" for value in joints.ravel())])
            for i, joints in zip(table.ids[:count].tolist(), 1000 * joints_m, strict=True)
        )
        write_text(options.output / "results.txt", "".join(f"{line}\n" for line in lines))
    _publish("DexYCB", work, score, warnings, None)
    return score


class Work(NamedTuple):
    """What was looked at, with what, and what came of it."""

    options: Ho3dOptions | DexycbOptions
    table: HandTable
    predictor: Predictor
    predictions: Predictions
    view: Callable[[int], View]


def _read(options: Ho3dOptions | DexycbOptions, table: HandTable) -> Work:
    """Predict the hands of a table, in parts that are kept."""
    crop = options.predict_options.crop
    around = {"gt-keypoints": table.joints_px, "detected": None}
    if table.box is not None:
        around["given-box"] = table.box.reshape(-1, 2, 2)
    if crop not in around:
        raise ValueError(f"{table.name} has no crops {crop}: take --crop {' or '.join(around)}")
    if crop == "gt-keypoints" and not np.isfinite(table.joints_px).all():
        raise ValueError(f"{table.name} has no labelled keypoints: take --crop given-box")

    def view(i: int) -> View:
        points = around[crop]
        return View(table.image(i), table.camera_of(i), None if points is None else points[i], table.side(i))

    predictor = open_predictor(options.model, options.hand_model, options.device, options.threads)
    kept = dependencies(predictor, options.predict_options) | {
        "data": str(options.root.resolve()), "split": table.name, "hands": len(table),
        "labels": float(np.nansum(table.joints_px.astype(np.float64))),
    }  # fmt: skip
    cache = ArrayCache(options.output / "predictions", kept, options.overwrite)
    count = min(options.limit or len(table), len(table))
    return Work(options, table, predictor, read_hands(view, count, reader_of(options, predictor), cache), view)


def _publish(title: str, work: Work, score: Score | None, warnings: list[str], true_meshes: np.ndarray | None) -> None:
    """Write and print the report."""
    options, table, predictions = work.options, work.table, work.predictions
    count, measured = len(predictions), score.measured if score else ()
    data = f"{table.name} in {options.root.resolve().name}, {count:,} of {len(table):,} hands"
    setting = reading_setting(options, work.predictor, data) | {"time": predictions.time()}
    aligned = next((one for one in measured if "PA" in one.how), None)

    def truth(i: int) -> Mesh:
        vertices = table.joints_m[i] if true_meshes is None else true_meshes[i]
        return Mesh(table.joints_m[i].astype(np.float64), vertices)

    errors_mm = None if aligned is None else 1000 * aligned.errors_m.mean(1)
    drawn = cases(work.view, predictions, work.predictor.faces, errors_mm, truth)
    metrics = [one.metric() for one in measured]
    report = Report(
        title=f"Hands in {title}'s images",
        subtitle=f"{short_name(work.predictor.name)} on {data}",
        setting=setting,
        sections=[*_sections(score, metrics), drawn],
        headline=[
            Headline(f"{one.points}, {one.how}", f"{m.value:.2f}", "mm")
            for one, m in zip(measured, metrics, strict=True)
        ],
        warnings=[*warnings, *predictions.warnings()],
    )
    content = {"setting": setting, "notes": report.warnings, "samples": count, "metrics": as_json(metrics)}
    columns = predictions.columns() | {f"{one.name}, mm": 1000 * one.errors_m.mean(1) for one in measured}
    files = {"metrics.json": content, "samples.csv": columns} | ({"scores.txt": score.text} if score else {})
    report.publish(options.output, files)


def _sections(score: Score | None, metrics: Sequence[Metric]) -> list[Section]:
    """The official metrics, joint by joint, and the fraction of points within each distance."""
    if score is None:
        return []
    rows = [
        [one.points, one.how, one.name, f"{m.value:.2f}", f"{m.low:.2f} to {m.high:.2f}", f"{auc(one.errors_m):.4f}"]
        for one, m in zip(score.measured, metrics, strict=True)
    ]
    for k, threshold in enumerate(F_THRESHOLDS_M if score.f_scores else ()):
        for how, values in zip(("in the camera's frame", "after alignment (PA)"), score.f_scores, strict=True):
            name = f"F-score at {1000 * threshold:.0f} mm"
            rows.append([name, how, "", f"{values[:, k].mean():.4f}", "", ""])
    columns = ("", "", "the set's name", "mean, mm", "95 % interval", "area under PCK, 0 to 50 mm")
    note = "By the data set's own definitions; scores.txt holds them as its own code writes them."
    official = Table(f"{len(score.measured[0].errors_m):,} hands", columns, rows, words=3, note=note)
    joints = {one.how: one.errors_m for one in score.measured if one.points == "joints"}
    points = {"joints": joints}
    if meshes := {one.how: one.errors_m for one in score.measured if one.points == "vertices"}:
        points["vertices"] = meshes
    maps = joint_maps({how: 1000 * values.mean(0) for how, values in joints.items()})
    return [Section("Official metrics", [official]), maps, pck_curves(points)]
