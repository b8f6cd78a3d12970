"""The loop of the window: which image of a frame is shown, and what the user asks for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from handmesh.app.capture import Snapshots
from handmesh.app.hud import Hud, HudState, line_panel
from handmesh.app.keys import Action, Angle, Controls, Orbit, OrbitState, View, ViewSettings, key_name
from handmesh.app.player import Meter
from handmesh.app.window import MAX_SIDE, Window
from handmesh.console import interrupted
from handmesh.render.overlay import Style, overlay
from handmesh.types import TrackedFrame

# Which image of a frame is shown and recorded: the overlay, the meshes beside it, or the meshes alone.


_LEAST_PANE = 640
"""Pixels: narrower panes are enlarged for the window, so that what is written over them stays legible."""

_GROUND_TOP, _GROUND_BOTTOM = (46, 50, 57), (24, 26, 30)


Panes = tuple[np.ndarray, ...]
"""Images side by side, all (H, W, 3) uint8 of the frame's size."""


class ViewRenderer:
    """Draws the panes of a view, and those that have not changed since only once."""

    def __init__(self) -> None:
        self._orbit: Orbit | None = None  # until the hands are first seen from elsewhere
        self._overlay: tuple[TrackedFrame, Style, np.ndarray] | None = None
        self._mesh: tuple[TrackedFrame, Style, OrbitState | None, np.ndarray] | None = None

    def panes(self, tracked: TrackedFrame, settings: ViewSettings, time_s: float) -> Panes:
        """The images of the frame that `settings` asks for; time_s: now, on the clock by which views turn."""
        if settings.view == "overlay":
            if self._orbit:
                self._orbit.rest()
            return (self.overlay(tracked, settings.style),)
        meshes = self._meshes(tracked, settings, time_s)
        return (meshes,) if settings.view == "mesh" else (self.overlay(tracked, settings.style), meshes)

    def overlay(self, tracked: TrackedFrame, style: Style) -> np.ndarray:
        """(H, W, 3) uint8: the frame with the hands over it."""
        drawn = self._overlay
        if drawn is None or drawn[0] is not tracked or drawn[1] != style:
            image = overlay(tracked.frame.image_rgb, tracked.hands, tracked.camera, style)
            self._overlay = drawn = (tracked, style, image)
        return drawn[2]

    def _meshes(self, tracked: TrackedFrame, settings: ViewSettings, time_s: float) -> np.ndarray:
        """The meshes on plain ground, from the look's angle."""
        camera = tracked.camera
        self._orbit = self._orbit or Orbit()
        hands = self._orbit.seen_from(settings.seen_from, tracked.hands, camera, time_s)
        drawn, state = self._mesh, self._orbit.state
        if drawn is None or drawn[0] is not tracked or drawn[1:3] != (settings.style, state):
            image = overlay(ground(camera.width, camera.height), hands, camera, settings.style)
            self._mesh = drawn = (tracked, settings.style, state, image)
        return drawn[3]


@lru_cache(maxsize=2)
def ground(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: what the meshes alone are drawn on. Not to be written to."""
    rows = np.linspace(_GROUND_TOP, _GROUND_BOTTOM, height).round().astype(np.uint8)
    return np.repeat(rows[:, None], width, axis=1)


def joined(panes: Panes) -> np.ndarray:
    """The panes as one image, (H, sum of W, 3): what is recorded."""
    return panes[0] if len(panes) == 1 else np.hstack(panes)


def canvas(panes: Panes, mirror: bool) -> np.ndarray:
    """A new image (H, W, 3) for the window, of a size to write on: the panes, each mirrored if wanted.

    The first pane stays on the left, since it is the world that is mirrored, not the screen.
    """
    height, width = panes[0].shape[:2]
    scale = min(max(1.0, _LEAST_PANE / width), MAX_SIDE / (width * len(panes)), MAX_SIDE / height)
    size = (round(width * scale), round(height * scale))
    scaled = [pane if size == (width, height) else _scaled(pane, size) for pane in panes]
    if mirror:
        scaled = [cv2.flip(pane, 1) for pane in scaled]
    return np.hstack(scaled)  # a copy of a single pane too, which is going to be written on


def _scaled(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    shrinks = size[0] < image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


# The loop of the window: shows each frame as the keys want it, and says what the user asks for.


_TICK_S = 0.05  # how often a frame that stays is drawn again
_HELP_S = 5.0  # for how long the keys are shown at the start
_NOTICE_S = 3.0
_SILENT_S = 1.0  # a camera that gives nothing for longer is not just slow

_SEEN_FROM: dict[Angle, str] = {
    "front": "from the camera",
    "side": "from the side",
    "above": "from above",
    "back": "from behind",
}
_VIEW_NAMES: dict[View, str] = {"overlay": "", "side": "camera | ", "mesh": "mesh "}


class SessionState(NamedTuple):
    """What a session tells its user, beside what is seen."""

    scale: str = ""  # what is known of the metric scale
    recording: str = ""  # for how long, while it goes on
    task: str = ""  # what the user should do at present
    progress: float = 0.0  # of the task


class _HandedOver(NamedTuple):
    """A frame on its way to the screen."""

    stamp: int
    at_s: float
    captured_s: float | None


class Viewer:
    """A window on what the tracker sees. Only the window is mirrored; what is recorded or saved is not."""

    def __init__(
        self,
        window: Window,
        settings: ViewSettings,
        renderer: ViewRenderer,
        meter: Meter,
        snapshots: Snapshots,
        mirror: bool,
        stills: bool,
    ) -> None:
        """stills: each image stays until a key is pressed."""
        self.controls = Controls(settings, help=not stills)  # which stay until a key is pressed: nothing may hide them
        self.actions: dict[Action, Callable[[], str]] = {}
        """What to do for keys that are not about the window; each returns a notice for the user."""
        self.session_state: Callable[[], SessionState] = SessionState
        self._window, self._renderer, self._meter, self._snapshots = window, renderer, meter, snapshots
        self._mirror, self._stills = mirror, stills
        self._hud = Hud()
        self._help_until_s = time.perf_counter() + _HELP_S
        self._notice, self._notice_until_s = "", 0.0
        self._handed_over: _HandedOver | None = None
        self._tracked: TrackedFrame | None = None
        self._shown_s = time.perf_counter()

    @property
    def lost(self) -> bool:
        """Whether the window has gone away by itself, as with its display."""
        return self._window.lost

    @property
    def settings(self) -> ViewSettings:
        """What is to be seen at present."""
        return self.controls.settings

    def show(self, tracked: TrackedFrame, wait_s: float = 0.0) -> bool:
        """Show a frame and obey the keys; False when the user quits, by Ctrl-C too, or the window is gone.

        Returns after `wait_s`, or, while paused or for a still image, after a key that goes on.
        """
        if self._tracked is None:
            self._help_until_s = time.perf_counter() + _HELP_S
            if self.session_state().task:  # which comes first
                self.controls = replace(self.controls, help=False)
        self._tracked, self._shown_s = tracked, time.perf_counter()
        if self._stills:
            self.controls = replace(self.controls, paused=True)
        until_s = time.perf_counter() + wait_s
        self._obey(0.0)
        self._draw(tracked, first=True)
        while True:
            left_s = until_s - time.perf_counter()
            changed = self._obey(_TICK_S if self.controls.paused else min(max(left_s, 0.0), _TICK_S))
            if self._is_over():
                return False
            if not self.controls.paused and time.perf_counter() >= until_s - 1e-3:
                return True
            if changed or self.controls.paused:
                self._draw(tracked)

    def idle(self) -> bool:
        """Keep the window alive while no frame comes; False when the user quits or the window is gone."""
        changed = self._obey(0.0)
        silent = time.perf_counter() - self._shown_s > _SILENT_S
        if silent:
            self.notify("waiting for the camera")
        if self._tracked and (changed or silent):
            self._draw(self._tracked)
        return not self._is_over()

    def _is_over(self) -> bool:
        return self.controls.quit or self._window.closed or self._window.lost or interrupted()

    def _draw(self, tracked: TrackedFrame, first: bool = False) -> None:
        with self._meter.stage("draw") if first else nullcontext():  # that a frame stays makes it no slower
            image = canvas(self._renderer.panes(tracked, self.settings, time.perf_counter()), self._mirror)
            self._hud.draw(image, self._meter.readings, self._status(tracked), self.controls.info, self.controls.help)
        handed_s = time.perf_counter()
        stamp = self._window.show(image)
        if first and stamp is not None:
            self._handed_over = _HandedOver(stamp, handed_s, tracked.frame.captured_s)

    def _status(self, tracked: TrackedFrame) -> HudState:
        view, session_state = self.settings.view, self.session_state()
        mode = [] if view == "overlay" else [_VIEW_NAMES[view] + _SEEN_FROM[self.settings.seen_from]]
        mode += ["space: next image, h: help" if self._stills else "paused"] if self.controls.paused else []
        notice = self._notice if time.perf_counter() < self._notice_until_s else ""
        return HudState(tracked.hands, mode="   ".join(mode), notice=notice, **session_state._asdict())

    def _obey(self, wait_s: float) -> bool:
        """Do what the next key asks for, after waiting for it; whether that changes the image."""
        before, code = self.controls, self._window.key(wait_s)
        if code is not None:
            self.controls = before.after(key_name(code))
        if self.controls.action:
            self._act(self.controls.action)
        if self.controls.help != before.help:
            self._help_until_s = math.inf  # the user has taken over
        elif time.perf_counter() > self._help_until_s:
            self.controls, self._help_until_s = replace(self.controls, help=False), math.inf
        self._measure()
        for news in self._snapshots.news():
            self.notify(news)
        return self.controls is not before

    def _act(self, action: Action) -> None:
        self.controls = replace(self.controls, action=None)
        if action == "snapshot" and self._tracked:
            panes = self._renderer.panes(self._tracked, self.settings, time.perf_counter())
            self._snapshots.take(joined(panes), self._tracked.hands)
        elif action in self.actions:
            self.notify(self.actions[action]())

    def notify(self, text: str) -> None:
        """Show a line for some seconds."""
        self._notice, self._notice_until_s = text, time.perf_counter() + _NOTICE_S

    def _measure(self) -> None:
        """Note how long the last frame took to the screen, once it is there."""
        shown, handed = self._window.shown, self._handed_over
        if handed and shown and shown.stamp >= handed.stamp:
            age_s = None if handed.captured_s is None else shown.at_s - handed.captured_s
            self._meter.add_shown(shown.at_s - handed.at_s, age_s)
            self._handed_over = None

    def close(self) -> None:
        """Close the window."""
        self._window.close()


def greeting(text: str) -> np.ndarray:
    """(480, 640, 3) uint8: a line on empty ground, until there is a frame to show."""
    image = np.array(ground(640, 480))
    panel = line_panel(text, 16)
    panel.onto(image, (640 - panel.size[0]) // 2, 220)
    return image
