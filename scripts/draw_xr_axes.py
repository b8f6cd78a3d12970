"""Draw docs/xr_axes.png: both open hands with the axes of every OpenXR joint.

python scripts/draw_xr_axes.py --output docs/xr_axes.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from PIL import Image
from scipy.spatial.transform import Rotation

from handmesh.geometry import mirror_faces, mirror_points_m, mirror_rotations, project
from handmesh.hand.lbs import SkinnedHand
from handmesh.render.overlay import SIDE_COLOURS, shade
from handmesh.types import Camera, Hand, Side
from handmesh.xr import XRHand

FROM_VIEW = np.array([1.0, -1.0, -1.0])
AXIS_RGB = ((214, 39, 40), (26, 140, 40), (31, 90, 214))
SUPERSAMPLING = 2
TILT_DEG = (20.0, 26.0, 0.0)  # so that no axis points straight at the camera
INK = (60, 60, 60)


@dataclass(frozen=True)
class Options:
    """An image of the axes at each joint, both sides."""

    output: Path = Path("docs/xr_axes.png")
    width: int = 1400
    height: int = 820


def main(options: Options) -> None:
    """Draw and write."""
    camera = Camera.from_fov(options.width * SUPERSAMPLING, options.height * SUPERSAMPLING, 30.0)
    image = np.full((camera.height, camera.width, 3), 255, np.uint8)
    hands = [open_hand("left", (-0.095, 0.0, 0.80), camera), open_hand("right", (0.095, 0.0, 0.80), camera)]
    for hand in hands:
        blend_mesh(image, hand, camera)
    for hand in hands:
        draw_axes(image, hand.to_openxr(), camera)
        position = (hand.joints_px[0] + (140 * SUPERSAMPLING, 80 * SUPERSAMPLING)).round().astype(int)
        write(image, f"{hand.side} hand", position, 0.9)
    draw_legend(image, camera)
    small = cv2.resize(image, (options.width, options.height), interpolation=cv2.INTER_AREA)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).quantize(128).save(options.output, optimize=True)
    print(f"wrote {options.output}")


def open_hand(side: Side, position_m: tuple[float, float, float], camera: Camera) -> Hand:
    """The bundled hand at rest as its owner sees it: back to the camera, fingers up, a little tilted."""
    model = SkinnedHand.open_hand()
    back_to_camera = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
    pose = np.tile(np.eye(3), (16, 1, 1))
    pose[0] = back_to_camera
    vertices, joints = model.posed(pose, model.rest(np.zeros(10)))
    faces = model.faces
    if side == "left":
        vertices, joints, pose = mirror_points_m(vertices), mirror_points_m(joints), mirror_rotations(pose)
        faces = mirror_faces(faces)
    tilt = Rotation.from_euler("xyz", TILT_DEG, degrees=True).as_matrix()
    vertices, joints, pose = vertices @ tilt.T, joints @ tilt.T, np.concatenate([tilt @ pose[:1], pose[1:]])
    move = np.float32(position_m) - (joints.min(0) + joints.max(0)) / 2
    vertices, joints = vertices + move, joints + move
    return Hand(vertices, joints, project(joints, camera), side, 1.0, pose, np.zeros(10), faces)


def blend_mesh(image: np.ndarray, hand: Hand, camera: Camera) -> None:
    """The shaded mesh, pale enough for lines over it."""
    rgba, _ = shade(hand.vertices_m, hand.faces, camera, SIDE_COLOURS[hand.side])
    opacity = rgba[..., 3:] / 255 * 0.55
    image[:] = (image * (1 - opacity) + rgba[..., :3] * opacity).round().astype(np.uint8)


def draw_axes(image: np.ndarray, poses: XRHand, camera: Camera) -> None:
    """Three arrows at each joint; those of palm and wrist are longer and carry their letters."""
    rotations = Rotation.from_quat(poses.orientations_xyzw).as_matrix()
    for joint in np.argsort(poses.positions_m[:, 2]):  # the farthest first
        long = joint < 2
        ends = poses.positions_m[joint] + (0.030 if joint == 1 else 0.022 if long else 0.011) * rotations[joint].T
        start_px, *ends_px = project(np.vstack([poses.positions_m[joint], ends]) * FROM_VIEW, camera)
        for letter, end_px, colour in sorted(zip("XYZ", ends_px, AXIS_RGB, strict=True), reverse=True):
            arrow(image, start_px, end_px, colour, 5 if long else 3)
            if long:
                outwards = (end_px - start_px) / max(float(np.linalg.norm(end_px - start_px)), 1.0)
                write(image, letter, end_px + outwards * 24 + (-10, 10), 0.7, colour)
        cv2.circle(image, tuple(start_px.round().astype(int)), 6, INK, cv2.FILLED, cv2.LINE_AA)


def arrow(image: np.ndarray, start_px: np.ndarray, end_px: np.ndarray, colour: tuple[int, ...], width: int) -> None:
    """An arrow with a head of a fixed size."""
    length = max(float(np.linalg.norm(end_px - start_px)), 1.0)
    ends = (tuple(round(float(value)) for value in point) for point in (start_px, end_px))
    cv2.arrowedLine(image, *ends, colour, width, cv2.LINE_AA, tipLength=min(14 / length, 0.5))


def write(image: np.ndarray, text: str, position_px: np.ndarray, scale: float, colour: tuple[int, ...] = INK) -> None:
    """Text with its lower left corner at `position_px`."""
    corner = tuple(int(value) for value in position_px)
    font = (cv2.FONT_HERSHEY_SIMPLEX, scale * SUPERSAMPLING)
    cv2.putText(image, text, corner, *font, colour, round(2 * scale * SUPERSAMPLING / 1.4), cv2.LINE_AA)


def draw_legend(image: np.ndarray, camera: Camera) -> None:
    """What the colours mean, and the frame of the view."""
    left, line = 24 * SUPERSAMPLING, 26 * SUPERSAMPLING
    words = (
        "X  towards the little finger of a right hand, towards the thumb of a left one",
        "Y  out of the back of the hand; of the thumb, out of its nail",
        "Z  along the bone, away from the fingertip",
    )
    for row, (text, colour) in enumerate(zip(words, AXIS_RGB, strict=True)):
        write(image, text, np.array([left, line * (row + 1.4)]), 0.6, colour)
    origin = np.array([left + 10, camera.height - 40.0 * SUPERSAMPLING])
    for (dx, dy), letter, colour in zip(((1, 0), (0, -1), (-0.5, 0.4)), "xyz", AXIS_RGB, strict=True):
        end = origin + np.array([dx, dy]) * 44 * SUPERSAMPLING
        arrow(image, origin, end, colour, 5)
        write(image, letter, end + (8, 8), 0.6, colour)
    write(image, "frame of the view", origin + (64 * SUPERSAMPLING, 24 * SUPERSAMPLING), 0.6)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
