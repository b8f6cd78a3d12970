"""Metrics with 95 % intervals from what was predicted for labelled hands, and the true meshes of synthetic ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.data.shards import ShardSet
from handmesh.evaluation.datasets import FOUND_WITHIN, Case, Run
from handmesh.evaluation.metrics import (
    MeshErrors,
    align,
    bootstrap,
    errors,
    errors_2d,
    mesh_errors,
    tip_errors_along_finger,
)

# Figures with 95 % intervals from what was said of labelled hands.


PCK_SHARE = 0.2

TIP_SHARE = 0.1
"""A fingertip is right within this fraction of the longer box side."""

COMBINED = "combined"
"""The name of the figure to decide by."""


class Figure(NamedTuple):
    """One number of a report; not a number where there was nothing to measure."""

    name: str
    value: float
    low: float  # of the 95 % bootstrap interval
    high: float
    unit: str
    count: int  # of hands or pictures that it is over


def figure(name: str, values: Sequence[float] | np.ndarray, unit: str, median: bool = False) -> Figure:
    """The mean (or median) of one value a hand or picture, with its interval."""
    values = np.asarray(values, np.float64)
    if len(values) == 0:
        return Figure(name, math.nan, math.nan, math.nan, unit, 0)
    statistic = np.median if median else np.mean
    return Figure(name, float(statistic(values)), *bootstrap(values, statistic), unit, len(values))


def answered(cases: Sequence[Case]) -> list[Case]:
    """The cases with a hand to measure."""
    return [case for case in cases if case.answer.hand is not None]


class Mesh(NamedTuple):
    """A hand about its root joint, in metres, in the camera's axes."""

    joints_m: np.ndarray  # (21, 3)
    vertices_m: np.ndarray  # (V, 3)


def about_root(joints_m: np.ndarray, vertices_m: np.ndarray) -> Mesh:
    """A hand moved so that its root joint lies at the origin."""
    root = joints_m[skeleton.ROOT]
    return Mesh(joints_m - root, vertices_m - root)


def case_errors_2d(cases: Sequence[Case]) -> np.ndarray:
    """(N, 21) 2D errors of answered cases, as a fraction of the longer box side."""
    if not cases:
        return np.zeros((0, 21))
    return errors_2d([c.answer.hand.joints_px for c in cases], [c.label.joints_px for c in cases])


def mean_error_2d(cases: Sequence[Case]) -> np.ndarray:
    """(N,) mean 2D error of each answered case."""
    return case_errors_2d(cases).mean(1)


def photo_figures(run: Run) -> list[Figure]:
    """How many labelled hands are found, and how well those are placed, posed and told apart."""
    cases = answered(run.cases)
    return [
        *_finding_figures(run),
        *_placing_figures(cases),
        figure("PA-MPJPE (rough 3D)", aligned_mm(cases), "mm"),
        *_fingertip_figures(cases),
        figure(COMBINED, combined_errors(run.cases), "of box"),
        *_cost_figures(run),
    ]


def combined_errors(cases: Sequence[Case]) -> np.ndarray:
    """(N,) mean 2D error of each labelled hand as a fraction of the longer box side, FOUND_WITHIN if it is not found.

    Its mean is one number for finding and placing. Over several data sets it is the mean over all their
    hands together, so that each hand weighs the same, not each set.
    """
    found = np.array([case.answer.found for case in cases], bool)
    combined = np.full(len(cases), FOUND_WITHIN)
    combined[found] = mean_error_2d([case for case in cases if case.answer.found])
    return combined


def recoloured_figures(run: Run, recoloured: Mapping[str, Run]) -> list[Figure]:
    """For each recolouring of the same pictures, the hands found as a fraction of those found in colour."""
    return [_found_relative(f"hands found {name}", run.cases, other.cases) for name, other in recoloured.items()]


def _found_relative(name: str, in_colour: Sequence[Case], other: Sequence[Case]) -> Figure:
    found = np.array([(a.answer.found, b.answer.found) for a, b in zip(in_colour, other, strict=True)], float)

    def ratio(found: np.ndarray, axis: int = 0) -> float:
        before, after = found.sum(axis)
        return after / before if before else math.nan

    unit = "of those in colour"
    if not found.any():
        return figure(name, [], unit)
    return Figure(name, ratio(found), *bootstrap(found, ratio), unit, len(found))


def _finding_figures(run: Run) -> list[Figure]:
    sides = [case.answer.side_right for case in answered(run.cases)]
    return [
        figure("hands found", [100 * case.answer.found for case in run.cases], "%"),
        figure("side right", 100 * np.array(sides, float), "%"),
    ]


def _placing_figures(cases: Sequence[Case]) -> list[Figure]:
    in_picture = case_errors_2d(cases)
    return [
        figure("2D error, median", in_picture.mean(1), "of box", median=True),
        figure("2D error, mean", in_picture.mean(1), "of box"),
        figure(f"PCK@{PCK_SHARE}", 100 * (in_picture <= PCK_SHARE).mean(1), "%"),
    ]


def _fingertip_figures(cases: Sequence[Case]) -> list[Figure]:
    tips = case_errors_2d(cases)[:, list(skeleton.KEYPOINT_TIPS)]
    joints_px = [[hand.joints_px for hand in (case.answer.hand, case.label)] for case in cases]
    along = tip_errors_along_finger(*zip(*joints_px, strict=True)).mean(1) if cases else []
    return [
        figure(f"all fingertips within {TIP_SHARE}", 100 * (tips <= TIP_SHARE).all(1), "%"),
        figure("fingertips along the finger", along, "of box"),
    ]


def aligned_mm(cases: Sequence[Case]) -> np.ndarray:
    """(N,) PA-MPJPE against the labels' own 3D joints."""
    if not cases:
        return np.zeros(0)
    truth = np.stack([case.label.joints_m for case in cases])
    return 1000 * errors(align([case.answer.hand.joints_m for case in cases], truth), truth).mean(1)


def _cost_figures(run: Run) -> list[Figure]:
    return [
        figure("extra hands", 100 * _extra_counts(run), "per 100 pictures"),
        figure("time a picture, median", [answers.time_ms for _, answers in run.said], "ms", median=True),
    ]


def _extra_counts(run: Run) -> np.ndarray:
    """(P,) hands that nobody labelled, of the pictures in which they were looked for."""
    return np.array([len(answers.extra) for _, answers in run.said if answers.extra is not None])


def background_figures(run: Run) -> list[Figure]:
    """How often hands are seen where there are none."""
    counts = _extra_counts(run)
    return [
        figure("false hands", 100 * counts, "per 100 pictures"),
        figure("pictures with a false hand", 100 * (counts > 0), "%"),
        figure("time a picture, median", [answers.time_ms for _, answers in run.said], "ms", median=True),
    ]


def synthetic_figures(run: Run, truth: Mapping[str, Mesh]) -> list[Figure]:
    """As for photographs, and the official errors of joints and mesh about the root.

    truth: the true mesh by the name of the picture.
    """
    cases = answered(run.cases)
    mesh = score_meshes(cases, truth).per_sample() if cases else {}
    return [
        *_finding_figures(run),
        *_placing_figures(cases),
        *(figure(name, values, "mm" if "MP" in name else "") for name, values in mesh.items()),
        *_cost_figures(run),
    ]


def score_meshes(cases: Sequence[Case], truth: Mapping[str, Mesh]) -> MeshErrors:
    """Answered cases against their true meshes, both about the root joint."""
    hands = [about_root(case.answer.hand.joints_m, case.answer.hand.vertices_m) for case in cases]
    true = [truth[case.picture.name] for case in cases]
    return mesh_errors(*zip(*hands, strict=True), *zip(*true, strict=True))


# The true meshes of synthetic samples, posed from their labels. The one place here that needs torch.


TOLERANCE_M = 0.001


def true_meshes(shards: ShardSet, chunk: int = 256) -> dict[str, Mesh]:
    """The mesh of each sample by its key.

    Raises ImportError where torch is not installed, and ValueError where the bundled hand, posed
    as labelled, does not have the labelled joints.
    """
    try:
        import torch

        from handmesh.hand.model import HandModel
    except ImportError as error:
        raise ImportError(f"true meshes need the training extra: pip install 'handmesh[train]' ({error})") from None
    model = HandModel.load()
    meshes: dict[str, Mesh] = {}
    for start in range(0, len(shards), chunk):
        part = slice(start, start + chunk)
        rotations = Rotation.from_rotvec(shards.pose[part].reshape(-1, 3)).as_matrix().reshape(-1, 16, 3, 3)
        with torch.inference_mode():
            posed = model(torch.from_numpy(rotations).float(), torch.from_numpy(shards.shape[part]))
        joints, vertices = posed.joints.numpy(), posed.vertices.numpy()
        _check(joints + shards.translation_m[part, None], shards.joints_m[part])
        meshes |= dict(zip(shards.keys[part].tolist(), map(about_root, joints, vertices), strict=True))
    return meshes


def _check(joints_m: np.ndarray, labelled_m: np.ndarray) -> None:
    farthest = float(np.linalg.norm(joints_m - labelled_m, axis=-1).max())
    if farthest > TOLERANCE_M:
        raise ValueError(
            f"these shards were made with another hand: posed as labelled, the bundled one has joints up to "
            f"{1000 * farthest:.1f} mm from the labels; generate the shards again"
        )
