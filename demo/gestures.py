"""Pinch, point, fist, open hand and thumb up from a camera, a video or images: `python demo/gestures.py --help`.

An example of `handmesh.gestures`, which reads a hand's joints.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

try:
    import handmesh  # noqa: F401
except ModuleNotFoundError:  # a clone that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from handmesh import console
from handmesh.app.options import TrackerOptions
from handmesh.app.window import has_display
from handmesh.assets import DEMO_CLIP
from handmesh.gestures import GestureReader, Reading
from handmesh.render.overlay import Style, overlay
from handmesh.types import Hand
from handmesh.video.sinks import open_sink
from handmesh.video.sources import open_source


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
            readings = reader.read(hands)
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
    fingers = f" of {' and '.join(reading.pinches)}" if reading.pinches else ""
    strengths = f"pinch {reading.pinch_strength:.1f}, grab {reading.grab_strength:.1f}"
    return f"{reading.gesture or 'no gesture'}{fingers} ({strengths})"


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
