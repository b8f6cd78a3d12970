"""The samples that a report on FreiHAND shows, drawn."""

from __future__ import annotations

import numpy as np

from handmesh.data.freihand import FreihandSet
from handmesh.evaluation.case_pictures import Posed, case_picture
from handmesh.evaluation.freihand.predictions import Predictions
from handmesh.evaluation.freihand.report import Case

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
