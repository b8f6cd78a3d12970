"""A network's predictions for FreiHAND's evaluation split, made in parts that outlive a killed run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.progress import Progress

from handmesh import skeleton
from handmesh.camera import project
from handmesh.data.freihand import FreihandSet
from handmesh.evaluation.cache import ArrayCache
from handmesh.evaluation.files import sha256_of
from handmesh.evaluation.freihand.submission import rounded
from handmesh.evaluation.looks import Finder, Looks, Reader, Seen, View, with_bone_length
from handmesh.evaluation.predictor import Predictor
from handmesh.runtime.backend import open_session
from handmesh.runtime.detector import Detector
from handmesh.runtime.models import Device, detector_path
from handmesh.structs import Box

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
    located: np.ndarray  # (N,) bool; see `looks.Seen`
    seconds: float  # that reading the pictures and predicting took

    def __len__(self) -> int:
        return len(self.joints_m)


def configuration(freihand: FreihandSet, predictor: Predictor, looks: Looks, use_scale: bool) -> dict[str, object]:
    """All that predictions depend on. The labels only count where the crop protocol looks at them."""
    lists = ["K", "scale", *(["xyz"] if looks.crop == "gt-keypoints" else [])]
    stats = {name: (freihand.root / f"{freihand.split}_{name}.json").stat() for name in lists}
    return {
        "model": predictor.file_sha256[:16],
        "hand": predictor.hand_sha256[:16],
        "data": str(freihand.root.resolve()),
        "lists": {name: f"{stat.st_size} bytes, {stat.st_mtime_ns}" for name, stat in stats.items()},
        "first picture": sha256_of(freihand.image_path(0))[:16],
        "crop": looks.crop,
        "detector": sha256_of(detector_path())[:16] if looks.crop == "detected" else "",
        "passes": looks.passes,
        "tta": looks.tta,
        "use_scale": use_scale,
    }


def finder(looks: Looks, device: Device, threads: int | None) -> Finder | None:
    """What finds the hand under the protocol 'detected': the bundled detector's surest box, whatever side it says."""
    if looks.crop != "detected":
        return None
    detector = Detector(open_session(detector_path(), "detector", threads, device))

    def find(image: np.ndarray) -> Box | None:
        detections = detector.detect(image)
        return detections[0].box if detections else None

    return find


def view_of(freihand: FreihandSet, i: int, crop: str, image: np.ndarray | None = None) -> View:
    """Sample `i`, or another `image` of it, as a `Reader` wants it."""
    camera = freihand.camera(i)
    joints_px = project(freihand.xyz[i], camera) if crop == "gt-keypoints" else None
    return View(freihand.image(i) if image is None else image, camera, joints_px)


def predict(
    freihand: FreihandSet,
    reader: Reader,
    cache: ArrayCache,
    looks: Looks,
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
                part = _predict_part(freihand, reader, looks, use_scale, batch, samples)
                cache.put(f"{start:08d}", **part)
            parts.append(_first(part, len(samples)))
            progress.advance(task, len(samples))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    points = {name: rounded(joined[name]) for name in ("joints_m", "vertices_m")}
    return Predictions(**{**joined, **points, "seconds": float(joined["seconds"].sum())})


def _first(part: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """The first samples of a part that may have been made for more."""
    return {name: values[:count] for name, values in part.items()}


def _predict_part(
    freihand: FreihandSet, reader: Reader, looks: Looks, use_scale: bool, batch: int, samples: range
) -> dict[str, np.ndarray]:
    begin = time.perf_counter()
    seen = reader.read([view_of(freihand, i, looks.crop) for i in samples], batch)
    if use_scale:
        seen = list(_scaled(seen, freihand.scale[samples.start : samples.stop]))
    seconds = np.full(len(seen), (time.perf_counter() - begin) / len(seen))
    return _as_arrays(seen, reader.num_vertices) | {"seconds": seconds}


def _scaled(seen: list[Seen], lengths_m: np.ndarray) -> Iterator[Seen]:
    for one, length in zip(seen, lengths_m.tolist(), strict=True):
        yield one if one.hand is None else one._replace(hand=with_bone_length(one.hand, length, SCALE_BONE))


def _as_arrays(seen: list[Seen], vertices: int) -> dict[str, np.ndarray]:
    """The fields of `Predictions` but the time."""
    arrays = {"joints_m": np.zeros((len(seen), 21, 3), np.float32)}
    arrays["vertices_m"] = np.zeros((len(seen), vertices, 3), np.float32)
    for i, one in enumerate(seen):
        if one.hand is not None:
            arrays["joints_m"][i], arrays["vertices_m"][i] = one.hand.joints_m, one.hand.vertices_m
    arrays["is_hand"] = np.array([one.hand is not None for one in seen])
    return arrays | {"located": np.array([one.located for one in seen])}
