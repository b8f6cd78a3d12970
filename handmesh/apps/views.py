"""Which picture of a frame is shown and recorded: the overlay, the meshes beside it, or the meshes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from handmesh.apps.controls import Look
from handmesh.apps.orbit import Orbit, Stand
from handmesh.apps.window_process import MAX_SIDE
from handmesh.render import Style, overlay
from handmesh.runtime.media.frames import Frame
from handmesh.structs import Camera, Hand

_LEAST_PANE = 640
"""Pixels: narrower panes are enlarged for the window, so that what is written over them stays legible."""

_GROUND_TOP, _GROUND_BOTTOM = (46, 50, 57), (24, 26, 30)


@dataclass(eq=False)
class Seen:
    """A frame and what the tracker found in it."""

    frame: Frame
    hands: Sequence[Hand]
    camera: Camera
    _drawn: tuple[Style, np.ndarray] | None = None

    def overlay(self, style: Style) -> np.ndarray:
        """The frame with the hands over it, drawn once however often it is asked for."""
        if self._drawn is None or self._drawn[0] != style:
            self._drawn = (style, overlay(self.frame.image_rgb, self.hands, self.camera, style))
        return self._drawn[1]


Panes = tuple[np.ndarray, ...]
"""Pictures side by side, all (H, W, 3) uint8 of the frame's size."""


class Views:
    """Draws the panes of a view, and those that have not changed since only once."""

    def __init__(self) -> None:
        self._orbit = Orbit()
        self._mesh: tuple[Seen, Style, Stand | None, np.ndarray] | None = None

    def panes(self, seen: Seen, look: Look, time_s: float) -> Panes:
        """The pictures of the frame that `look` asks for; time_s: now, on the clock by which views turn."""
        if look.view == "overlay":
            self._orbit.rest()
            return (seen.overlay(look.style),)
        meshes = self._meshes(seen, look, time_s)
        return (meshes,) if look.view == "mesh" else (seen.overlay(look.style), meshes)

    def _meshes(self, seen: Seen, look: Look, time_s: float) -> np.ndarray:
        """The meshes on plain ground, from the look's angle."""
        hands = self._orbit.seen_from(look.seen_from, seen.hands, seen.camera, time_s)
        drawn, stand = self._mesh, self._orbit.stand
        if drawn is None or drawn[0] is not seen or drawn[1:3] != (look.style, stand):
            picture = overlay(ground(seen.camera.width, seen.camera.height), hands, seen.camera, look.style)
            self._mesh = drawn = (seen, look.style, stand, picture)
        return drawn[3]


@lru_cache(maxsize=2)
def ground(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: what the meshes alone are drawn on. Not to be written to."""
    rows = np.linspace(_GROUND_TOP, _GROUND_BOTTOM, height).round().astype(np.uint8)
    return np.repeat(rows[:, None], width, axis=1)


def joined(panes: Panes) -> np.ndarray:
    """The panes as one picture, (H, sum of W, 3): what is recorded."""
    return panes[0] if len(panes) == 1 else np.hstack(panes)


def canvas(panes: Panes, mirror: bool) -> np.ndarray:
    """A new picture for the window, of a size to write on: the panes, each mirrored if wanted.

    The first pane stays on the left, since it is the world that is mirrored, not the screen.
    """
    height, width = panes[0].shape[:2]
    scale = min(max(1.0, _LEAST_PANE / width), MAX_SIDE / (width * len(panes)), MAX_SIDE / height)
    size = (round(width * scale), round(height * scale))
    scaled = [pane if size == (width, height) else _scaled(pane, size) for pane in panes]
    if mirror:
        scaled = [cv2.flip(pane, 1) for pane in scaled]
    return np.hstack(scaled)  # a copy of a single pane too, which is going to be written on


def _scaled(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    shrinks = size[0] < picture.shape[1]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
