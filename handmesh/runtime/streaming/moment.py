"""What one frame gave, at its places in time: the one thing that every message is made of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from handmesh import skeleton
from handmesh.structs import Camera, Hand
from handmesh.xr import XRHand, to_webxr
from handmesh.xr.poses import FROM_CAMERA

RADII_EVERY = 15
"""Frames from one measurement of a hand's thickness to the next: it hardly changes, and takes longest of all."""

_PINCH = [skeleton.KEYPOINTS.index(name) for name in ("thumb4", "index4")]
_NO_VERTICES = np.zeros((0, 3), np.float32)


class Poser:
    """Hands to WebXR poses, frame by frame; keeps each hand's radii for some frames."""

    def __init__(self) -> None:
        self._radii: dict[tuple[int, str], tuple[int, np.ndarray]] = {}  # when they are due again, and they

    def poses(self, hands: Sequence[Hand], sequence: int) -> list[XRHand]:
        """The 25 joints of each hand of the frame of this number, in the frame of an OpenXR view."""
        poses = [self._pose(hand, sequence) for hand in hands]
        present = {(hand.id, hand.side) for hand in hands}
        self._radii = {key: kept for key, kept in self._radii.items() if key in present}
        return poses

    def _pose(self, hand: Hand, sequence: int) -> XRHand:
        due, radii_m = self._radii.get((hand.id, hand.side), (0, None))
        if radii_m is not None and sequence < due:
            return to_webxr(replace(hand, vertices_m=_NO_VERTICES))._replace(radii_m=radii_m)
        pose = to_webxr(hand)
        self._radii[hand.id, hand.side] = (sequence + RADII_EVERY, pose.radii_m)
        return pose


@dataclass(frozen=True, eq=False)
class Moment:
    """The hands of one frame. What costs time is worked out when a message asks for it, and once."""

    sequence: int  # counts the frames published, from 1
    time_s: float  # the frame's place in the source
    captured_s: float  # on the clock of `time.perf_counter`
    camera: Camera
    hands: Sequence[Hand]
    metric: bool = False  # metres are metres; otherwise they are up to a common scale
    poser: Poser = field(default_factory=Poser)

    @cached_property
    def poses(self) -> list[XRHand]:
        """The 25 WebXR joints of each hand, in the frame of an OpenXR view."""
        return self.poser.poses(self.hands, self.sequence)

    def vertices_m(self, index: int) -> np.ndarray:
        """(V, 3) float32 vertices of a hand, in the frame of its poses."""
        return self.hands[index].vertices_m * FROM_CAMERA.astype(np.float32)

    def pinch_m(self, index: int) -> float:
        """From the tip of a hand's thumb to that of its index finger."""
        thumb, finger = self.hands[index].joints_m[_PINCH]
        return float(np.linalg.norm(thumb - finger))

    @cached_property
    def sent_unix_ms(self) -> float:
        """When the first message of this frame was made, in milliseconds since 1970 on this machine's clock."""
        return time.time() * 1000

    @cached_property
    def captured_unix_ms(self) -> float:
        """When the picture came in, on the same clock as `sent_unix_ms`."""
        return self.sent_unix_ms - (time.perf_counter() - self.captured_s) * 1000
