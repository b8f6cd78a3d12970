"""Steadies a followed hand: One-Euro filters on where it is, how it is turned, its form and its shape.

A hand's vertices come out of the network's graph, not out of its smoothed angles, so they are
smoothed themselves. They are filtered in the hand's own frame (root at the origin, wrist not
turned), where only the fingers still move, and then put back with the smoothed turn and place:
a quick turn of the whole hand is then never blended from two flattened meshes, and vertices,
joints, pose and place stay those of one hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.camera import project
from handmesh.structs import Camera, Hand

Smooth = Literal["off", "low", "high"]

DERIVATIVE_CUTOFF_HZ = 3.0
"""Speeds are smoothed with this cut-off. Above the 1 Hz of the paper: a hand starts to move in 0.1 s."""


@dataclass(frozen=True)
class Cutoff:
    """How a One-Euro filter trades steadiness for lag."""

    still_hz: float  # cut-off while nothing moves: lower is steadier
    per_speed: float  # Hz gained per unit of speed: higher lags less


@dataclass(frozen=True)
class Steadiness:
    """One preset: a cut-off for each thing that is smoothed, in its own unit of speed."""

    bearing: Cutoff  # direction of the root, picture widths at unit focal length a second
    distance: Cutoff  # log of the root's depth a second
    turn: Cutoff  # radians a second, of the wrist and of each joint
    form: Cutoff  # metres a second, of each vertex and joint in the hand's own frame
    shape: Cutoff  # standard deviations a second


PRESETS: dict[Smooth, Steadiness | None] = {
    "off": None,
    "low": Steadiness(
        bearing=Cutoff(2.0, 60.0),
        distance=Cutoff(0.7, 12.0),
        turn=Cutoff(2.0, 3.0),
        form=Cutoff(2.0, 50.0),
        shape=Cutoff(0.2, 0.0),
    ),
    "high": Steadiness(
        bearing=Cutoff(1.0, 25.0),
        distance=Cutoff(0.4, 6.0),
        turn=Cutoff(1.0, 1.5),
        form=Cutoff(1.0, 25.0),
        shape=Cutoff(0.1, 0.0),
    ),
}


class OneEuro:
    """A low-pass filter whose cut-off rises with speed: steady at rest, quick in motion.

    Works on (..., D) vectors; each vector has its own speed. Source: Casiez, Roussel and Vogel,
    1 Euro Filter (2012), with the speed taken as the length of the smoothed derivative.
    """

    def __init__(self, cutoff: Cutoff) -> None:
        self._cutoff = cutoff
        self._raw: np.ndarray | None = None

    def __call__(self, value: np.ndarray, dt_s: float | None) -> np.ndarray:
        """The filtered `value`, `dt_s` after the one before; None starts anew from `value`."""
        if self._raw is None or dt_s is None:
            self._smooth, self._derivative = value, np.zeros_like(self._between(value, value))
        else:
            change = self._between(self._raw, value) / dt_s
            self._derivative = self._derivative + _gain(DERIVATIVE_CUTOFF_HZ, dt_s) * (change - self._derivative)
            speed = np.linalg.norm(self._derivative, axis=-1, keepdims=True)
            gain = _gain(self._cutoff.still_hz + self._cutoff.per_speed * speed, dt_s)
            self._smooth = self._moved(self._smooth, gain * self._between(self._smooth, value))
        self._raw = value
        return self._smooth

    @staticmethod
    def _between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return end - start

    @staticmethod
    def _moved(start: np.ndarray, step: np.ndarray) -> np.ndarray:
        return start + step


class RotationOneEuro(OneEuro):
    """The same filter on (N, 3, 3) rotations: steps are rotation vectors, so that results rotate too."""

    @staticmethod
    def _between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return Rotation.from_matrix(np.swapaxes(start, -1, -2) @ end).as_rotvec()

    @staticmethod
    def _moved(start: np.ndarray, step: np.ndarray) -> np.ndarray:
        return start @ Rotation.from_rotvec(step).as_matrix()


def _gain(cutoff_hz: float | np.ndarray, dt_s: float) -> float | np.ndarray:
    """The share of the new value in a first-order low-pass filter."""
    return 1.0 / (1.0 + 1.0 / (2 * math.pi * cutoff_hz * dt_s))


class HandSmoother:
    """The filters of one followed hand."""

    def __init__(self, smooth: Smooth) -> None:
        if smooth not in PRESETS:
            raise ValueError(f"unknown smoothing {smooth!r}; known are {', '.join(PRESETS)}")
        preset = self._preset = PRESETS[smooth]
        if preset is not None:
            self._bearing, self._distance = OneEuro(preset.bearing), OneEuro(preset.distance)
            self._turns, self._form = RotationOneEuro(preset.turn), OneEuro(preset.form)
            self._shape = OneEuro(preset.shape)

    def __call__(self, hand: Hand, camera: Camera, dt_s: float | None) -> Hand:
        """`hand`, seen `dt_s` after the one before, steadied; None starts anew from it."""
        if self._preset is None:
            return hand
        place = self._smooth_place(hand.joints_m[skeleton.ROOT].astype(np.float64), dt_s)
        pose = self._turns(hand.pose.astype(np.float64), dt_s)
        points = self._form(_own_frame(hand), dt_s) @ pose[0].T + place
        joints_m = points[: len(hand.joints_m)]
        return replace(
            hand,
            joints_m=joints_m.astype(np.float32),
            vertices_m=points[len(joints_m) :].astype(np.float32),
            joints_px=project(joints_m, camera).astype(np.float32),
            pose=pose.astype(np.float32),
            shape=self._shape(hand.shape.astype(np.float64), dt_s).astype(np.float32),
        )

    def _smooth_place(self, root_m: np.ndarray, dt_s: float | None) -> np.ndarray:
        """The root, its direction apart from its distance.

        A picture tells the direction far better than the distance; filtered together, the noise of
        the distance would either stay or make the mesh trail behind the hand in the picture.
        """
        bearing = self._bearing(root_m[:2] / root_m[2], dt_s)
        depth = np.exp(self._distance(np.log(root_m[2:]), dt_s))
        return np.concatenate([bearing, [1.0]]) * depth


def _own_frame(hand: Hand) -> np.ndarray:
    """(21 + V, 3) joints and vertices about the root, with the wrist's turn taken out."""
    points = np.concatenate([hand.joints_m, hand.vertices_m]).astype(np.float64)
    return (points - hand.joints_m[skeleton.ROOT]) @ hand.pose[0]
