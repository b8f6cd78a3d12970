"""What the keys of the demo's window change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from handmesh.render.overlay import Style

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
    "c": "measure the hand's size",
    "space": "pause or go on",
    "h  ?": "this help",
    "q": "quit",
}
"""What each key does, as the help shows it."""

_NAMES = {" ": "space", "\x1b": "q", "\r": "space", "?": "h"}


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
