"""HTML reports in one file: styles, line charts as SVG, and images inside."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import cv2
import numpy as np

# Line charts as SVG text, for reports that are one file and need no plotting library to be looked at.


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


# The parts that HTML reports are put together from. A report is one file: styles, charts and pictures inside.


_SHORT = 48
"""Characters; longer text in a table is set smaller."""

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif; color: #1c1c1c;
  max-width: 980px; margin: 48px auto 96px; padding: 0 24px; background: #fff; }
h1 { font-size: 28px; font-weight: 600; line-height: 1.2; letter-spacing: -.01em; margin: 0 0 6px; }
h2 { font-size: 18px; font-weight: 600; margin: 52px 0 10px; padding-top: 14px; border-top: 1px solid #ddd; }
h3 { font-size: 13px; font-weight: 600; color: #555; margin: 22px 0 8px; }
p { max-width: 46em; margin: 8px 0; }
.subtitle, .note, figcaption { color: #666; }
.note, figcaption { font-size: 13px; }
.warning { border-left: 3px solid #d55e00; padding: 2px 0 2px 14px; max-width: 46em; }
.cards { display: flex; flex-wrap: wrap; gap: 12px 44px; margin: 28px 0 8px; }
.cards b { display: block; font-size: 34px; font-weight: 300; line-height: 1.15; font-variant-numeric: tabular-nums; }
.cards b small { font-size: 15px; color: #666; font-weight: 400; margin-left: 4px; }
.cards span { font-size: 13px; color: #666; }
table { border-collapse: collapse; font-size: 14px; margin: 12px 0; font-variant-numeric: tabular-nums; }
th { font-weight: 600; text-align: left; border-bottom: 1px solid #888; vertical-align: bottom; }
th, td { padding: 5px 14px 5px 0; }
td { border-bottom: 1px solid #eee; vertical-align: top; }
td.n, th.n { text-align: right; padding-right: 18px; }
td.n { white-space: nowrap; }
th { overflow-wrap: break-word; }
tr.ours td { background: #eef5fb; }
tr.ours td.n, tr.ours td:first-child { font-weight: 600; }
td.s { font-size: 12px; color: #555; }
table.heat td.n { padding: 5px 8px; text-align: center; border: 2px solid #fff; min-width: 38px; }
table.heat th.n { padding: 5px 8px; text-align: center; border-bottom: 0; font-weight: 400; color: #666; }
table.heat td { border-bottom: 2px solid #fff; }
.row { display: flex; flex-wrap: wrap; gap: 12px 30px; align-items: flex-start; }
.tiles { display: grid; grid-template-columns: repeat(2, 1fr); gap: 14px 20px; }
.strips { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; font-size: 13px; align-items: center; }
figure { margin: 0; }
figure img { width: 100%; display: block; border-radius: 2px; }
svg { max-width: 100%; height: auto; font-family: inherit; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 24px; font-size: 14px; margin: 12px 0; }
dt { color: #666; } dd { margin: 0; overflow-wrap: anywhere; }
@media print { body { margin: 0; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def page(title: str, subtitle: str, *blocks: str) -> str:
    """A whole HTML document. title and subtitle are text, blocks are HTML."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    top = f'<h1>{escape(title)}</h1><p class="subtitle">{escape(subtitle)}</p>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>{top}\n' + (
        "\n".join(block for block in blocks if block) + "\n</body></html>\n"
    )


def section(heading: str, *blocks: str) -> str:
    """A heading with what belongs under it."""
    return f"<h2>{escape(heading)}</h2>" + "".join(blocks)


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of text. kind: '', 'note' or 'warning'."""
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def cards(values: Sequence[tuple[str, str, str]]) -> str:
    """The few figures that matter most, large: (name, value, unit)."""
    one = "<div><b>{}<small>{}</small></b><span>{}</span></div>"
    return f'<div class="cards">{"".join(one.format(*map(escape, (v, unit, name))) for name, v, unit in values)}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], ours: Sequence[int] = (), text_columns: int = 1) -> str:
    """A table of text. The first `text_columns` are flush left, the others are numbers; rows `ours` stand out.

    Text of more than a few words is set smaller.
    """
    head = "".join(f"<th{_number(k, text_columns)}>{escape(cell)}</th>" for k, cell in enumerate(header))
    body = "".join(
        ('<tr class="ours">' if i in ours else "<tr>")
        + "".join(f"<td{_number(k, text_columns, cell)}>{escape(cell)}</td>" for k, cell in enumerate(row))
        + "</tr>"
        for i, row in enumerate(rows)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(column: int, text_columns: int, text: str = "") -> str:
    if column >= text_columns:
        return ' class="n"'
    return ' class="s"' if len(text) > _SHORT and column else ""


def heat_table(
    rows: Sequence[str],
    columns: Sequence[str],
    values: np.ndarray,
    digits: int = 1,
    limits: tuple[float, float] | None = None,
) -> str:
    """(R, C) values with a ground that darkens from the lowest to the highest; gaps where not finite.

    limits: what the lightest and the darkest mean, to be shared by several tables.
    """
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    head = "<th></th>" + "".join(f'<th class="n">{escape(name)}</th>' for name in columns)
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(_heat_cell(value, low, high, digits) for value in line)}</tr>"
        for name, line in zip(rows, values.tolist(), strict=True)
    )
    return f'<table class="heat"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _heat_cell(value: float, low: float, high: float, digits: int) -> str:
    if not math.isfinite(value):
        return '<td class="n"></td>'
    share = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.0
    red, green, blue = (round(light + share * (dark - light)) for light, dark in ((246, 226), (248, 120), (250, 80)))
    return f'<td class="n" style="background:rgb({red},{green},{blue})">{value:.{digits}f}</td>'


def facts(values: Mapping[str, str]) -> str:
    """Names and what they are, as two columns."""
    return (
        "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in values.items()) + "</dl>"
    )


def row(*blocks: str) -> str:
    """Blocks side by side, as far as the width allows."""
    return f'<div class="row">{"".join(f"<div>{block}</div>" for block in blocks)}</div>'


def picture(image_rgb: np.ndarray, caption: str = "") -> str:
    """An (H, W, 3) uint8 picture, inside the page as JPEG."""
    data = cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    text = base64.b64encode(data.tobytes()).decode()
    under = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{escape(caption)}" src="data:image/jpeg;base64,{text}">{under}</figure>'


def strips(pictures: Mapping[str, np.ndarray]) -> str:
    """Pictures as wide as the page allows, each with its name to the left."""
    lines = "".join(f"<div>{escape(name)}</div>{picture(image)}" for name, image in pictures.items())
    return f'<div class="strips">{lines}</div>'


def tiles(figures: Sequence[str]) -> str:
    """Pictures in two columns."""
    return f'<div class="tiles">{"".join(figures)}</div>'
