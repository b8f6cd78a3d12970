"""A followed sequence as a video to look at: meshes over the frames, true joints as crosses, a line of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from handmesh.evaluation.sheet import strip
from handmesh.evaluation.tracking.footage import FPS, Footage
from handmesh.evaluation.tracking.matching import VISIBLE
from handmesh.render import overlay
from handmesh.runtime.media.recording import VideoRecorder
from handmesh.runtime.media.sources import Frame
from handmesh.structs import Hand

_SEEN, _HIDDEN = (255, 255, 255), (120, 120, 120)
_FARTHEST_PX = 1e4


class OverlayFilm:
    """A video of one take under one preset, to be used in a `with` statement."""

    def __init__(self, folder: Path, footage: Footage, smooth: str) -> None:
        """Writes `folder`/sequence-preset.mp4."""
        self._footage, self._smooth = footage, smooth
        name = f"{footage.title}-{smooth}.mp4".replace(", ", "-").replace(" ", "-")
        self._recorder = VideoRecorder(folder / name, FPS)

    def add(self, k: int, frame: Frame, hands: Sequence[Hand]) -> None:
        """Draw frame number `k` with what was seen in it."""
        picture = overlay(frame.image_rgb, hands, self._footage.camera)
        truth = self._footage.truth
        for joints_px, seen in zip(truth.joints_px[k], truth.seen[k], strict=True):
            _draw_crosses(picture, joints_px, _SEEN if seen >= VISIBLE else _HIDDEN)
        for hand in hands:
            _draw_name(picture, hand)
        text = f"{self._footage.title}, smooth {self._smooth}, frame {k}: " + ", ".join(map(_words, hands))
        self._recorder.write(frame, np.concatenate([picture, strip(text, picture.shape[1])]))

    def __enter__(self) -> OverlayFilm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.close()


def _words(hand: Hand) -> str:
    return f"#{hand.id} {hand.side} {hand.score:.2f}"


def _draw_crosses(picture: np.ndarray, joints_px: np.ndarray, colour: tuple[int, int, int]) -> None:
    for x, y in joints_px[np.abs(joints_px).max(1) < _FARTHEST_PX]:
        cv2.drawMarker(picture, (round(float(x)), round(float(y))), colour, cv2.MARKER_CROSS, 5, 1)


def _draw_name(picture: np.ndarray, hand: Hand) -> None:
    x, y = np.clip(hand.joints_px.min(0), 12, 1e4).astype(int).tolist()
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, f"#{hand.id}", (x, y - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, width, cv2.LINE_AA)
