"""Measures the user's hand in a running session, and tells the tracker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from handmesh.runtime import console
from handmesh.runtime.hand_size import HandSizeCalibration
from handmesh.structs import Hand

if TYPE_CHECKING:
    from handmesh.apps.session import Tracker


class HandSizing:
    """One measurement after another, each begun by the user."""

    def __init__(self, distance_m: float) -> None:
        """Begins the first. distance_m: of the hand from the camera. Raises ValueError for no such distance."""
        self.measured = False
        """Whether the tracker's scale comes from a measurement."""
        self._distance_m = distance_m
        self._calibration: HandSizeCalibration | None = HandSizeCalibration(distance_m)

    def begin(self) -> str:
        """Begin anew; a notice for the user."""
        self._calibration = HandSizeCalibration(self._distance_m)
        return "measuring your hand"

    @property
    def task(self) -> tuple[str, float]:
        """What the user should do, and how much of it is done; empty where nothing is being measured."""
        if self._calibration is None:
            return "", 0.0
        return self._calibration.hint or "hold still", self._calibration.progress

    def add(self, tracker: Tracker, hands: Sequence[Hand], time_s: float) -> None:
        """Take in the hands of a frame; at the end, set the tracker's scale."""
        if self._calibration is None or self._calibration.add(hands, time_s) < 1.0:
            return
        done, self._calibration = self._calibration, None
        if done.size_m is None:
            console.warn(done.problem)
            return
        tracker.hand_size_m, self.measured = done.size_m, True
        console.say(f"{done.describe()}; next time: --hand-size {done.size_m:.3f}")
