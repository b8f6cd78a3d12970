"""Plots of evaluations, by matplotlib: reliability diagrams, expected errors of joints, followed tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from handmesh import skeleton
from handmesh.evaluation import intervals as reports
from handmesh.evaluation.calibration import BINS, JointErrors, Said, binned, bins_of
from handmesh.evaluation.html import COLOURS
from handmesh.evaluation.tracking import Report, Track

# Reliability diagrams, and expected against actual errors of joints, as pictures.


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


# The tracks as a picture: a fast wave from frame to frame, a still hand's unrest, jitter and lag by preset.


_WINDOW_S = (1.0, 2.2)


def write_plot(path: Path, report: Report, tracks: Sequence[Track]) -> None:
    """Draw the panels of whatever was filmed into a file, whose ending says the format."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    wave, still, jitter, lag = figure.subplots(2, 2).flat
    _draw_wave(wave, [track for track in tracks if track.sequence == "fast wave" and not track.take])
    _draw_still(still, [track for track in tracks if track.sequence == "still" and not track.take])
    _draw_bars(jitter, report, "jitter_mm", "jitter of a still hand, mm RMS")
    _draw_bars(lag, report, "lag_picture_ms", "behind in the picture, ms")
    lag.axhline(1000 / 30, color="#888888", linewidth=0.8, linestyle="--")  # a frame
    figure.suptitle(f"{Path(report.setting.model).name}; {report.setting.machine}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_wave(axes: Axes, tracks: Sequence[Track]) -> None:
    axes.set(title="fast wave: the root joint's x", xlabel="time, s", ylabel="px")
    for k, track in enumerate(tracks):
        hand = track.hands[0]
        there = (hand.times_s >= _WINDOW_S[0]) & (hand.times_s <= _WINDOW_S[1])
        if k == 0:
            axes.plot(hand.times_s[there], hand.true_px[there, skeleton.ROOT, 0], color="#000000", label="true")
        said = hand.said_px[there, skeleton.ROOT, 0]
        axes.plot(hand.times_s[there], said, color=COLOURS[k], marker=".", linewidth=1, label=track.smooth)
    _finish(axes)


def _draw_still(axes: Axes, tracks: Sequence[Track]) -> None:
    axes.set(title="still: how far the index finger's tip is from its mean", xlabel="time, s", ylabel="mm")
    tip = skeleton.KEYPOINTS.index("index4")
    for k, track in enumerate(tracks):
        points = 1000 * track.hands[0].said_m[:, tip]
        away = np.linalg.norm(points - np.nanmean(points, axis=0), axis=-1)
        axes.plot(track.hands[0].times_s, away, color=COLOURS[k], linewidth=1, label=track.smooth)
    _finish(axes)


def _draw_bars(axes: Axes, report: Report, name: str, label: str) -> None:
    """One of the means of each sequence that has it, a bar a preset."""
    values = {(sequence, smooth): getattr(scores.means, name) for sequence, smooth, scores in report.by_sequence()}
    sequences = [
        one for one in dict.fromkeys(key[0] for key in values) if np.isfinite(values[one, report.options.smooth[0]])
    ]
    width = 0.8 / len(report.options.smooth)
    for k, smooth in enumerate(report.options.smooth):
        places = np.arange(len(sequences)) - 0.4 + (k + 0.5) * width
        axes.bar(places, [values[one, smooth] for one in sequences], width, color=COLOURS[k], label=smooth)
    axes.set_xticks(range(len(sequences)), sequences, rotation=20, ha="right")
    axes.set_ylabel(label)
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
