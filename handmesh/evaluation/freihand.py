"""FreiHAND's evaluation: a network's predictions, or anybody's prediction file; official scores, a report, the server's
file.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress, track

from handmesh import skeleton
from handmesh.assets import detector_path
from handmesh.data.freihand import FreihandSet, read_freihand
from handmesh.detection import Detector
from handmesh.evaluation.datasets import ArrayCache, Mesh, about_root
from handmesh.evaluation.metrics import (
    F_THRESHOLDS_M,
    PCK_THRESHOLDS_M,
    MeshErrors,
    Metric,
    as_json,
    auc,
    errors,
    mesh_errors,
    metric,
    pck_curve,
)
from handmesh.evaluation.predictor import (
    CropPredictor,
    PredictionError,
    PredictionFile,
    PredictOptions,
    Predictor,
    ReadingOptions,
    View,
    open_predictor,
    rounded,
    true_points,
    with_bone_length,
    write_submission,
)
from handmesh.evaluation.report import COLOURS, UNKNOWN, Headline, Image, Report, Section, Table, heat_map, panels
from handmesh.evaluation.review import best_median_worst, case_image, tiled
from handmesh.files import sha256_of
from handmesh.geometry import project
from handmesh.tracking.backends import open_session
from handmesh.types import Box


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
    setting = reading_setting(options, freihand, predictor, len(predictions)) | {
        "hand size": "the given bone length (scale.json)" if options.use_scale else "as the network says",
        "position in space": "closed form, from the joints in the image and the camera K",
        "time": f"{1000 * predictions.seconds / len(predictions):.1f} ms an image, reading and cropping included",
    }
    warnings = _warnings(options, freihand, predictions, scores)
    columns = {"sample": np.arange(len(predictions)), "is_hand": predictions.is_hand, "located": predictions.located}
    files = _files(scores, {"setting": setting, "notes": warnings, "samples": len(predictions)})
    files["samples.csv"] = columns | (scores.per_sample() if scores else {})
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
    if missed := int((~predictions.located).sum()):
        told.append(f"The detector found no hand in {missed} images; there the crop was centre-130.")
    if missed := int((~predictions.is_hand).sum()):
        told.append(f"In {missed} images the network's numbers were no hand; zeros stand for them.")
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


# Predicted hands against true ones, sample by sample: FreiHAND's official metrics, and where the hand is.


@dataclass(frozen=True, eq=False)
class Scores(MeshErrors):
    """All errors of N samples as they are in the camera's frame, with the roots together, and after alignment."""

    joints_rooted_m: np.ndarray  # (N, 21) with the predicted root moved to the true one
    vertices_rooted_m: np.ndarray | None  # (N, V)
    root_m: np.ndarray  # (N, 3) the predicted root joint minus the true one

    def __len__(self) -> int:
        return len(self.root_m)

    def per_sample(self) -> dict[str, np.ndarray]:
        """(N,) columns by name: `MeshErrors.per_sample`, and RA- about the root; lengths in millimetres."""
        columns = super().per_sample() | {"RA-MPJPE": 1000 * self.joints_rooted_m.mean(1)}
        if self.vertices_rooted_m is not None:
            columns["RA-MPVPE"] = 1000 * self.vertices_rooted_m.mean(1)
        root = {"root error": np.linalg.norm(self.root_m, axis=1), "root depth error": np.abs(self.root_m[:, 2])}
        return columns | {name: 1000 * column for name, column in root.items()}

    @cached_property
    def metrics(self) -> list[Metric]:
        """The mean of each column with its interval."""
        columns = self.per_sample()
        return [
            metric(name, values, "mm" if "MP" in name or "root" in name else "") for name, values in columns.items()
        ]

    def per_joint_mm(self) -> dict[str, np.ndarray]:
        """(21,) mean error of each joint, by what was aligned before: nothing, the root, all of it."""
        kinds = {"camera": self.joints_m, "root": self.joints_rooted_m, "similarity": self.joints_aligned_m}
        return {name: 1000 * column.mean(0) for name, column in kinds.items()}


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


def score_samples(
    joints_m: np.ndarray,
    vertices_m: Iterable[np.ndarray],
    true_joints_m: np.ndarray,
    true_vertices_m: Iterable[np.ndarray],
    progress: str = "",
) -> Scores:
    """Score (N, 21, 3) joints and N predicted meshes (V, 3) against their truth, (W, 3) for a mesh.

    Meshes are taken one by one, so that they may come from a file. As on FreiHAND's server the
    first sample decides whether vertices correspond. progress: what to call the bar; none if empty.
    Raises ValueError where the meshes are not N, or where the first has as many vertices as its truth
    and a later one has not.
    """
    parts: list[Scores] = []
    if len(joints_m) != len(true_joints_m):
        raise ValueError(f"expected joints of {len(true_joints_m)} samples, as the truth has, got {len(joints_m)}")
    samples = zip(joints_m, _exactly(vertices_m, len(joints_m), "predicted"), true_joints_m,
                  _exactly(true_vertices_m, len(joints_m), "true"), strict=True)  # fmt: skip
    one_mesh: bool | None = None
    for i, sample in enumerate(track(samples, progress, total=len(joints_m), disable=not progress, transient=True)):
        joints, vertices, true_joints, true_vertices = (np.asarray(points, np.float64) for points in sample)
        counts = len(vertices), len(true_vertices)
        one_mesh = counts[0] == counts[1] if one_mesh is None else one_mesh
        if one_mesh and counts[0] != counts[1]:
            raise ValueError(f"the mesh of sample {i} has {counts[0]} vertices, its truth {counts[1]}")
        mesh = mesh_errors(joints[None], vertices[None], true_joints[None], true_vertices[None], one_mesh)
        rooted, truth = about_root(joints, vertices), about_root(true_joints, true_vertices)
        parts.append(Scores(
            **vars(mesh),
            joints_rooted_m=errors(rooted.joints_m[None], truth.joints_m[None]),
            vertices_rooted_m=errors(rooted.vertices_m[None], truth.vertices_m[None]) if one_mesh else None,
            root_m=(joints - true_joints)[None, skeleton.ROOT],
        ))  # fmt: skip
    if not parts:
        raise ValueError("no samples to score")
    return Scores.joined(parts)


def _exactly(meshes: Iterable[np.ndarray], count: int, whose: str) -> Iterator[np.ndarray]:
    """The meshes, as long as they are `count`; ValueError where they are fewer or more."""
    given = 0
    for given, mesh in enumerate(meshes, 1):
        if given > count:
            raise ValueError(f"expected {count} {whose} meshes, as many as samples with joints, got more")
        yield mesh
    if given < count:
        raise ValueError(f"expected {count} {whose} meshes, as many as samples with joints, got {given}")


# A network's predictions for FreiHAND's evaluation split, made in parts that outlive a killed run.

PART = 128
"""Samples that are kept on disk together."""

SCALE_BONE = (skeleton.ROOT, skeleton.KEYPOINTS.index("middle2"))
"""The joints between which FreiHAND's `scale` is measured."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Hands of N samples in the camera's frame, metres, rounded as in a submission."""

    joints_m: np.ndarray  # (N, 21, 3)
    vertices_m: np.ndarray  # (N, V, 3)
    is_hand: np.ndarray  # (N,) bool; where the network's numbers are no hand, all is zero
    located: np.ndarray  # (N,) bool; see `predictor.CropPrediction`
    seconds: float  # that reading the images and predicting took

    def __len__(self) -> int:
        return len(self.joints_m)


def open_set(options: ReadingOptions) -> FreihandSet:
    """The evaluation split, with the labels that the crop protocol wants."""
    freihand = read_freihand(options.root, "evaluation")
    if options.predict_options.crop == "gt-keypoints":
        freihand.require("xyz")
    return freihand


def reader_of(options: ReadingOptions, predictor: Predictor) -> CropPredictor:
    """The network, looking as the options say.

    Under the protocol 'detected' the bundled detector's surest box says where the hand is, whatever side it says.
    """
    if options.predict_options.crop != "detected":
        return CropPredictor(predictor, options.predict_options, batch=options.batch)
    detector = Detector(open_session(detector_path(), "detector", options.threads, options.device))

    def find(image: np.ndarray) -> Box | None:
        detections = detector.detect(image)
        return detections[0].box if detections else None

    return CropPredictor(predictor, options.predict_options, find, options.batch)


def configuration(
    freihand: FreihandSet, predictor: Predictor, predict_options: PredictOptions, use_scale: bool
) -> dict[str, object]:
    """All that predictions depend on. The labels only count where the crop protocol looks at them."""
    lists = ["K", "scale", *(["xyz"] if predict_options.crop == "gt-keypoints" else [])]
    stats = {name: (freihand.root / f"{freihand.split}_{name}.json").stat() for name in lists}
    return {
        "model": predictor.file_sha256[:16],
        "hand": predictor.hand_sha256[:16],
        "data": str(freihand.root.resolve()),
        "lists": {name: f"{stat.st_size} bytes, {stat.st_mtime_ns}" for name, stat in stats.items()},
        "first image": sha256_of(freihand.image_path(0))[:16],
        "crop": predict_options.crop,
        "detector": sha256_of(detector_path())[:16] if predict_options.crop == "detected" else "",
        "passes": predict_options.passes,
        "tta": predict_options.tta,
        "use_scale": use_scale,
    }


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


def short_name(model: str) -> str:
    """A model's name for a table: a run's weights are called by the run's folder."""
    path = Path(model)
    return path.resolve().parent.name if path.name == "weights.safetensors" else path.stem


def view_of(freihand: FreihandSet, i: int, image: np.ndarray) -> View:
    """Sample `i` with an (H, W, 3) uint8 `image` of it, as a `CropPredictor` wants it."""
    camera = freihand.camera(i)
    return View(image, camera, None if freihand.xyz is None else project(freihand.xyz[i], camera))


def predict(
    freihand: FreihandSet, reader: CropPredictor, cache: ArrayCache, use_scale: bool, limit: int | None
) -> Predictions:
    """Predict the first `limit` samples (all if None), with a progress bar; what the cache holds is not done again."""
    count = min(limit or len(freihand), len(freihand))
    parts: list[dict[str, np.ndarray]] = []
    with Progress(transient=True) as progress:
        task = progress.add_task("predicting", total=count)
        for samples in parts_of(count):
            name = f"{samples.start:08d}"
            part = cache.get(name)
            if part is None or len(part["joints_m"]) < len(samples):
                part = predict_part(freihand, reader, samples, freihand.image, freihand.scale if use_scale else None)
                cache.put(name, **part)
            parts.append({name: values[: len(samples)] for name, values in part.items()})  # it may be of more
            progress.advance(task, len(samples))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    joined |= {name: rounded(joined[name]) for name in ("joints_m", "vertices_m")}
    return Predictions(**joined | {"seconds": float(joined["seconds"].sum())})


def parts_of(count: int) -> list[range]:
    """So many samples in parts."""
    return [range(start, min(start + PART, count)) for start in range(0, count, PART)]


def predict_part(
    freihand: FreihandSet,
    reader: CropPredictor,
    samples: range,
    image_of: Callable[[int], np.ndarray],
    lengths_m: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The fields of `Predictions` of some samples, the time by sample, from the images that `image_of` gives of them.

    lengths_m: of `SCALE_BONE`, for all samples of the set; the hands are made so large.
    """
    begin, count = time.perf_counter(), len(samples)
    seen = reader.read([view_of(freihand, i, image_of(i)) for i in samples])
    arrays = {
        "joints_m": np.zeros((count, 21, 3), np.float32),
        "vertices_m": np.zeros((count, reader.num_vertices, 3), np.float32),
        "is_hand": np.array([one.hand is not None for one in seen]),
        "located": np.array([one.located for one in seen]),
    }
    for k, (i, hand) in enumerate(zip(samples, (one.hand for one in seen), strict=True)):
        if hand is not None:
            hand = hand if lengths_m is None else with_bone_length(hand, float(lengths_m[i]), SCALE_BONE)
            arrays["joints_m"][k], arrays["vertices_m"][k] = hand.joints_m, hand.vertices_m
    return arrays | {"seconds": np.full(count, (time.perf_counter() - begin) / count)}


# The report.


class Published(NamedTuple):
    """A result on FreiHAND's evaluation set: aligned errors in millimetres and aligned F-scores; None: not given."""

    method: str
    joints_mm: float
    vertices_mm: float
    f_5: float | None = None
    f_15: float | None = None
    crop: str = ""  # '' where it is not said
    note: str = ""


TABLE = (
    Published("FastMETRO-L", 6.5, 7.1),
    Published("MobRecon DenseStack", 6.9, 7.2),
    Published("METRO", 6.6, 6.7),
    Published("FastViT-MA36, simple MANO regression", 6.6, 6.7, note="84 FPS on a 2080 Ti"),
    Published("ReJSHand", 6.3, 6.4),
    Published("HaMeR", 6.0, 5.7, 0.785, 0.990, note="trained on 2.7 million images"),
    Published("simpleHand, FastViT-MA36", 5.7, 6.0, 0.772, 0.986, "gt-keypoints", "6.5 / 6.6 in others' reruns"),
    Published("WiLoR", 5.5, 5.1, 0.825, 0.993),
)
"""As their authors published them; none uses test-time augmentation, as far as these say."""

KINDS = {"camera": "in the camera's frame", "root": "roots together", "similarity": "after alignment (PA)"}

_HEADLINES = {
    "PA-MPJPE": "joints, aligned (PA-MPJPE)",
    "RA-MPJPE": "joints, roots together (RA-MPJPE)",
    "PA-MPVPE": "vertices, aligned (PA-MPVPE)",
    "PA-F@5": "F-score at 5 mm, aligned",
    "PA-F@15": "F-score at 15 mm, aligned",
}

SHOWN = 6
"""Samples of each group."""

_BEHIND = np.float32([0, 0, -1])  # of the camera: nothing is drawn


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
    sections, headline, heading, truth = [], [], "What was predicted", ""
    if scores is not None:
        heading, truth = "Best, median and worst", "the image with the labelled joints, "
        published = Section("Beside published results", [_published_table(model, data, setting, scores)])
        sections = [*_measured(scores), published, *_plots(scores)]
        names = {"PA-MPJPE", "RA-MPJPE"} if scores.vertices_rooted_m is None else _HEADLINES.keys() - {"RA-MPJPE"}
        headline = [
            Headline(_HEADLINES[one.name], f"{one.value:.{2 if one.unit else 3}f}", one.unit)
            for one in scores.metrics
            if one.name in names
        ]
    legend = f"Each: {truth}the predicted mesh, and the view from the right: true grey, predicted blue, roots together."
    cases = _cases(freihand, predictions, scores, predictor.faces)
    return Report(
        title="Hands in FreiHAND's evaluation images",
        subtitle=f"{model} on {data}, crops {setting['crop protocol'].partition(':')[0]}",
        setting=setting,
        sections=[*sections, Section(heading, (), cases, legend)],
        headline=headline,
        warnings=warnings,
    )


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


def _published_table(model: str, data: str, setting: Mapping[str, str], scores: Scores) -> Table:
    """The published table with our row in its place."""
    columns = ("method", "", "crops", "test-time augmentation", "note", "PA-MPJPE, mm", "PA-MPVPE, mm", "F@5", "F@15")

    def told(value: float | None, digits: int) -> str:
        return UNKNOWN if value is None else f"{value:.{digits}f}"

    found = {one.name: one.value for one in scores.metrics}
    of_mesh = ("PA-MPVPE", "PA-F@5", "PA-F@15")
    mesh = [None] * 3 if scores.vertices_rooted_m is None else [found[name] for name in of_mesh]
    own = Published(model, found["PA-MPJPE"], *mesh, setting["crop protocol"].partition(":")[0])
    own = own._replace(note=f"{setting['time'].partition(',')[0]}, batch {setting['batch']}, {setting['hardware']}")
    rows, ranked = [], sorted([*TABLE, own], key=lambda row: -row.joints_mm)
    for row in ranked:
        how, augmentation, digits = ("published", "none", 1)
        if row is own:
            how, augmentation, digits = ("measured", setting["test-time augmentation"], 2)
        numbers = [told(row.joints_mm, digits), told(row.vertices_mm, digits), told(row.f_5, 3), told(row.f_15, 3)]
        rows.append([row.method, how, row.crop or "not said", augmentation, row.note, *numbers])
    note = f"Published numbers are of FreiHAND's {OFFICIAL_COUNT:,} evaluation images, without test-time augmentation."
    if len(scores) != OFFICIAL_COUNT:
        note += f" The measured row is of {len(scores):,} images of {data}: not to be compared with them."
    return Table("", columns, rows, words=5, note=note, marked=[ranked.index(own)], on_screen=False)


def _plots(scores: Scores) -> list[Section]:
    """Fingers by joints for each kind of error, and the fraction of points within each distance."""
    grids, titles = [], []
    for kind, values in scores.per_joint_mm().items():
        of = dict(zip(skeleton.KEYPOINTS, values.tolist(), strict=True))
        grids.append([[of[f"{finger}{k}"] for k in (1, 2, 3, 4)] for finger in skeleton.FINGERS])
        titles.append(f"{KINDS[kind]}; wrist {of['wrist']:.1f}")
    unit = "mean error, mm; joint 1 is the one nearest to the wrist"
    maps = heat_map(np.array(grids), skeleton.FINGERS, ["1", "2", "3", "tip"], titles, unit)
    points = {"joints": (scores.joints_m, scores.joints_rooted_m, scores.joints_aligned_m)}
    if scores.vertices_rooted_m is not None:
        points["vertices"] = (scores.vertices_m, scores.vertices_rooted_m, scores.vertices_aligned_m)
    figure, ((*curves,),) = panels(1, len(points), (4.8 * len(points), 3.6))
    for axes, (name, errors_m) in zip(curves, points.items(), strict=True):
        for kind, values, colour in zip(KINDS.values(), errors_m, COLOURS, strict=False):
            label = f"{kind}, area {float(auc(values)):.3f}"
            axes.plot(1000 * PCK_THRESHOLDS_M, 100 * pck_curve(values), color=colour, label=label)
        axes.set(title=name, xlabel="distance, mm", ylabel="points within it, %", ylim=(0, 100), xlim=(0, 50))
        axes.legend(fontsize=8)
    return [
        Section("Joint by joint", (), [Image.of_figure("joints", maps)]),
        Section("Points within a distance", (), [Image.of_figure("pck", figure)]),
    ]


def _cases(freihand: FreihandSet, predictions: Predictions, scores: Scores | None, faces: np.ndarray) -> list[Image]:
    """The best, the median and the worst; without scores, samples from all over the set. faces: of predicted meshes."""
    count = len(predictions)
    errors_mm = None if scores is None else scores.per_sample()["PA-MPJPE"]
    if errors_mm is None:
        chosen = {"all over the set": np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int).tolist()}
    else:
        chosen = best_median_worst(errors_mm, SHOWN)

    def case(i: int) -> tuple[np.ndarray, str]:
        predicted = Mesh(predictions.joints_m[i], predictions.vertices_m[i])
        if not predictions.is_hand[i]:
            predicted = Mesh(predicted.joints_m - _BEHIND, predicted.vertices_m + _BEHIND)
        truth = None if errors_mm is None else Mesh(freihand.xyz[i], np.asarray(freihand.verts[i]))
        caption = f"{i:08d}" + ("" if errors_mm is None else f", {errors_mm[i]:.1f} mm")
        return case_image(freihand.image(i), freihand.camera(i), predicted, truth, faces), caption

    return [Image.of_image(name, tiled(list(map(case, samples))), name) for name, samples in chosen.items()]
