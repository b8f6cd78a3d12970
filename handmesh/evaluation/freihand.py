"""FreiHAND's protocol: prediction files, official scores, published results, and a network's predictions for its
evaluation split.
"""

from __future__ import annotations

import json
import re
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import Progress, track

from handmesh import skeleton
from handmesh.assets import Device, detector_path
from handmesh.data.freihand import FreihandSet, read_rows
from handmesh.detection import Detector
from handmesh.evaluation.datasets import ArrayCache, about_root
from handmesh.evaluation.metrics import F_THRESHOLDS_M, MeshErrors, Metric, auc, errors, mesh_errors, metric
from handmesh.evaluation.predictor import (
    CropPrediction,
    CropPredictor,
    Finder,
    PredictOptions,
    Predictor,
    View,
    with_bone_length,
)
from handmesh.files import atomic_write, sha256_of
from handmesh.geometry import project
from handmesh.skeleton import KEYPOINTS
from handmesh.tracking.backends import open_session
from handmesh.types import Box

# Prediction files as FreiHAND's server takes them: `[joints, vertices]`, N x 21 x 3 and N x V x 3, JSON or zipped.


FORMAT = "expected [N x 21 x 3 joints, N x V x 3 vertices], metres in the camera's frame"
OFFICIAL_COUNT = 3960
"""Samples of FreiHAND's own evaluation set, all of which the server wants."""

_NAME_IN_ZIP = "pred.json"
_SPACE = re.compile(r"\s*")
_decode = json.JSONDecoder().raw_decode


class PredictionError(ValueError):
    """A prediction file, or the truth that it is compared with, that cannot be scored; the message says why."""


class PredictionFile:
    """A prediction file: its joints at once, its meshes one by one, so that they are never all in memory."""

    def __init__(self, path: Path) -> None:
        """Read the joints. Raises PredictionError where the file is not of the format."""
        self.path, self._text, self._at = path, _text(path), 0
        self._expect("[", "a list of two")
        joints = list(self._rows("joints", len(KEYPOINTS)))
        self._expect(",", "the list of vertices behind that of joints")
        if not joints:
            raise self._error("it holds no samples")
        self.joints_m = np.stack(joints)  # (N, 21, 3) float64

    def vertices(self) -> Iterator[np.ndarray]:
        """The (V, 3) float64 mesh of each sample, once."""
        yield from self._rows("vertices", None)
        self._expect("]", "the end behind the list of vertices")
        if self._at < len(self._text):
            raise self._error("there is more behind the two lists")

    def _rows(self, what: str, count: int | None) -> Iterator[np.ndarray]:
        """The samples of one of the two lists, (count, 3) each."""
        self._expect("[", f"the list of {what}")
        sample = 0
        while not self._finds("]"):
            if sample:
                self._expect(",", f"the {what} of sample {sample}")
            yield self._points(f"the {what} of sample {sample}", count)
            sample += 1

    def _points(self, what: str, count: int | None) -> np.ndarray:
        try:
            value, self._at = _decode(self._text, self._skip())
        except ValueError:
            raise self._error(
                f"{what} are not JSON, or the file ends in the middle of them; write or copy it again"
            ) from None
        try:
            return points_of(value, count)
        except ValueError as error:
            raise self._error(f"{what}: {error}") from None

    def _expect(self, sign: str, what: str) -> None:
        if not self._finds(sign):
            found = self._text[self._at : self._at + 12]
            where = f"found {found!r}" if found else "the file ends there; write or copy it again"
            raise self._error(f"{what} should follow, {where}")

    def _finds(self, sign: str) -> bool:
        """Whether `sign` comes next; then it is passed."""
        found = self._text.startswith(sign, self._skip())
        self._at += len(sign) if found else 0
        self._skip()
        return found

    def _skip(self) -> int:
        self._at = _SPACE.match(self._text, self._at).end()
        return self._at

    def _error(self, reason: str) -> PredictionError:
        return PredictionError(f"{self.path}: {reason} ({FORMAT})")


def points_of(value: Any, count: int | None) -> np.ndarray:
    """(K, 3) float64 of one sample's JSON. ValueError where it is not `count` (or any positive number of) points."""
    try:
        points = np.array(value)
    except ValueError:  # rows of unequal length
        points = np.array(None)
    if points.dtype.kind not in "fi" or points.ndim != 2 or points.shape[1] != 3 or count not in (None, len(points)):
        wanted = "V" if count is None else count
        found = f"shape {'x'.join(map(str, points.shape))}" if points.dtype.kind in "fi" else "something else"
        raise ValueError(f"expected {wanted} x 3 numbers, found {found}")
    if not np.isfinite(points).all():
        raise ValueError(f"point {int(np.argmin(np.isfinite(points).all(1)))} is not finite")
    return points.astype(np.float64)


def _text(path: Path) -> str:
    """The JSON text of a file, or of the only JSON in a zip."""
    if not path.is_file():
        raise PredictionError(f"no prediction file at {path}")
    try:
        data = _from_zip(path) if zipfile.is_zipfile(path) else path.read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PredictionError(f"{path} is neither JSON nor a zip with JSON in it ({FORMAT})") from None
    except (zipfile.BadZipFile, RuntimeError, EOFError) as error:
        raise PredictionError(f"{path} is a damaged or locked zip ({error}); write it again") from None


def _from_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".json") and not name.startswith("__MACOSX")]
        if _NAME_IN_ZIP in names:
            names = [_NAME_IN_ZIP]
        if len(names) != 1:
            raise PredictionError(f"{path} holds {names or 'no JSON file'}; expected one, {_NAME_IN_ZIP}")
        return archive.read(names[0])


def true_points(folder: Path, name: str, count: int | None) -> Iterator[np.ndarray]:
    """The rows of `evaluation_{name}.json` in `folder`, each (K, 3) float64, one by one.

    Raises PredictionError where the list is missing, cut off or of another kind.
    """
    path = folder / f"evaluation_{name}.json"
    if not path.is_file():
        raise PredictionError(
            f"no {path.name} in {folder}: unpack FreiHAND's evaluation archive (FreiHAND_pub_v2_eval.zip) there"
        )
    rows = 0
    try:
        with path.open(encoding="utf-8") as stream:
            for value in read_rows(stream):
                yield points_of(value, count)
                rows += 1
    except EOFError:
        raise PredictionError(f"{path} ends in the middle, after {rows} rows; unpack it again") from None
    except ValueError as error:
        raise PredictionError(f"{path}, row {rows}: {error}; unpack it again") from None


def write_submission(path: Path, joints_m: np.ndarray, vertices_m: Iterable[np.ndarray]) -> None:
    """Write (N, 21, 3) joints and N meshes (V, 3) as the zip that the server takes. Replaces the file in one step."""
    with (
        atomic_write(path) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(_NAME_IN_ZIP, "w", force_zip64=True) as file,
    ):
        for before, samples in ((b"[[", joints_m), (b"], [", vertices_m)):
            file.write(before)
            for i, points in enumerate(samples):
                file.write((b", " if i else b"") + json.dumps(rounded(points).tolist()).encode())
        file.write(b"]]")


def rounded(points_m: np.ndarray) -> np.ndarray:
    """Float64 points to a tenth of a micrometre, far below what can be measured: the file is half as large."""
    return np.round(np.asarray(points_m, np.float64), 7)


# Predicted hands against true ones, sample by sample: FreiHAND's official metrics, and where the hand is.


@dataclass(frozen=True, eq=False)
class Scores:
    """All errors of N samples, in metres. Those of vertices are None where the vertex counts differ."""

    mesh: MeshErrors  # as they are in the camera's frame, and after similarity alignment
    joints_rooted_m: np.ndarray  # (N, 21) with the predicted root moved to the true one
    vertices_rooted_m: np.ndarray | None  # (N, V)
    root_m: np.ndarray  # (N, 3) the predicted root joint minus the true one

    def __len__(self) -> int:
        return len(self.root_m)

    def per_sample(self) -> dict[str, np.ndarray]:
        """(N,) columns by name: `MeshErrors.per_sample`, and RA- about the root; lengths in millimetres."""
        columns = self.mesh.per_sample() | {"RA-MPJPE": 1000 * self.joints_rooted_m.mean(1)}
        if self.vertices_rooted_m is not None:
            columns["RA-MPVPE"] = 1000 * self.vertices_rooted_m.mean(1)
        root = {"root error": np.linalg.norm(self.root_m, axis=1), "root depth error": np.abs(self.root_m[:, 2])}
        return columns | {name: 1000 * column for name, column in root.items()}

    def metrics(self) -> list[Metric]:
        """The mean of each column with its interval."""
        return [metric(name, column, unit_of(name)) for name, column in self.per_sample().items()]

    def per_joint_mm(self) -> dict[str, np.ndarray]:
        """(21,) mean error of each joint, by what was aligned before: nothing, the root, all of it."""
        kinds = {"camera": self.mesh.joints_m, "root": self.joints_rooted_m, "similarity": self.mesh.joints_aligned_m}
        return {name: 1000 * column.mean(0) for name, column in kinds.items()}


def unit_of(column: str) -> str:
    """The unit of a column of `Scores.per_sample`."""
    return "mm" if "MP" in column or "root" in column else ""


def official_scores(errors_m: MeshErrors) -> dict[str, float]:
    """The twelve metrics that FreiHAND's server gives, by its names and in its order; means in centimetres.

    A mesh of another vertex count gets the server's marks for "not measured": a mean of -100 (its
    -1, put in centimetres with the rest) and an area of -1.
    """
    of_joints = {"": errors_m.joints_m, "al_": errors_m.joints_aligned_m}
    of_vertices = {"": errors_m.vertices_m, "al_": errors_m.vertices_aligned_m}
    scores: dict[str, float] = {}
    for points, kinds in (("xyz", of_joints), ("mesh", of_vertices)):
        for kind, values in kinds.items():
            scores[f"{points}_{kind}mean3d"] = -100.0 if values is None else 100 * float(values.mean())
            scores[f"{points}_{kind}auc3d"] = -1.0 if values is None else float(auc(values))
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
    corresponding: bool | None = None
    for i, sample in enumerate(track(samples, progress, total=len(joints_m), disable=not progress, transient=True)):
        counts = len(sample[1]), len(sample[3])
        corresponding = counts[0] == counts[1] if corresponding is None else corresponding
        if corresponding and counts[0] != counts[1]:
            raise ValueError(f"the mesh of sample {i} has {counts[0]} vertices, its truth {counts[1]}")
        parts.append(_score_one(*sample, corresponding))
    return _joined(parts)


def _exactly(meshes: Iterable[np.ndarray], count: int, whose: str) -> Iterator[np.ndarray]:
    """The meshes, as long as they are `count`; ValueError where they are fewer or more."""
    given = 0
    for given, mesh in enumerate(meshes, 1):
        if given > count:
            raise ValueError(f"expected {count} {whose} meshes, as many as samples with joints, got more")
        yield mesh
    if given < count:
        raise ValueError(f"expected {count} {whose} meshes, as many as samples with joints, got {given}")


def _score_one(
    joints: np.ndarray, vertices: np.ndarray, true_joints: np.ndarray, true_vertices: np.ndarray, corresponding: bool
) -> Scores:
    mesh = mesh_errors(joints[None], vertices[None], true_joints[None], true_vertices[None], corresponding)
    rooted = about_root(np.asarray(joints, np.float64), np.asarray(vertices, np.float64))
    truth = about_root(np.asarray(true_joints, np.float64), np.asarray(true_vertices, np.float64))
    return Scores(
        mesh=mesh,
        joints_rooted_m=errors(rooted.joints_m[None], truth.joints_m[None]),
        vertices_rooted_m=errors(rooted.vertices_m[None], truth.vertices_m[None]) if corresponding else None,
        root_m=(np.asarray(joints, np.float64) - true_joints)[None, skeleton.ROOT],
    )


def _joined(parts: list[Scores]) -> Scores:
    if not parts:
        raise ValueError("no samples to score")
    no_vertices = parts[0].vertices_rooted_m is None
    return Scores(
        mesh=MeshErrors.joined([part.mesh for part in parts]),
        joints_rooted_m=np.concatenate([part.joints_rooted_m for part in parts]),
        vertices_rooted_m=None if no_vertices else np.concatenate([part.vertices_rooted_m for part in parts]),
        root_m=np.concatenate([part.root_m for part in parts]),
    )


# Results on FreiHAND's evaluation set as their authors published them, to stand beside ours.


class Published(NamedTuple):
    """One row: aligned errors in millimetres and aligned F-scores; None where none was given."""

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
"""None of these uses test-time augmentation, as far as their authors say."""


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


def finder(predict_options: PredictOptions, device: Device, threads: int | None) -> Finder | None:
    """What finds the hand under the protocol 'detected': the bundled detector's surest box, whatever side it says."""
    if predict_options.crop != "detected":
        return None
    detector = Detector(open_session(detector_path(), "detector", threads, device))

    def find(image: np.ndarray) -> Box | None:
        detections = detector.detect(image)
        return detections[0].box if detections else None

    return find


def view_of(freihand: FreihandSet, i: int, crop: str, image: np.ndarray) -> View:
    """Sample `i` with an (H, W, 3) uint8 `image` of it, as a `CropPredictor` wants it."""
    camera = freihand.camera(i)
    joints_px = project(freihand.xyz[i], camera) if crop == "gt-keypoints" else None
    return View(image, camera, joints_px)


def predict(
    freihand: FreihandSet,
    reader: CropPredictor,
    cache: ArrayCache,
    predict_options: PredictOptions,
    use_scale: bool,
    batch: int,
    limit: int | None,
) -> Predictions:
    """Predict the first `limit` samples (all if None), with a progress bar; what the cache holds is not done again."""
    count = min(limit or len(freihand), len(freihand))
    parts: list[dict[str, np.ndarray]] = []
    with Progress(transient=True) as progress:
        task = progress.add_task("predicting", total=count)
        for start in range(0, count, PART):
            samples = range(start, min(start + PART, count))
            part = cache.get(f"{start:08d}")
            if part is None or len(part["joints_m"]) < len(samples):
                lengths_m = freihand.scale if use_scale else None
                part = predict_part(freihand, reader, predict_options, batch, samples, freihand.image, lengths_m)
                cache.put(f"{start:08d}", **part)
            parts.append(_first(part, len(samples)))
            progress.advance(task, len(samples))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    points = {name: rounded(joined[name]) for name in ("joints_m", "vertices_m")}
    return Predictions(**{**joined, **points, "seconds": float(joined["seconds"].sum())})


def _first(part: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """The first samples of a part that may have been made for more."""
    return {name: values[:count] for name, values in part.items()}


def predict_part(
    freihand: FreihandSet, reader: CropPredictor, predict_options: PredictOptions, batch: int, samples: range,
    image_of: Callable[[int], np.ndarray], lengths_m: np.ndarray | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The fields of `Predictions` of some samples, the time by sample, from the images that `image_of` gives of them.

    lengths_m: of `SCALE_BONE`, for all samples of the set; the hands are made so large.
    """
    begin = time.perf_counter()
    seen = reader.read([view_of(freihand, i, predict_options.crop, image_of(i)) for i in samples], batch)
    if lengths_m is not None:
        seen = list(_scaled(seen, lengths_m[samples.start : samples.stop]))
    seconds = np.full(len(seen), (time.perf_counter() - begin) / len(seen))
    return _as_arrays(seen, reader.num_vertices) | {"seconds": seconds}


def _scaled(seen: list[CropPrediction], lengths_m: np.ndarray) -> Iterator[CropPrediction]:
    for one, length in zip(seen, lengths_m.tolist(), strict=True):
        yield one if one.hand is None else one._replace(hand=with_bone_length(one.hand, length, SCALE_BONE))


def _as_arrays(seen: list[CropPrediction], vertices: int) -> dict[str, np.ndarray]:
    """The fields of `Predictions` but the time."""
    arrays = {"joints_m": np.zeros((len(seen), 21, 3), np.float32)}
    arrays["vertices_m"] = np.zeros((len(seen), vertices, 3), np.float32)
    for i, one in enumerate(seen):
        if one.hand is not None:
            arrays["joints_m"][i], arrays["vertices_m"][i] = one.hand.joints_m, one.hand.vertices_m
    arrays["is_hand"] = np.array([one.hand is not None for one in seen])
    return arrays | {"located": np.array([one.located for one in seen])}
