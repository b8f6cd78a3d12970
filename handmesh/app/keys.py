"""What the keys of the demo's window change, and the mesh from another angle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args

import numpy as np

from handmesh import skeleton
from handmesh.geometry import project
from handmesh.render.overlay import Style
from handmesh.types import Camera, Hand

View = Literal["overlay", "side", "mesh"]
"""The image with the meshes over it; beside it the meshes from elsewhere; the meshes alone."""

Angle = Literal["front", "side", "above", "back"]
"""Where the meshes are seen from: the camera, its right, above, the far side."""

Action = Literal["snapshot", "record", "calibrate"]

VIEWS: tuple[View, ...] = get_args(View)
ANGLES: tuple[Angle, ...] = get_args(Angle)

FIRST_ANGLE: dict[View, Angle] = {"overlay": "front", "side": "side", "mesh": "front"}
"""Where each view looks from until the angle is changed."""

KEYS = {
    "v": "next view: overlay, side by side, mesh",
    "1 2 3": "these views",
    "o": "see the hands from another angle",
    "m": "mesh",
    "w": "wireframe",
    "k": "skeleton",
    "i": "times and hands",
    "s": "snapshot: image and meshes",
    "r": "start or stop recording",
    "c": "measure the hand's size (--calibrate-hand)",
    "space": "pause or go on",
    "h  ?": "this help",
    "q": "quit",
}
"""What each key does, as the help shows it."""

_NAMES = {" ": "space", "\x1b": "q", "\r": "space", "\n": "space", "?": "h"}


def key_name(code: int) -> str:
    """What a key is called here, of the code that a window gives."""
    letter = chr(code).lower()
    return _NAMES.get(letter, letter)


@dataclass(frozen=True)
class ViewSettings:
    """What is to be seen of a frame."""

    style: Style = field(default_factory=Style)
    view: View = "overlay"
    angle: Angle | None = None  # None: where the view looks from at first

    @property
    def seen_from(self) -> Angle:
        """Where the meshes are seen from."""
        return self.angle or FIRST_ANGLE[self.view]

    def with_view(self, view: View) -> ViewSettings:
        """Another view, from where it looks at first."""
        return replace(self, view=view, angle=None)

    def rotated(self) -> ViewSettings:
        """The meshes from the next angle; the overlay, which has none, becomes the side-by-side view."""
        if self.view == "overlay":
            return self.with_view("side")
        return replace(self, angle=ANGLES[(ANGLES.index(self.seen_from) + 1) % len(ANGLES)])

    def toggled(self, part: Literal["mesh", "wireframe", "skeleton"]) -> ViewSettings:
        """With a part of the drawing switched on or off."""
        return replace(self, style=replace(self.style, **{part: not getattr(self.style, part)}))


@dataclass(frozen=True)
class Controls:
    """The state that the keys change."""

    settings: ViewSettings = field(default_factory=ViewSettings)
    paused: bool = False
    help: bool = False
    info: bool = True
    quit: bool = False
    action: Action | None = None
    """What was asked for and is still to be done."""

    def after(self, key: str) -> Controls:
        """The controls once `key` was pressed; keys that mean nothing change nothing."""
        settings = self.settings
        changes = {
            "q": {"quit": True},
            "space": {"paused": not self.paused},
            "h": {"help": not self.help},
            "i": {"info": not self.info},
            "s": {"action": "snapshot"},
            "r": {"action": "record"},
            "c": {"action": "calibrate"},
            "m": {"settings": settings.toggled("mesh")},
            "w": {"settings": settings.toggled("wireframe")},
            "k": {"settings": settings.toggled("skeleton")},
            "o": {"settings": settings.rotated()},
            "v": {"settings": settings.with_view(VIEWS[(VIEWS.index(settings.view) + 1) % len(VIEWS)])},
            **{str(k + 1): {"settings": settings.with_view(view)} for k, view in enumerate(VIEWS)},
        }
        return replace(self, **changes.get(key, {}))


# Hands seen from elsewhere: rotated about their middle, and set before the camera so that they fill the image.


_YAW_PITCH_DEG: dict[Angle, tuple[float, float]] = {
    "front": (0.0, 0.0),
    "side": (55.0, 20.0),
    "above": (0.0, 80.0),
    "back": (180.0, 0.0),
}
"""How far the scene turns about the camera's y axis, then about its x axis."""

_FILL = 0.9  # of the image's shorter side
_REACH = 0.75  # of a hand's length: how far from the middle of its palm it may reach
_SETTLING_S = (0.12, 0.12, 0.12, 0.25, 0.25, 0.25, 0.25)  # time constants, in the order of `OrbitState`

_PALM = [skeleton.KEYPOINTS.index(name) for name in ("wrist", "index1", "middle1", "ring1", "little1")]


class OrbitState(NamedTuple):
    """From where the hands are seen."""

    yaw_deg: float
    pitch_deg: float
    away: float  # 0 with the hands where the camera sees them, 1 with their middle on the camera's axis
    x_m: float  # the hands' middle
    y_m: float
    z_m: float
    distance_m: float  # of the middle from the eye, at `away` 1


class Orbit:
    """Goes smoothly from one stand to the next, and follows the hands calmly."""

    def __init__(self) -> None:
        self._state: OrbitState | None = None
        self._time_s = 0.0
        self._empty = True  # whether there was no hand when last asked

    def rest(self) -> None:
        """Back to where the camera is, at once."""
        if self._state:
            self._state = self._state._replace(yaw_deg=0.0, pitch_deg=0.0, away=0.0)

    def seen_from(self, angle: Angle, hands: Sequence[Hand], camera: Camera, time_s: float) -> list[Hand]:
        """Copies of the hands in the frame of an eye at `angle`, which sees as `camera` does.

        time_s: now, on the clock by which the eye moves. From the front they are where the camera sees them.
        """
        goal = _goal(angle, hands, camera, self._state)
        self._state = self._step(goal, time_s)
        self._time_s, self._empty = time_s, not hands
        return [moved(hand, self._state, camera) for hand in hands]

    @property
    def state(self) -> OrbitState | None:
        """Where it is at present; None before the first look."""
        return self._state

    def _step(self, goal: OrbitState, time_s: float) -> OrbitState:
        """Towards `goal`, as far as the time since the last step allows."""
        if self._state is None:
            return goal
        now, elapsed_s = np.array(self._state), time_s - self._time_s
        fraction = 1 - np.exp(-max(0.0, elapsed_s) / np.array(_SETTLING_S))
        if self._empty:
            fraction[3:] = 1.0  # a hand that has just come needs no way to the middle
        following = now + fraction * (np.array(goal) - now)
        settled = np.abs(np.array(goal) - following)[:3] < (0.2, 0.2, 2e-3)
        following[:3] = np.where(settled, goal[:3], following[:3])
        return OrbitState(*following.tolist())


def _goal(angle: Angle, hands: Sequence[Hand], camera: Camera, before: OrbitState | None) -> OrbitState:
    """Where to stand for these hands; without any, where one stood before."""
    yaw, pitch = _YAW_PITCH_DEG[angle]
    away = float(angle != "front")
    if not hands:
        return OrbitState(yaw, pitch, away, *(before[3:] if before else (0.0, 0.0, 1.0, 1.0)))
    palms = np.array([hand.joints_m[_PALM].mean(0) for hand in hands], np.float64)
    middle = (palms.min(0) + palms.max(0)) / 2
    reaches = [
        math.dist(palm, middle) + _REACH * max(hand.size_m, 0.01) for palm, hand in zip(palms, hands, strict=True)
    ]
    half_side = min(camera.width, camera.height) / 2
    distance = max(max(camera.fx, camera.fy) / half_side / _FILL, 1.5) * max(reaches)
    return OrbitState(yaw, pitch, away, *middle.tolist(), distance)


def moved(hand: Hand, state: OrbitState, camera: Camera) -> Hand:
    """The hand in the frame of an eye at `state`; itself where that is the camera's position."""
    if not (state.yaw_deg or state.pitch_deg or state.away):
        return hand
    rotation = _rotation(state.yaw_deg, state.pitch_deg)
    middle = np.array([state.x_m, state.y_m, state.z_m])
    position = (1 - state.away) * middle + state.away * np.array([0.0, 0.0, state.distance_m])
    shift = (position - rotation @ middle).astype(np.float32)
    vertices, joints = (points @ rotation.T.astype(np.float32) + shift for points in (hand.vertices_m, hand.joints_m))
    joints_px = project(np.maximum(joints, (-np.inf, -np.inf, 1e-3)), camera).astype(np.float32)
    return replace(hand, vertices_m=vertices, joints_m=joints, joints_px=joints_px)


def _rotation(yaw_deg: float, pitch_deg: float) -> np.ndarray:
    """(3, 3): what lies to the right comes near with the yaw, what lies above with the pitch."""
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    about_y = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    return about_x @ about_y
