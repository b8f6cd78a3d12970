"""The tracks as a picture: a fast wave from frame to frame, a still hand's unrest, jitter and lag by preset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from handmesh import skeleton
from handmesh.evaluation.chart import COLOURS
from handmesh.evaluation.tracking.report import Report

if TYPE_CHECKING:
    from handmesh.evaluation.tracking.run import Track

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
