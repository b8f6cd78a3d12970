"""The window: shows the overlay, a head-up display and the keys, and says what the user pressed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from handmesh.render import Style, overlay
from handmesh.runtime.pictures import write_picture
from handmesh.structs import Camera, Hand

KEYS = {
    "q": "quit",
    "space": "pause or go on",
    "s": "snapshot",
    "m": "mesh",
    "w": "wireframe",
    "k": "skeleton",
    "h": "help",
}
"""What each key does, as the help shows it."""

KEY_LINE = "    ".join(f"{key} {meaning}" for key, meaning in KEYS.items())

_NAMES = {" ": "space", "\x1b": "q", "\r": "space"}
_TITLE = "handmesh"

# A process of its own, since Qt ends the one that asks for a window where there can be none.
_PROBE = "import cv2; cv2.namedWindow('probe', cv2.WINDOW_NORMAL); cv2.waitKey(1); cv2.destroyAllWindows()"


def has_display() -> bool:
    """Whether a window can be opened here: there is a display, it answers, and OpenCV can draw on it."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


@dataclass(frozen=True)
class Controls:
    """What the keys change."""

    style: Style = field(default_factory=Style)
    paused: bool = False
    help: bool = True
    quit: bool = False
    snapshot: bool = False

    def after(self, key: str) -> Controls:
        """The controls once `key` was pressed; keys that mean nothing change nothing."""
        style = self.style
        changes = {
            "q": {"quit": True},
            "space": {"paused": not self.paused},
            "s": {"snapshot": True},
            "m": {"style": replace(style, mesh=not style.mesh)},
            "w": {"style": replace(style, wireframe=not style.wireframe)},
            "k": {"style": replace(style, skeleton=not style.skeleton)},
            "h": {"help": not self.help},
        }
        return replace(self, **changes.get(key, {}))


@dataclass
class Seen:
    """A frame and what the tracker found in it, ready to be drawn."""

    image_rgb: np.ndarray  # (H, W, 3) uint8
    hands: Sequence[Hand]
    camera: Camera
    timings_ms: Mapping[str, float]
    _drawn: tuple[Style, np.ndarray] | None = None

    def overlay(self, style: Style) -> np.ndarray:
        """The frame with the hands over it, drawn once however often it is asked for."""
        if self._drawn is None or self._drawn[0] != style:
            self._drawn = (style, overlay(self.image_rgb, self.hands, self.camera, style))
        return self._drawn[1]


class RateMeter:
    """Frames a second over the last thirty frames."""

    def __init__(self) -> None:
        self._ticks: deque[float] = deque(maxlen=30)

    def tick(self) -> None:
        """Count a frame."""
        self._ticks.append(time.perf_counter())

    @property
    def fps(self) -> float:
        """0 until there are two frames."""
        if len(self._ticks) < 2:
            return 0.0
        return (len(self._ticks) - 1) / max(self._ticks[-1] - self._ticks[0], 1e-6)


class Viewer:
    """A window on what the tracker sees. Only the window is mirrored; what is recorded is not."""

    def __init__(self, style: Style, mirror: bool, stills: bool, snapshots: Path = Path("outputs")) -> None:
        """stills: each picture stays until a key is pressed. snapshots: the folder of what `s` saves."""
        self.controls = Controls(style)
        self.saved: list[Path] = []
        self._mirror, self._stills, self._snapshots = mirror, stills, snapshots
        self._rate = RateMeter()
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")  # Qt complains of fonts that nobody needs
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        self._sized = False

    @property
    def style(self) -> Style:
        """What is drawn at present."""
        return self.controls.style

    def show(self, seen: Seen, wait_s: float = 0.0) -> bool:
        """Show a frame and obey the keys; False when the user quits.

        Returns after `wait_s`, or, while paused or for a still picture, after a key that goes on.
        """
        self._rate.tick()
        self.controls = replace(self.controls, paused=self._stills or self.controls.paused)
        until = time.perf_counter() + wait_s
        while True:
            self._draw(seen)
            self.controls = self.controls.after(self._key(until - time.perf_counter()))
            if self.controls.snapshot:
                self._save(seen.overlay(self.style))
            if self.controls.quit or self._closed():
                return False
            if not self.controls.paused and time.perf_counter() >= until - 1e-3:
                return True

    def _draw(self, seen: Seen) -> None:
        picture = seen.overlay(self.style)
        if self._mirror:
            picture = np.ascontiguousarray(picture[:, ::-1])
        if self.controls.help:
            picture = draw_hud(picture, status_lines(seen, self._rate.fps, self.controls.paused), KEY_LINE)
        if not self._sized:
            cv2.resizeWindow(_TITLE, *_window_size(picture))
            self._sized = True
        cv2.imshow(_TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def _key(self, wait_s: float) -> str:
        """The key pressed within the wait, which is cut into short ones to keep the window alive; '' for none."""
        code = cv2.waitKey(50 if self.controls.paused else max(1, min(50, round(1000 * wait_s))))
        letter = chr(code & 0xFF).lower() if code >= 0 else ""
        return _NAMES.get(letter, letter)

    def _closed(self) -> bool:
        return cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1

    def _save(self, picture_rgb: np.ndarray) -> None:
        path = self._snapshots / f"snapshot-{datetime.now():%Y%m%d-%H%M%S-%f}.png"
        write_picture(path, picture_rgb)
        self.saved.append(path)
        self.controls = replace(self.controls, snapshot=False)

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()


def _window_size(picture: np.ndarray) -> tuple[int, int]:
    """(width, height) in which a picture is first shown: its own, within what fits a usual screen."""
    height, width = picture.shape[:2]
    scale = min(1.0, 1280 / width, 800 / height) if width >= 480 else 480 / width
    return round(width * scale), round(height * scale)


def status_lines(seen: Seen, fps: float, paused: bool) -> list[str]:
    """What the head-up display says of a frame: rate, stage times, hands."""
    stages = [f"{name} {ms:.1f}" for name, ms in seen.timings_ms.items() if name != "total"]
    total = seen.timings_ms.get("total", sum(seen.timings_ms.values()))
    return [
        "paused" if paused else f"{fps:.0f} FPS",
        f"{total:.1f} ms" + (f" ({', '.join(stages)})" if stages else ""),
        ", ".join(f"{hand.side} {hand.score:.2f}" for hand in seen.hands) or "no hand",
    ]


def draw_hud(picture: np.ndarray, lines: Sequence[str], footer: str) -> np.ndarray:
    """A copy of (H, W, 3) `picture` with `lines` at its top left and a `footer`, on darkened panels."""
    shown = picture.copy()
    scale = max(0.4, picture.shape[1] / 1600)
    step = round(36 * scale)
    _draw_text(shown[: step * len(lines) + step // 2], lines, scale, step)
    _draw_text(shown[-step - step // 2 :], [footer], scale, step)
    return shown


def _draw_text(area: np.ndarray, lines: Sequence[str], scale: float, step: int) -> None:
    """Draw lines of text into a view of a picture, in place, over a panel as wide as they are."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    panel = area[:, : step + max(cv2.getTextSize(line, font, scale, 1)[0][0] for line in lines)]
    panel[:] = panel * 0.35
    for k, line in enumerate(lines):
        cv2.putText(area, line, (step // 2, step * (k + 1) - step // 8), font, scale, (255, 255, 255), 1, cv2.LINE_AA)
