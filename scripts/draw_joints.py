"""Draw docs/joints.png: the 21 points of a hand with their numbers and names, on the bundled right hand.

python scripts/draw_joints.py --output docs/joints.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from draw_xr_axes import INK, SUPERSAMPLING, blend_mesh, open_hand, write
from PIL import Image

from handmesh.skeleton import BONES, Joint
from handmesh.types import Camera

FINGER_RGB = ((214, 39, 40), (230, 130, 20), (26, 140, 40), (31, 90, 214), (130, 60, 170))


@dataclass(frozen=True)
class Options:
    """An image of the numbered joints."""

    output: Path = Path("docs/joints.png")
    width: int = 900
    height: int = 720


def main(options: Options) -> None:
    """Draw and write."""
    camera = Camera.from_fov(options.width * SUPERSAMPLING, options.height * SUPERSAMPLING, 30.0)
    image = np.full((camera.height, camera.width, 3), 255, np.uint8)
    hand = open_hand("right", (0.02, 0.0, 0.56), camera)
    blend_mesh(image, hand, camera)
    points = hand.joints_px
    for start, end in BONES:
        corners = [tuple(points[joint].round().astype(int).tolist()) for joint in (start, end)]
        cv2.line(image, *corners, colour_of(end), 5, cv2.LINE_AA)
    for joint in Joint:
        cv2.circle(
            image, tuple(points[joint].round().astype(int).tolist()), 9, colour_of(joint), cv2.FILLED, cv2.LINE_AA
        )
        write(image, str(int(joint)), points[joint] + (14, 8), 0.55, colour_of(joint))
    draw_names(image)
    small = cv2.resize(image, (options.width, options.height), interpolation=cv2.INTER_AREA)
    Image.fromarray(small).quantize(64).save(options.output, optimize=True)
    print(f"wrote {options.output}")


def colour_of(joint: int) -> tuple[int, ...]:
    """A finger's colour; the wrist's is dark."""
    return FINGER_RGB[(joint - 1) // 4] if joint else INK


def draw_names(image: np.ndarray) -> None:
    """The legend, finger by finger."""
    left, line = 20 * SUPERSAMPLING, 25 * SUPERSAMPLING
    for row, joint in enumerate(Joint):
        gap = 12 * SUPERSAMPLING * ((joint + 3) // 4)
        write(image, f"{int(joint):2d}  {joint.name}", np.array([left, line * (row + 1) + gap]), 0.55, colour_of(joint))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
