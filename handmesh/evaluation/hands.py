"""Hands predicted for the images of any data set: read in parts that outlive a killed run, scored, drawn."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.progress import Progress, track

from handmesh import skeleton
from handmesh.assets import detector_path
from handmesh.detection import Detector
from handmesh.evaluation.datasets import ArrayCache, Mesh, about_root
from handmesh.evaluation.metrics import (
    PCK_THRESHOLDS_M,
    MeshErrors,
    Metric,
    auc,
    errors,
    mesh_errors,
    metric,
    pck_curve,
)
from handmesh.evaluation.predictor import (
    CropPredictor,
    PredictOptions,
    Predictor,
    ReadingOptions,
    View,
    rounded,
    with_bone_length,
)
from handmesh.evaluation.report import COLOURS, Image, Section, heat_map, panels
from handmesh.evaluation.review import best_median_worst, case_image, tiled
from handmesh.files import sha256_of
from handmesh.geometry import mirror_faces
from handmesh.tracking.backends import open_session
from handmesh.types import Box

# A network's hands, made in parts that outlive a killed run.


PART = 128
"""Samples that are kept on disk together."""


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

    def warnings(self) -> list[str]:
        """What a reader must know of them before any metrics."""
        told = []
        if missed := int((~self.located).sum()):
            told.append(f"The detector found no hand in {missed} images; there the crop was centre-130.")
        if missed := int((~self.is_hand).sum()):
            told.append(f"In {missed} images the network's numbers were no hand; zeros stand for them.")
        return told

    def columns(self) -> dict[str, np.ndarray]:
        """For samples.csv."""
        return {"sample": np.arange(len(self)), "is_hand": self.is_hand, "located": self.located}

    def time(self) -> str:
        """What an image took, in words."""
        return f"{1000 * self.seconds / len(self):.1f} ms an image, reading and cropping included"


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


def dependencies(predictor: Predictor, options: PredictOptions) -> dict[str, object]:
    """All that predictions depend on beside the data, for `ArrayCache`."""
    return {
        "model": predictor.file_sha256[:16],
        "hand": predictor.hand_sha256[:16],
        "crop": options.crop,
        "detector": sha256_of(detector_path())[:16] if options.crop == "detected" else "",
        "passes": options.passes,
        "tta": options.tta,
    }


def reading_setting(options: ReadingOptions, predictor: Predictor, data: str) -> dict[str, str]:
    """What was looked at, and how, in words. data: the images."""
    return {
        "data": data,
        "model": f"{predictor.name} (SHA-256 {predictor.file_sha256[:12]})",
        "hand model": predictor.hand,
        **options.predict_options.described(predictor.box_scale),
        "crop size": f"{predictor.crop_size} x {predictor.crop_size} pixels",
        "batch": str(options.batch),
        "hardware": predictor.runs_on,
        "made with": f"handmesh {version('handmesh')}, {datetime.date.today().isoformat()}",
        "position in space": "closed form, from the joints in the image and the camera K",
    }


def short_name(model: str) -> str:
    """A model's name for a table: a run's weights are called by the run's folder."""
    path = Path(model)
    return path.resolve().parent.name if path.name == "weights.safetensors" else path.stem


Bones = tuple[np.ndarray, tuple[int, int]]
"""(N,) lengths in metres that hands are given, and the joints between which they are measured."""


def read_hands(
    view: Callable[[int], View], count: int, reader: CropPredictor, cache: ArrayCache, bones: Bones | None = None
) -> Predictions:
    """Predict `count` samples, with a progress bar; what the cache holds is not done again. view: sample i's image."""
    parts: list[dict[str, np.ndarray]] = []
    with Progress(transient=True) as progress:
        task = progress.add_task("predicting", total=count)
        for samples in parts_of(count):
            name = f"{samples.start:08d}"
            part = cache.get(name)
            if part is None or len(part["joints_m"]) < len(samples):
                part = read_part(view, reader, samples, bones)
                cache.put(name, **part)
            parts.append({name: values[: len(samples)] for name, values in part.items()})  # it may be of more
            progress.advance(task, len(samples))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    joined |= {name: rounded(joined[name]) for name in ("joints_m", "vertices_m")}
    return Predictions(**joined | {"seconds": float(joined["seconds"].sum())})


def parts_of(count: int) -> list[range]:
    """So many samples in parts."""
    return [range(start, min(start + PART, count)) for start in range(0, count, PART)]


def read_part(
    view: Callable[[int], View], reader: CropPredictor, samples: range, bones: Bones | None = None
) -> dict[str, np.ndarray]:
    """The fields of `Predictions` of some samples, the time by sample."""
    begin, count = time.perf_counter(), len(samples)
    seen = reader.read([view(i) for i in samples])
    arrays = {
        "joints_m": np.zeros((count, 21, 3), np.float32),
        "vertices_m": np.zeros((count, reader.num_vertices, 3), np.float32),
        "is_hand": np.array([one.hand is not None for one in seen]),
        "located": np.array([one.located for one in seen]),
    }
    for k, (i, hand) in enumerate(zip(samples, (one.hand for one in seen), strict=True)):
        if hand is not None:
            hand = hand if bones is None else with_bone_length(hand, float(bones[0][i]), bones[1])
            arrays["joints_m"][k], arrays["vertices_m"][k] = hand.joints_m, hand.vertices_m
    return arrays | {"seconds": np.full(count, (time.perf_counter() - begin) / count)}


# Predicted hands against true ones, sample by sample.


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


# What is drawn of them.


SHOWN = 6
"""Samples of each group."""

_BEHIND = np.float32([0, 0, -1])  # of the camera: nothing is drawn


def joint_maps(per_joint_mm: Mapping[str, np.ndarray]) -> Section:
    """Fingers by joints, a map for each kind of (21,) mean errors by its name."""
    grids, titles = [], []
    for kind, values in per_joint_mm.items():
        of = dict(zip(skeleton.KEYPOINTS, values.tolist(), strict=True))
        grids.append([[of[f"{finger}{k}"] for k in (1, 2, 3, 4)] for finger in skeleton.FINGERS])
        titles.append(f"{kind}; wrist {of['wrist']:.1f}")
    unit = "mean error, mm; joint 1 is the one nearest to the wrist"
    maps = heat_map(np.array(grids), skeleton.FINGERS, ["1", "2", "3", "tip"], titles, unit)
    return Section("Joint by joint", (), [Image.of_figure("joints", maps)])


def pck_curves(points: Mapping[str, Mapping[str, np.ndarray]]) -> Section:
    """The fraction of points within each distance: a panel for each kind of points, a curve for each way in which their
    (N, K) errors were aligned."""
    figure, ((*curves,),) = panels(1, len(points), (4.8 * len(points), 3.6))
    for axes, (name, kinds) in zip(curves, points.items(), strict=True):
        for (kind, values), colour in zip(kinds.items(), COLOURS, strict=False):
            label = f"{kind}, area {float(auc(values)):.3f}"
            axes.plot(1000 * PCK_THRESHOLDS_M, 100 * pck_curve(values), color=colour, label=label)
        axes.set(title=name, xlabel="distance, mm", ylabel="points within it, %", ylim=(0, 100), xlim=(0, 50))
        axes.legend(fontsize=8)
    return Section("Points within a distance", (), [Image.of_figure("pck", figure)])


def cases(
    view: Callable[[int], View],
    predictions: Predictions,
    faces: np.ndarray,
    errors_mm: np.ndarray | None,
    truth: Callable[[int], Mesh],
) -> Section:
    """The best, the median and the worst by (N,) `errors_mm`; without those, samples from all over the set.

    faces: of predicted right hands. truth: sample i's; not asked for without errors.
    """
    count = len(predictions)
    if errors_mm is None:
        chosen = {"all over the set": np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int).tolist()}
    else:
        chosen = best_median_worst(errors_mm, SHOWN)

    def case(i: int) -> tuple[np.ndarray, str]:
        seen, predicted = view(i), Mesh(predictions.joints_m[i], predictions.vertices_m[i])
        if not predictions.is_hand[i]:
            predicted = Mesh(predicted.joints_m - _BEHIND, predicted.vertices_m + _BEHIND)
        caption = f"{i:08d}" + ("" if errors_mm is None else f", {errors_mm[i]:.1f} mm")
        outward = mirror_faces(faces) if seen.side == "left" else faces
        true = None if errors_mm is None else truth(i)
        return case_image(seen.image, seen.camera, predicted, true, outward), caption

    images = [Image.of_image(name, tiled(list(map(case, samples))), name) for name, samples in chosen.items()]
    heading = "What was predicted" if errors_mm is None else "Best, median and worst"
    labelled = "" if errors_mm is None else "the image with the labelled joints, "
    view_text = "the predicted mesh, and the view from the right: true grey, predicted blue, roots together."
    return Section(heading, (), images, f"Each: {labelled}{view_text}")
