"""Steadies a followed hand: One-Euro filters on position and rotation, and one shape for all its frames.

The mesh is posed anew from the smoothed rotations and the shape, so that vertices, joints, pose and
position stay those of one hand, however quickly it turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from handmesh import skeleton
from handmesh.geometry import NEAREST_M, project, turned
from handmesh.hand.lbs import Rest, SkinnedHand
from handmesh.machine import compiled
from handmesh.types import Camera, Hand

Smooth = Literal["off", "low", "high"]

SHAPE_AVERAGE_S = 3.0
"""A hand's shape is the mean of what the network said of it for so long; then it rests."""

D_CUTOFF_HZ = 3.0
"""Speeds are smoothed with this cut-off. Above the 1 Hz of the paper: a hand starts to move in 0.1 s."""

AHEAD_CUTOFF_HZ = 10.0
"""Velocities that carry a hand ahead are smoothed with this cut-off. Those of what was filtered are steady at rest as
they are: in a simulated wave of 1 Hz this leaves 8 ms of 52 where 3 Hz leave 15, with half the unrest of raw ones."""


@dataclass(frozen=True)
class Cutoff:
    """How a One-Euro filter trades jitter for lag."""

    min_cutoff_hz: float | np.ndarray  # cut-off while nothing moves: lower is steadier
    beta: float | np.ndarray  # Hz gained per unit of speed: higher lags less
    jump: float = math.inf  # a longer displacement than this is no motion, but a mistake that ends: it is gone at once

    @staticmethod
    def of_each(*cutoffs: Cutoff) -> Cutoff:
        """For (N, D) vectors with a cut-off of their own each."""
        min_cutoff_hz, beta = ([[getattr(cutoff, name)] for cutoff in cutoffs] for name in ("min_cutoff_hz", "beta"))
        return Cutoff(np.array(min_cutoff_hz), np.array(beta))


@dataclass(frozen=True)
class SmoothingPreset:
    """One preset: a cut-off for each thing that is smoothed, in its own unit of speed."""

    bearing: Cutoff  # direction of the root, image widths at unit focal length a second
    distance: Cutoff  # log of the root's depth a second
    rotation: Cutoff  # radians a second, of the wrist and of each joint


_JUMP = 1.0  # the chord of 60 degrees, as the filter measures rotations: no joint turns so far from frame to frame

PRESETS: dict[Smooth, SmoothingPreset | None] = {
    "off": None,
    "low": SmoothingPreset(
        bearing=Cutoff(0.2, 100.0), distance=Cutoff(0.7, 11.0), rotation=Cutoff(2.0, 2.8, jump=_JUMP)
    ),
    "high": SmoothingPreset(
        bearing=Cutoff(1.0, 25.0), distance=Cutoff(0.4, 6.0), rotation=Cutoff(1.0, 1.5, jump=_JUMP)
    ),
}


class OneEuro:
    """A low-pass filter whose cut-off rises with speed: steady at rest, quick in motion.

    Works on (..., D) vectors; each vector has its own speed. Source: Casiez, Roussel and Vogel,
    1 Euro Filter (2012), with the speed taken as the length of the smoothed derivative.
    """

    def __init__(self, cutoff: Cutoff) -> None:
        self._cutoff = [np.ravel(value).astype(np.float64) for value in (cutoff.min_cutoff_hz, cutoff.beta)]
        self._jump = cutoff.jump
        self._raw: np.ndarray | None = None

    def __call__(self, value: np.ndarray, dt_s: float | None) -> np.ndarray:
        """The filtered `value`, `dt_s` after the one before; None starts anew from `value`."""
        value = np.ascontiguousarray(value, np.float64)
        raw = self._vectors(value)
        if self._raw is None or dt_s is None:
            self._smooth, self._derivative, self._velocity = value, np.zeros_like(raw), np.zeros_like(raw)
        else:
            before = self._raw, self._vectors(self._smooth), self._derivative, self._velocity
            moved, self._derivative, self._velocity = _filtered(raw, *before, float(dt_s), *self._cutoff, self._jump)
            self._smooth = self._values(moved, value.shape)
        self._raw = raw
        return self._smooth

    def ahead(self, seconds: float) -> np.ndarray:
        """The last filtered value, carried on for so long with its velocity."""
        return self._smooth + seconds * self._velocity.reshape(self._smooth.shape)

    @staticmethod
    def _vectors(value: np.ndarray) -> np.ndarray:
        """(N, D) what is filtered, each of N by its own speed."""
        return value.reshape(-1, value.shape[-1])

    @staticmethod
    def _values(vectors: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The values of filtered vectors."""
        return vectors.reshape(shape)


class RotationOneEuro(OneEuro):
    """The same filter on (N, 3, 3) rotations, each as a vector of its nine entries, made a rotation again.

    A matrix has no sign to be ambiguous about, as a quaternion has. The chord between two rotations,
    divided by the root of two, is their angle in radians as long as that is small.
    """

    @staticmethod
    def _vectors(value: np.ndarray) -> np.ndarray:
        return value.reshape(-1, 9) / math.sqrt(2)

    @staticmethod
    def _values(vectors: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return nearest_rotations(math.sqrt(2) * vectors.reshape(shape))

    def ahead(self, seconds: float) -> np.ndarray:
        """(N, 3, 3) the last filtered rotations, each turned on about its own axis, by a radian at most."""
        spin = math.sqrt(2) * np.swapaxes(self._smooth, -1, -2) @ self._velocity.reshape(self._smooth.shape)
        turn = seconds * 0.5 * np.stack([spin[:, k, i] - spin[:, i, k] for i, k in ((1, 2), (2, 0), (0, 1))], axis=-1)
        turn /= np.maximum(1.0, np.linalg.norm(turn, axis=-1, keepdims=True) / _LARGEST_TURN_RAD)
        return turned(self._smooth, turn)


_LARGEST_TURN_RAD = 1.0


@compiled()
def _filtered(raw, raw_before, smooth, derivative, velocity, dt_s, min_cutoff_hz, beta, jump):
    """One step of the filter on (N, D) vectors: the filtered ones, the smoothed derivative of the raw ones, and the
    velocity of the filtered ones."""
    count, size = raw.shape
    moved, derivative_now, velocity_now = np.empty_like(raw), np.empty_like(raw), np.empty_like(raw)
    gain_speed, gain_ahead = _gain(D_CUTOFF_HZ, dt_s), _gain(AHEAD_CUTOFF_HZ, dt_s)
    for k in range(count):
        speed = distance = 0.0
        for i in range(size):
            change = (raw[k, i] - raw_before[k, i]) / dt_s
            derivative_now[k, i] = derivative[k, i] + gain_speed * (change - derivative[k, i])
            speed += derivative_now[k, i] ** 2
            distance += (raw[k, i] - smooth[k, i]) ** 2
        is_jump = math.sqrt(distance) > jump
        gain = _gain(min_cutoff_hz[k % len(min_cutoff_hz)] + beta[k % len(beta)] * math.sqrt(speed), dt_s)
        for i in range(size):
            step = (1.0 if is_jump else gain) * (raw[k, i] - smooth[k, i])
            moved[k, i] = smooth[k, i] + step
            carried = velocity[k, i] + gain_ahead * (step / dt_s - velocity[k, i])
            velocity_now[k, i] = 0.0 if is_jump else carried
    return moved, derivative_now, velocity_now


@compiled()
def _gain(cutoff_hz, dt_s):
    """The fraction of the new value in a first-order low-pass filter."""
    return 1.0 / (1.0 + 1.0 / (2 * math.pi * cutoff_hz * dt_s))


def nearest_rotations(matrices: np.ndarray, steps: int = 2) -> np.ndarray:
    """(..., 3, 3) matrices near to rotations, made rotations by Newton and Schulz's steps to the polar factor.

    Source: Higham, Computing the Polar Decomposition (1986). Singular values must lie between 0 and 1.7.
    """
    for _ in range(steps):
        matrices = 1.5 * matrices - 0.5 * matrices @ (np.swapaxes(matrices, -1, -2) @ matrices)
    return matrices


class ShapeAverage:
    """The one shape of a followed hand: the mean over its first seconds, which rests from then on."""

    def __init__(self, model: SkinnedHand) -> None:
        self._model = model
        self._frames, self._seen_s = 0, 0.0

    def __call__(self, shape: np.ndarray, dt_s: float | None) -> tuple[np.ndarray, Rest]:
        """The (10,) shape to show and the unposed hand of it; `shape` is what the network says in this frame."""
        if self._frames == 0:
            self._mean = shape.astype(np.float64)
        if self._seen_s <= SHAPE_AVERAGE_S:
            self._frames += 1
            self._seen_s += dt_s or 0.0
            self._mean = self._mean + (shape - self._mean) / self._frames
            self._shown = self._mean.astype(np.float32), self._model.rest(self._mean)
        return self._shown


_UNFILTERED = SmoothingPreset(
    bearing=Cutoff(math.inf, 0.0), distance=Cutoff(math.inf, 0.0), rotation=Cutoff(math.inf, 0.0)
)
"""Filters that change nothing, and know speeds all the same."""


class HandSmoother:
    """The filters of one followed hand."""

    def __init__(self, smooth: Smooth, model: SkinnedHand) -> None:
        """model: the hand that the network poses."""
        self._preset = checked_preset(smooth)
        preset = self._preset or _UNFILTERED
        self._model = model
        self._position = OneEuro(Cutoff.of_each(preset.bearing, preset.distance))
        self._rotations, self._shape = RotationOneEuro(preset.rotation), ShapeAverage(model)

    def __call__(self, hand: Hand, camera: Camera, dt_s: float | None) -> Hand:
        """`hand`, seen `dt_s` after the one before, steadied; None starts anew from it."""
        pose = self._rotations(hand.pose.astype(np.float64), dt_s)
        if self._preset is None:
            self._smooth_position(hand.joints_m[skeleton.ROOT], dt_s)
            return hand
        shape, self._rest = self._shape(hand.shape, dt_s)
        posed = self._model.posed(pose, self._rest, hand.side)
        # The image tells how large a hand looks: one of another size is as much farther away.
        growth = _bones_m(posed[1]) / _bones_m(hand.joints_m)
        root_m = self._smooth_position(growth * hand.joints_m[skeleton.ROOT], dt_s)
        return _placed(replace(hand, pose=pose.astype(np.float32), shape=shape), posed, root_m, camera)

    def ahead(self, hand: Hand, camera: Camera, seconds: float) -> Hand:
        """`hand`, which this gave last, as it should be `seconds` later: carried on by the filters' velocities."""
        pose = self._rotations.ahead(seconds)
        rest = self._model.rest(hand.shape) if self._preset is None else self._rest
        posed = self._model.posed(pose, rest, hand.side)
        root_m = _root_at(self._position.ahead(seconds))
        return _placed(replace(hand, pose=pose.astype(np.float32)), posed, root_m, camera)

    def _smooth_position(self, root_m: np.ndarray, dt_s: float | None) -> np.ndarray:
        """The root, its direction apart from its distance.

        An image tells the direction far better than the distance; filtered together, the noise of
        the distance would either stay or make the mesh trail behind the hand in the image.
        """
        x, y, z = root_m.tolist()
        return _root_at(self._position(np.array([[x / z, y / z], [math.log(z), 0.0]]), dt_s))


def _root_at(position: np.ndarray) -> np.ndarray:
    """(3,) the root at x / z, y / z and log z, as the filter has it."""
    (x, y), (log_z, _) = position.tolist()
    z = math.exp(log_z)
    return np.array([x * z, y * z, z])


def _placed(hand: Hand, posed: tuple[np.ndarray, np.ndarray], root_m: np.ndarray, camera: Camera) -> Hand:
    """`hand` with posed vertices and joints, moved so that their root is at `root_m`."""
    vertices, joints = posed
    shift = root_m - joints[skeleton.ROOT]
    shift[2] = max(shift[2], NEAREST_M - float(joints[:, 2].min()))  # turned anew, a near hand may reach behind it
    joints_m = joints + shift
    return replace(
        hand,
        joints_m=joints_m.astype(np.float32),
        vertices_m=vertices + shift.astype(np.float32),
        joints_px=project(joints_m, camera).astype(np.float32),
    )


def checked_preset(smooth: Smooth) -> SmoothingPreset | None:
    """The preset of this name; ValueError for an unknown one."""
    if not isinstance(smooth, str) or smooth not in PRESETS:
        raise ValueError(f"unknown smoothing {smooth!r}; known are {', '.join(PRESETS)}")
    return PRESETS[smooth]


def _bones_m(joints_m: np.ndarray) -> float:
    """The length of all bones together, which tells a hand's size."""
    steps = joints_m[_CHILDREN] - joints_m[_PARENTS]
    return float(np.sqrt((steps * steps).sum(1)).sum())


_PARENTS, _CHILDREN = (list(ends) for ends in zip(*skeleton.BONES, strict=True))
