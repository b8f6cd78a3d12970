"""Reliability diagrams, and expected against actual errors of joints, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from handmesh.evaluation import figures as reports
from handmesh.evaluation.calibration.joints import JointErrors, binned
from handmesh.evaluation.calibration.reliability import BINS, Said, bins_of
from handmesh.evaluation.chart import COLOURS

_GREY = "#999999"


def write_reliability(
    path: Path, title: str, scores: Sequence[Said], figures: Mapping[str, Sequence[reports.Figure]]
) -> None:
    """A diagram of each score with its figures, and under it how many candidates lie in each bin."""
    scores = [said for said in scores if len(said.chance)]
    picture = Figure(figsize=(3.5 * len(scores), 5.4), layout="constrained")
    axes = picture.subplots(2, len(scores), sharex=True, squeeze=False, height_ratios=(3, 1.3))
    for k, said in enumerate(scores):
        _draw_diagram(axes[0, k], said, figures[said.name])
        _draw_counts(axes[1, k], said)
    axes[0, 0].set_ylabel("share that is right")
    axes[1, 0].set_ylabel("candidates")
    picture.suptitle(title, fontsize=10)
    _save(picture, path)


def _draw_diagram(axes: Axes, said: Said, figures: Sequence[reports.Figure]) -> None:
    bins = bins_of(said)
    chance, right, low, high = np.array([one[:4] for one in bins]).T
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
    axes.vlines(chance, low, high, color=COLOURS[0], linewidth=1.2, alpha=0.6)
    areas = 12 * (1 + np.log2([one.count for one in bins]))  # a bin of a single candidate should not look like much
    axes.scatter(chance, right, s=areas, color=COLOURS[0], zorder=3)
    width, mass, brier = figures
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    values = f"ECE {width.value:.3f} ({width.low:.3f}-{width.high:.3f}), of equal mass {mass.value:.3f}"
    axes.set_title(f"{said.name}\n{values}\nBrier score {brier.value:.3f}", fontsize=8)
    axes.grid(color="#eeeeee")


def _draw_counts(axes: Axes, said: Said) -> None:
    counts, edges = np.histogram(said.chance, BINS, (0.0, 1.0))
    axes.bar((edges[:-1] + edges[1:]) / 2, counts, 0.92 / BINS, color=COLOURS[0], alpha=0.5)
    for k in np.flatnonzero(counts):
        axes.text(
            (edges[k] + edges[k + 1]) / 2, counts[k], f" {counts[k]}", ha="center", va="bottom", fontsize=6, rotation=90
        )
    axes.set(yscale="log", ylim=(0.7, 12 * counts.max()), xlabel="chance that was said")


def write_spreads(path: Path, title: str, sets: Sequence[JointErrors]) -> None:
    """For each set, expected against actual errors of all joints, and under it both joint by joint."""
    figure = Figure(figsize=(3.9 * len(sets), 6.6), layout="constrained")
    axes = figure.subplots(2, len(sets), squeeze=False, height_ratios=(3, 2))
    for k, errors in enumerate(sets):
        _draw_binned(axes[0, k], errors)
        _draw_joints(axes[1, k], errors)
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def _draw_binned(axes: Axes, errors: JointErrors) -> None:
    said, came = binned(errors.expected, errors.actual)
    high = 1.1 * max(said.max(), came.max())
    axes.plot([0, high], [0, high], color=_GREY, linewidth=1, linestyle="--")
    axes.plot(said, came, color=COLOURS[0], marker="o", markersize=5, linewidth=1.2)
    axes.set(xlim=(0, high), ylim=(0, high), aspect="equal")
    axes.set(xlabel=f"expected, {errors.unit}", ylabel=f"came, {errors.unit}")
    axes.set_title(f"{errors.name}: {len(errors.picture)} hands", fontsize=9)
    axes.grid(color="#eeeeee")


def _draw_joints(axes: Axes, errors: JointErrors) -> None:
    places = np.arange(len(errors.joints))
    axes.bar(places, errors.actual.mean(0), 0.7, color=_GREY, alpha=0.6, label="came")
    axes.plot(
        places, errors.expected.mean(0), color=COLOURS[0], marker="o", markersize=3, linewidth=1, label="expected"
    )
    axes.set_xticks(places, errors.joints, rotation=90, fontsize=7)
    axes.set_ylabel(errors.unit)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
