"""Pinch, point, fist, open hand and thumb up from a camera, a video or images: `python demo/gestures.py --help`.

An example of what can be built on `Hand.to_webxr()`; change the thresholds as you need them.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

try:
    import handmesh  # noqa: F401
except ModuleNotFoundError:  # a clone that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scipy.spatial.transform import Rotation

from handmesh import console
from handmesh.app.options import TrackerOptions
from handmesh.app.window import has_display
from handmesh.assets import DEMO_CLIP
from handmesh.render.overlay import Style, overlay
from handmesh.skeleton import Joint
from handmesh.types import Hand
from handmesh.video.sinks import open_sink
from handmesh.video.sources import open_source
from handmesh.xr import WEBXR_JOINTS
from handmesh.xr.poses import FROM_CAMERA

PINCH_BEGINS_M, PINCH_ENDS_M = 0.015, 0.020
PINCH_FAR_M = 0.060  # here its strength begins to rise
PAD_BACK_M, PAD_DOWN_M = 0.009, 0.008  # of a finger's pad, from its tip: towards the wrist, and towards the palm
STRAIGHT_DEG, FOLDED_DEG, FIST_DEG = 65.0, 100.0, 170.0  # a finger's bend, all its joints together
GRAB_DEG = (60.0, 210.0)  # the fingers' mean bend of an open hand and of a fist
THUMB_AWAY = 0.33  # of the hand's length, from the middle finger's second joint
UPWARDS = 0.6  # the cosine of 53 degrees

FINGERS = ("index", "middle", "ring", "pinky")
_CHAINS = np.array([[k for k, name in enumerate(WEBXR_JOINTS) if name.startswith(finger)] for finger in FINGERS])
_THUMB_DISTAL, _THUMB_TIP, _INDEX_TIP = (
    WEBXR_JOINTS.index(name) for name in ("thumb-phalanx-distal", "thumb-tip", "index-finger-tip")
)
_MIDDLE_CHAIN = _CHAINS[1]


class Reading(NamedTuple):
    """What one hand does in one frame."""

    gesture: str  # 'pinch', 'fist', 'thumb up', 'point', 'open', or '' for none of these
    pinch_distance_m: float  # between the tips or the pads of thumb and index finger, whichever is less
    pinch_strength: float  # 0 from 60 mm, 1 at 15 mm
    grab_strength: float  # 0 for straight fingers, 1 for a fist


class GestureReader:
    """Reads the hands of a video; it remembers who was pinching, so that a pinch does not flicker."""

    def __init__(self, pinch_begins_m: float = PINCH_BEGINS_M, pinch_ends_m: float = PINCH_ENDS_M) -> None:
        self._begins_m, self._ends_m = pinch_begins_m, pinch_ends_m
        self._pinching: set[int] = set()

    def read(self, hand: Hand) -> Reading:
        """The gesture of a hand that is known by its `id`."""
        poses = hand.to_webxr()
        axes = Rotation.from_quat(poses.orientations_xyzw).as_matrix()
        tips_m = hand.joints_m[[Joint.THUMB_TIP, Joint.INDEX_TIP]] * FROM_CAMERA
        distance = pinch_distance_m(tips_m, axes[[_THUMB_TIP, _INDEX_TIP]])
        bends = finger_bends_deg(poses.positions_m)
        if distance < (self._ends_m if hand.id in self._pinching else self._begins_m):
            self._pinching.add(hand.id)
        else:
            self._pinching.discard(hand.id)
        gesture = "pinch" if hand.id in self._pinching else _form(poses.positions_m, bends)
        low, high = GRAB_DEG
        return Reading(
            gesture,
            distance,
            float(np.clip((PINCH_FAR_M - distance) / (PINCH_FAR_M - PINCH_BEGINS_M), 0, 1)),
            float(np.clip((bends.mean() - low) / (high - low), 0, 1)),
        )


def pinch_distance_m(tips_m: np.ndarray, axes: np.ndarray) -> float:
    """Between the (2, 3) tips of thumb and index finger on the skin, or their pads, whichever are nearer.

    axes: (2, 3, 3), the tips' X, Y and Z as columns.
    """
    pads = tips_m + PAD_BACK_M * axes[..., 2] - PAD_DOWN_M * axes[..., 1]
    return float(min(np.linalg.norm(tips_m[0] - tips_m[1]), np.linalg.norm(pads[0] - pads[1])))


def finger_bends_deg(positions_m: np.ndarray) -> np.ndarray:
    """(4,) the angles from each bone to the next, summed from the metacarpal to the tip; index finger first."""
    bones = np.diff(positions_m[_CHAINS], axis=1)
    bones /= np.linalg.norm(bones, axis=2, keepdims=True)
    cosines = (bones[:, 1:] * bones[:, :-1]).sum(2)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1))).sum(1)


def _form(positions_m: np.ndarray, bends_deg: np.ndarray) -> str:
    if (bends_deg > FIST_DEG).all():
        return "thumb up" if _thumb_is_up(positions_m) else "fist"
    if bends_deg[0] < STRAIGHT_DEG and (bends_deg[1:] > FOLDED_DEG).all():
        return "point"
    return "open" if (bends_deg < STRAIGHT_DEG).all() else ""


def _thumb_is_up(positions_m: np.ndarray) -> bool:
    """Away from the fingers, and upwards in the image."""
    length = np.linalg.norm(np.diff(positions_m[[0, *_MIDDLE_CHAIN[1:]]], axis=0), axis=1).sum()
    away = np.linalg.norm(positions_m[_THUMB_TIP] - positions_m[_MIDDLE_CHAIN[2]]) > THUMB_AWAY * length
    thumb = positions_m[_THUMB_TIP] - positions_m[_THUMB_DISTAL]
    return bool(away and thumb[1] > UPWARDS * np.linalg.norm(thumb))


@dataclass(frozen=True)
class Options(TrackerOptions):
    """Says what the hands of a source do. In the window: q quits."""

    source: tuple[str, ...] = (str(DEMO_CLIP),)
    """A camera's index, a video, images, a folder or a glob."""
    output: Path | None = None
    """Write the images with what was read: an .mp4, or a folder."""
    window: bool = True
    """Open a window where there is a display."""


def main(args: list[str] | None = None) -> int:
    """Parse `args` (None: the command line's), run, and return the exit code."""
    words = sys.argv[1:] if args is None else args
    return console.guarded(lambda: run(console.parse(Options, words, "gestures.py")))


def run(options: Options) -> int:
    """Read every frame; say each change of a gesture."""
    reader, last = GestureReader(), {}
    with ExitStack() as stack:
        source = open_source(*options.source)
        stack.callback(source.close)
        output = open_sink(options.output, source.length != 1, source.fps, source.files) if options.output else None
        if output:
            stack.callback(output.close)
        window = options.window and has_display()
        tracker = options.load()
        for frame in source:
            hands = tracker.track(frame.image_rgb, frame.time_s)
            readings = [reader.read(hand) for hand in hands]
            for hand, reading in zip(hands, readings, strict=True):
                if last.get(hand.id) != reading.gesture:
                    console.say(f"{frame.time_s:7.2f} s  {hand.side} hand {hand.id}: {describe(reading)}")
                last[hand.id] = reading.gesture
            image = draw(frame.image_rgb, hands, readings) if window or output else frame.image_rgb
            if output:
                output.write(frame, image, hands)
            if window and not show(image):
                break
    return 0


def describe(reading: Reading) -> str:
    """One line of the gesture and the numbers behind it."""
    name = reading.gesture or "no gesture"
    pinch = f"thumb to index finger {reading.pinch_distance_m * 1000:.0f} mm"
    return f"{name} ({pinch}, pinch {reading.pinch_strength:.1f}, grab {reading.grab_strength:.1f})"


def draw(image_rgb: np.ndarray, hands: list[Hand], readings: list[Reading]) -> np.ndarray:
    """The image with the hands' bones and, at each wrist, its gesture."""
    image = overlay(image_rgb, hands, style=Style(mesh=False, skeleton=True))
    for hand, reading in zip(hands, readings, strict=True):
        position = tuple(int(value) for value in hand.joints_px[0] + (12, 4))
        for colour, width in (((0, 0, 0), 5), ((255, 255, 255), 2)):
            cv2.putText(image, reading.gesture, position, cv2.FONT_HERSHEY_SIMPLEX, 0.9, colour, width, cv2.LINE_AA)
    return image


def show(image_rgb: np.ndarray) -> bool:
    """Show it in the window; False when the user quits."""
    cv2.imshow("gestures", image_rgb[..., ::-1])
    return cv2.waitKey(1) & 0xFF != ord("q")


if __name__ == "__main__":
    sys.exit(main())
