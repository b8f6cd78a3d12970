"""Line charts as SVG text, for reports that are one file and need no plotting library to be looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
"""Okabe and Ito's colour-blind-safe palette (2008), the ones that show on white."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 10.0, 38.0
_LEGEND_LINE = 17.0


class Series(NamedTuple):
    """One line of a chart."""

    name: str
    x: np.ndarray  # (K,)
    y: np.ndarray  # (K,)
    dashed: bool = False


class _Frame(NamedTuple):
    """Where the data lies in the drawing."""

    x: tuple[float, float]  # the data's limits
    y: tuple[float, float]
    width: float
    height: float
    top: float

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Data to drawing."""
        right, bottom = self.width - _RIGHT, self.height - _BOTTOM
        share_x, share_y = (x - self.x[0]) / (self.x[1] - self.x[0]), (y - self.y[0]) / (self.y[1] - self.y[0])
        return _LEFT + share_x * (right - _LEFT), bottom - share_y * (bottom - self.top)


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    y_limits: tuple[float, float] | None = None,
    size: tuple[int, int] = (460, 290),
    legend: bool = True,
) -> str:
    """An SVG element with a line for each series. y_limits: None takes zero and a round number above all.

    Values that are not finite leave a gap.
    """
    x = np.concatenate([line.x for line in series])
    frame = _Frame(
        (float(x.min()), float(x.max())),
        y_limits or (0.0, _round_up(max(float(np.nanmax(line.y)) for line in series))),
        *map(float, size),
        top=_TOP + (_LEGEND_LINE * len(series) if legend else 0),
    )
    lines = [_line(frame, line, k) for k, line in enumerate(series)]
    parts = [*_axes(frame, x_label, y_label), *reversed(lines)]  # the first lies on top
    if legend:
        parts += [_legend_entry(line, k) for k, line in enumerate(series)]
    label = escape(f"{y_label} against {x_label}")
    return (
        f'<svg viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" height="{size[1]}" role="img" '
        f'aria-label="{label}" font-size="11" fill="#444">{"".join(parts)}</svg>'
    )


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    step = _nice((high - low) / max(1, count - 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _nice(step: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _round_up(value: float) -> float:
    step = _nice(value / 5) if value > 0 else 0.2
    return step * math.ceil(value / step - 1e-9)


def _axes(frame: _Frame, x_label: str, y_label: str) -> list[str]:
    parts = []
    for y in ticks(*frame.y):
        (left, at), (right, _) = frame.point(frame.x[0], y), frame.point(frame.x[1], y)
        colour = "#888" if y == frame.y[0] else "#e4e4e4"
        parts.append(f'<path d="M{left:.1f} {at:.1f}H{right:.1f}" stroke="{colour}"/>')
        parts.append(f'<text x="{left - 6:.1f}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in ticks(*frame.x):
        at, bottom = frame.point(x, frame.y[0])
        parts.append(f'<path d="M{at:.1f} {bottom:.1f}v4" stroke="#888"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{x:g}</text>')
    middle_x, bottom = frame.point(sum(frame.x) / 2, frame.y[0])
    _, middle_y = frame.point(frame.x[0], sum(frame.y) / 2)
    parts.append(f'<text x="{middle_x:.1f}" y="{bottom + 32:.1f}" text-anchor="middle">{escape(x_label)}</text>')
    turned = f'transform="translate(12 {middle_y:.1f}) rotate(-90)"'
    return [*parts, f'<text {turned} text-anchor="middle">{escape(y_label)}</text>']


def _line(frame: _Frame, line: Series, k: int) -> str:
    path, pen = "", "M"
    for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True):
        if not math.isfinite(y):
            pen = "M"
            continue
        px, py = frame.point(x, min(max(y, frame.y[0]), frame.y[1]))
        path, pen = f"{path}{pen}{px:.1f} {py:.1f}", "L"
    return f'<path d="{path}" fill="none" {_stroke(line, k)}><title>{escape(line.name)}</title></path>'


def _legend_entry(line: Series, k: int) -> str:
    y = _TOP + _LEGEND_LINE * k + 4
    name = f'<text x="{_LEFT + 28:.0f}" y="{y + 4:.1f}">{escape(line.name)}</text>'
    return f'<path d="M{_LEFT:.0f} {y:.1f}h22" {_stroke(line, k)}/>{name}'


def _stroke(line: Series, k: int) -> str:
    dashes = ' stroke-dasharray="5 3"' if line.dashed else ""
    return f'stroke="{COLOURS[k % len(COLOURS)]}" stroke-width="1.8"{dashes}'
