"""How much worse a network gets under the corruptions of ImageNet-C, and how much of that a baseline suffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rich.progress import Progress

from handmesh import skeleton
from handmesh.data.freihand import FreihandSet
from handmesh.evaluation.cache import ArrayCache
from handmesh.evaluation.freihand.predictions import PART, view_of
from handmesh.evaluation.looks import Looks, Reader
from handmesh.evaluation.options import ErrorKind
from handmesh.evaluation.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from handmesh.metrics import align, errors

CLEAN = "clean"


@dataclass(frozen=True, eq=False)
class Robustness:
    """The mean joint errors of one network, in millimetres."""

    model: str
    clean_mm: float
    corrupted_mm: dict[str, np.ndarray]  # (5,) at each severity, by the corruption's name

    @property
    def mean_mm(self) -> float:
        """The mean over all corruptions and severities."""
        return float(np.mean(list(self.corrupted_mm.values())))

    @property
    def by_severity_mm(self) -> np.ndarray:
        """(6,) means over the corruptions: of clean pictures, then of each severity."""
        return np.concatenate([[self.clean_mm], np.mean(list(self.corrupted_mm.values()), axis=0)])


def corruption_errors(network: Robustness, baseline: Robustness) -> dict[str, float]:
    """The corruption error of each kind, in per cent: the error summed over severities over the baseline's.

    Their mean is the mean corruption error, mCE, as Hendrycks and Dietterich (2019) define it; an
    error rate there is a joint error in millimetres here.
    """
    pairs = {name: (values.sum(), baseline.corrupted_mm[name].sum()) for name, values in network.corrupted_mm.items()}
    return {name: float(100 * own / other) for name, (own, other) in pairs.items()}


def mean_corruption_error(network: Robustness, baseline: Robustness) -> float:
    """The mean over the 15 kinds of `corruption_errors`, in per cent."""
    return float(np.mean(list(corruption_errors(network, baseline).values())))


def predict_corrupted(
    freihand: FreihandSet, reader: Reader, cache: ArrayCache, looks: Looks, batch: int, limit: int | None, what: str
) -> dict[str, np.ndarray]:
    """(S, N, 21, 3) joints in the camera's frame by the corruption's name, S severities; S is 1 for clean pictures.

    What the cache holds is not done again. what: to call the progress bar.
    """
    count = min(limit or len(freihand), len(freihand))
    joints: dict[str, np.ndarray] = {}
    with Progress(transient=True) as progress:
        task = progress.add_task(what, total=count * (1 + len(CORRUPTIONS) * len(SEVERITIES)))
        for name in (CLEAN, *CORRUPTIONS):
            severities = (0,) if name == CLEAN else SEVERITIES
            progress.update(task, description=f"{what}, {name}")
            kept = cache.get(_file_name(name))
            if kept is None or kept["joints_m"].shape[1] < count:
                values = [_predict(freihand, reader, looks, batch, count, name, severity) for severity in severities]
                kept = {"joints_m": np.stack(values)}
                cache.put(_file_name(name), **kept)
            joints[name] = kept["joints_m"][:, :count]
            progress.advance(task, count * len(severities))
    return joints


def _file_name(corruption: str) -> str:
    return corruption.replace(" ", "-").lower()


def _predict(
    freihand: FreihandSet, reader: Reader, looks: Looks, batch: int, count: int, name: str, severity: int
) -> np.ndarray:
    """(N, 21, 3) joints; zeros where the network's numbers are no hand."""
    joints = np.zeros((count, len(skeleton.KEYPOINTS), 3), np.float32)
    for start in range(0, count, PART):
        samples = range(start, min(start + PART, count))
        views = [view_of(freihand, i, looks.crop, _picture(freihand, i, name, severity)) for i in samples]
        for i, seen in zip(samples, reader.read(views, batch), strict=True):
            if seen.hand is not None:
                joints[i] = seen.hand.joints_m
    return joints


def _picture(freihand: FreihandSet, i: int, name: str, severity: int) -> np.ndarray:
    image = freihand.image(i)
    return image if name == CLEAN else corrupt(image, name, severity, seed=i)


def measure(model: str, joints: Mapping[str, np.ndarray], true_joints_m: np.ndarray, kind: ErrorKind) -> Robustness:
    """Score what `predict_corrupted` gave against (N, 21, 3) true joints."""
    means = {
        name: np.array([_mean_error_mm(one, true_joints_m, kind) for one in each]) for name, each in joints.items()
    }
    return Robustness(model, float(means.pop(CLEAN)[0]), means)


def _mean_error_mm(joints_m: np.ndarray, true_joints_m: np.ndarray, kind: ErrorKind) -> float:
    if kind == "PA-MPJPE":
        return 1000 * float(errors(align(joints_m, true_joints_m), true_joints_m).mean())
    root = slice(skeleton.ROOT, skeleton.ROOT + 1)
    return 1000 * float(errors(joints_m - joints_m[:, root], true_joints_m - true_joints_m[:, root]).mean())
