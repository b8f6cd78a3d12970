"""The head-up display: times, hands, help and notices on small panels that stay legible over any image."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from handmesh.app.keys import KEYS
from handmesh.app.player import Readings
from handmesh.app.window import first_size
from handmesh.render.overlay import SIDE_COLOURS
from handmesh.types import Hand

# Text and small drawings on dark panels that stay legible over any image.


Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
GREY: Colour = (190, 195, 200)
_GROUND: Colour = (14, 16, 20)
_OPACITY = 190  # dark enough for white letters over a white image


@lru_cache(maxsize=8)
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """The letters that come with Pillow."""
    return ImageFont.load_default(size_px)


def text_width(text: str, size_px: int) -> int:
    """Pixels that a line takes."""
    return round(font(size_px).getlength(text))


def wrapped(text: str, size_px: int, width_px: int) -> list[str]:
    """`text` in lines no wider than `width_px`, broken between words; a word that is wider stays whole."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size_px) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class Panel:
    """A dark, rounded rectangle to write on, and then to lay over images as often as wanted."""

    def __init__(self, width: int, height: int, opacity: int = _OPACITY) -> None:
        """opacity: of the ground, 0..255."""
        self._image = Image.new("RGBA", (width, height), (*_GROUND, 0))
        self._pen = ImageDraw.Draw(self._image)
        self._pen.rounded_rectangle((0, 0, width - 1, height - 1), 6, fill=(*_GROUND, opacity))
        self._layers: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self._image.size

    def text(self, x: float, y: float, text: str, size_px: int, colour: Colour = WHITE, anchor: str = "la") -> None:
        """Write a line. anchor: Pillow's; 'la' has (x, y) at the left of the letters' top, 'ra' at the right."""
        self._pen.text((x, y), text, fill=(*colour, 255), font=font(size_px), anchor=anchor)

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Fill a rectangle, of whole pixels; nothing where it covers none."""
        left, top, right, bottom = round(x), round(y), round(x + width), round(y + height)
        if right > left and bottom > top:
            self._pen.rectangle((left, top, right - 1, bottom - 1), fill=(*colour, 255))

    def onto(self, image: np.ndarray, x: int, y: int) -> None:
        """Lay the panel over (H, W, 3) uint8 `image`, in place, from (x, y) on; what is outside is cut."""
        if self._layers is None:
            rgba = np.array(self._image)
            alpha = rgba[..., 3].astype(np.float32) / 255
            self._layers = np.ascontiguousarray(rgba[..., :3]), alpha
        colours, alpha = self._layers
        left, top = max(0, -x), max(0, -y)
        position = image[y + top : max(0, y + colours.shape[0]), x + left : max(0, x + colours.shape[1])]
        if not position.size:
            return
        inside = slice(top, top + position.shape[0]), slice(left, left + position.shape[1])
        position[:] = cv2.blendLinear(colours[inside], np.ascontiguousarray(position), alpha[inside], 1 - alpha[inside])


# The head-up display: times, hands, help and notices on small panels at the window's edges.


STAGE_COLOURS: dict[str, Colour] = {
    "wait": (90, 95, 102),
    "read": (0, 114, 178),
    "detect": (230, 159, 0),
    "crop": (170, 175, 180),
    "network": (86, 180, 233),
    "lift": (0, 158, 115),
    "smooth": (240, 228, 66),
    "draw": (213, 94, 0),
    "write": (255, 255, 255),
    "show": (204, 121, 167),
}
"""The stages in their order, in Okabe and Ito's colour-blind-safe palette (2008) and greys."""

_LETTER_PX = 14

_IDLE = "wait"  # for the camera: no work, hence not in the bar


class HudState(NamedTuple):
    """What the display says beside the times; all texts short."""

    hands: Sequence[Hand]
    scale: str  # what is known of the metric scale, one line
    mode: str = ""  # the view, and whether it is paused
    recording: str = ""  # for how long, while it goes on
    notice: str = ""  # something that has just happened
    task: str = ""  # what the user should do at present
    progress: float = 0.0  # of the task, 0..1


class Hud:
    """Draws the panels over canvases. A panel is made anew only when what it says has changed."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Hashable, Panel]] = {}
        self._hands: tuple[Hashable, tuple[str, ...]] = ((), ())

    def draw(self, canvas: np.ndarray, readings: Readings, status: HudState, info: bool, help: bool) -> None:
        """Write over (H, W, 3) uint8 `canvas`, in place. info: times and hands; help: all keys, in their place."""
        height, width = canvas.shape[:2]
        size = letter_size(width, height)
        gap, taken = size // 2, (0, 0)
        if help:
            panel = self._panel("help", size, lambda: help_panel(size))
            panel.onto(canvas, (width - panel.size[0]) // 2, max(0, (height - panel.size[1]) // 2))
        elif info:
            panel = self._panel("times", (readings.number, size), lambda: times_panel(readings, size))
            panel.onto(canvas, gap, gap)
            taken = panel.size
            rows = self._rows(readings, status.hands)
            key = (rows, status.scale, size, width)
            panel = self._panel("hands", key, lambda: hands_panel(rows, status.scale, size, width - 2 * gap))
            panel.onto(canvas, gap, height - gap - panel.size[1])
        self._draw_corner(canvas, status, size, gap, taken)
        if status.task:
            key = (status.task, round(status.progress * 50), size)
            panel = self._panel("task", key, lambda: task_panel(status.task, status.progress, size, width - 2 * gap))
            panel.onto(canvas, (width - panel.size[0]) // 2, height // 6)

    def _draw_corner(self, canvas: np.ndarray, status: HudState, size: int, gap: int, taken: tuple[int, int]) -> None:
        """What goes on, at the top right: recording, view and pause, what has just happened.

        taken: (width, height) of what is at the top left; where there is no room beside it, they go below.
        """
        lines = {"recording": status.recording, "mode": status.mode, "notice": status.notice}
        makers = {name: recording_panel if name == "recording" else line_panel for name in lines}
        panels = [
            self._panel(name, (text, size), lambda name=name, text=text: makers[name](text, size))
            for name, text in lines.items()
            if text
        ]
        beside = all(taken[0] + panel.size[0] + 3 * gap <= canvas.shape[1] for panel in panels)
        y = gap if beside else taken[1] + 2 * gap
        for panel in panels:
            panel.onto(canvas, canvas.shape[1] - gap - panel.size[0], y)
            y += panel.size[1] + gap // 2

    def _rows(self, readings: Readings, hands: Sequence[Hand]) -> tuple[tuple[str, ...], ...]:
        """The table of the hands, with new numbers when there are new readings or other hands."""
        key = (readings.number, tuple((hand.id, hand.side, hand.predicted) for hand in hands))
        if key != self._hands[0]:
            self._hands = (key, tuple(hand_row(hand) for hand in hands))
        return self._hands[1]

    def _panel(self, name: str, key: Hashable, make: Callable[[], Panel]) -> Panel:
        made = self._made.get(name)
        if made is None or made[0] != key:
            self._made[name] = made = (key, make())
        return made[1]


def letter_size(width: int, height: int) -> int:
    """Pixels of the letters on a canvas of this size: fourteen of the screen, as the window first shows it."""
    return max(_LETTER_PX, round(_LETTER_PX * width / first_size(width, height)[0]))


def hand_row(hand: Hand) -> tuple[str, ...]:
    """Side, score, distance and size of a hand, in words."""
    score = "unseen" if hand.predicted else f"{100 * hand.score:.0f} %"
    return hand.side, score, f"{np.median(hand.joints_m[:, 2]):.2f} m", f"{100 * hand.size_m:.1f} cm"


def times_panel(readings: Readings, size: int) -> Panel:
    """Frames a second, the image's age, and a bar and a table of the stages."""
    stages = [(name, readings.stages_ms[name]) for name in STAGE_COLOURS if name in readings.stages_ms]
    column, step = round(8.6 * size), round(1.35 * size)
    rows = (len(stages) + 1) // 2
    panel = Panel(2 * column + size, round(3.3 * size) + rows * step)
    if readings.fps >= 1:  # stills have no rate
        panel.text(size * 0.6, size * 0.5, f"{readings.fps:.0f} FPS", round(1.25 * size))
    work_ms = sum(ms for name, ms in stages if name != _IDLE)
    age = f"{work_ms:.0f} ms a frame" if readings.age_ms is None else f"{readings.age_ms:.0f} ms old"
    panel.text(2 * column + size * 0.4, size * 0.6, age, size, GREY, anchor="ra")
    _draw_bar(panel, stages, 1000 / max(readings.fps, 1.0), size)
    for k, (name, ms) in enumerate(stages):
        x, y = size * 0.6 + (k // rows) * column, 3.0 * size + (k % rows) * step
        panel.box(x, y + 0.2 * size, 0.6 * size, 0.6 * size, STAGE_COLOURS[name])
        panel.text(x + size, y, name, size)
        panel.text(x + column - size * 0.8, y, f"{ms:.1f}" if ms < 100 else f"{ms:.0f}", size, anchor="ra")
    return panel


def _draw_bar(panel: Panel, stages: Sequence[tuple[str, float]], frame_ms: float, size: int) -> None:
    """The stages' fractions of the time from one frame to the next; what they leave free stays dark."""
    left, width = 0.6 * size, panel.size[0] - 1.2 * size
    scale = width / max(frame_ms, sum(ms for name, ms in stages if name != _IDLE), 1e-6)
    panel.box(left, 2.2 * size, width, 0.4 * size, (60, 64, 70))
    for name, ms in stages:
        if name != _IDLE:
            panel.box(left, 2.2 * size, ms * scale, 0.4 * size, STAGE_COLOURS[name])
            left += ms * scale


_HEAD = ("hand", "score", "distance", "size")
_COLUMNS = (0.0, 4.2, 8.4, 13.2)  # letter sizes from the left


def hands_panel(rows: Sequence[Sequence[str]], scale: str, size: int, widest: int) -> Panel:
    """The hands as a table, and what is known of the scale."""
    step, small = round(1.4 * size), max(12, round(0.85 * size))
    lines = wrapped(scale, small, min(widest, 22 * size) - size)
    width = max(17 * size, max((text_width(line, small) for line in lines), default=0)) + size
    table = [_HEAD, *rows] if rows else []
    height = (len(table) or 1) * step + len(lines) * round(1.3 * small) + size
    panel = Panel(min(width, widest), height)
    for k, row in enumerate(table):
        for column, text in zip(_COLUMNS, row, strict=True):
            x = size * (0.6 + column + (1.0 if column == 0 and k else 0.0))
            panel.text(x, 0.4 * size + k * step, text, size, WHITE if k else GREY)
        if k:
            colour = tuple(round(255 * c) for c in SIDE_COLOURS[row[0]])
            panel.box(0.6 * size, (0.6 + k * 1.4) * size, 0.6 * size, 0.6 * size, colour)
    if not rows:
        panel.text(0.6 * size, 0.4 * size, "no hand", size)
    for k, line in enumerate(reversed(lines)):
        panel.text(0.6 * size, height - 0.4 * size - (k + 1) * round(1.3 * small), line, small, GREY)
    return panel


def help_panel(size: int, keys: Mapping[str, str] = KEYS) -> Panel:
    """All keys and what they do."""
    step, column = round(1.5 * size), 5 * size
    width = column + max(text_width(meaning, size) for meaning in keys.values()) + 2 * size
    panel = Panel(width, step * len(keys) + round(1.5 * size), opacity=225)
    for k, (key, meaning) in enumerate(keys.items()):
        y = 0.9 * size + k * step
        panel.text(column - 0.5 * size, y, key, size, (86, 180, 233), anchor="ra")
        panel.text(column + 0.5 * size, y, meaning, size)
    return panel


def line_panel(text: str, size: int) -> Panel:
    """One line."""
    panel = Panel(text_width(text, size) + 2 * size, 2 * size)
    panel.text(size, size, text, size, anchor="lm")
    return panel


def recording_panel(text: str, size: int) -> Panel:
    """That a recording goes on, and for how long."""
    panel = Panel(text_width(text, size) + round(3.4 * size), 2 * size)
    panel.box(size, 0.6 * size, 0.8 * size, 0.8 * size, (230, 60, 40))
    panel.text(2.4 * size, size, text, size, anchor="lm")
    return panel


def task_panel(text: str, progress: float, size: int, widest: int) -> Panel:
    """What the user should do, and how much of it is done."""
    large = round(1.2 * size)
    lines = wrapped(text, large, min(widest, 30 * size) - 2 * size)
    width = max(text_width(line, large) for line in lines) + 2 * size
    panel = Panel(width, round(1.4 * large * len(lines)) + 2 * size)
    for k, line in enumerate(lines):
        panel.text(width / 2, 0.6 * size + 1.4 * large * k, line, large, anchor="ma")
    y = panel.size[1] - 0.9 * size
    panel.box(size, y, width - 2 * size, 0.4 * size, (60, 64, 70))
    panel.box(size, y, (width - 2 * size) * progress, 0.4 * size, (0, 158, 115))
    return panel
