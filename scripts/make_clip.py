"""Render the bundled demo clip: the hands of three people go through gestures, each pair in another room.

    python scripts/make_clip.py --output handmesh/assets/demo.mp4 --truth tests/golden/demo_truth.npz

Everything in the clip is generated: the open hand, painted skin, sleeves, a desk and what stands on it, light, grain.
`--truth` keeps each frame's joints in pixels and the number of its scene, for the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import tyro
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    from handmesh.synthetic.renderer import Light, Material, Part
    from handmesh.synthetic.sequences import HandState, Room, Trajectory
    from handmesh.types import Camera

FPS, WIDTH, HEIGHT = 30, 640, 480
SECONDS_A_GESTURE = 0.9
OUT_OF_FOCUS_PX = 2.2
GRAIN = {"read": 0.8, "shot": 0.01}

MATT = np.float32([0.02, 5, 0, 0, 0])
"""A `Material.finish`."""
OWN_COLOURS = np.repeat(0.8 * np.linspace(0, 1, 256, dtype=np.float32)[:, None] ** 2.2, 3, axis=1)
"""A `Material.albedo` that shows a texture as it is."""

Step = tuple[str, tuple[int, int, int]]
"""A gesture, and the hand's rotation about the image's x, y and z axes in degrees."""


class Scene(NamedTuple):
    """One pair of hands in one room."""

    seed: int  # of the room, its light and the hands' shapes
    skin_depth: float  # 0 very light .. 1 very dark
    wall: tuple[float, float, float]  # reflectance
    cloth: tuple[float, float, float] | None  # of the sleeves
    distance_m: float
    right: tuple[Step, ...]
    left: tuple[Step, ...]


SCENES = (
    Scene(
        *(15, 0.2, (0.62, 0.55, 0.45), (0.05, 0.09, 0.2), 0.52),
        right=(("open", (0, 0, 0)), ("relaxed", (10, 25, -10)), ("victory", (0, -15, 8)), ("fist", (5, 20, 0))),
        left=(("pinch", (0, 35, 10)), ("open", (15, 0, 15)), ("thumb up", (0, -20, 0)), ("claw", (10, 15, 5))),
    ),
    Scene(
        *(23, 0.86, (0.33, 0.42, 0.47), (0.5, 0.16, 0.1), 0.46),
        right=(("point", (-10, -25, -20)), ("pinch", (0, 35, 10)), ("open", (15, 0, 15)), ("count", (0, -10, 0))),
        left=(("open", (0, 0, 0)), ("victory", (0, -15, 8)), ("relaxed", (0, 160, 0)), ("open", (0, 180, -10))),
    ),
    Scene(
        *(42, 0.5, (0.7, 0.7, 0.68), None, 0.58),
        right=(("open", (0, 180, 0)), ("relaxed", (10, 160, 10)), ("open", (0, 20, 0)), ("thumb up", (0, -20, 0))),
        left=(("claw", (10, 15, 5)), ("open", (-10, 0, 25)), ("fist", (5, 20, 0)), ("point", (-10, -25, -20))),
    ),
)

SCENE_FRAMES = round(FPS * SECONDS_A_GESTURE * (len(SCENES[0].right) - 1))


def main(output: Path, truth: Path | None = None, frames: int = SCENE_FRAMES) -> None:
    """Render every frame and write the clip.

    Args:
        output: the .mp4 file to write
        truth: an .npz file for the joints and the scene of each frame
        frames: of each scene; few of them to try a change
    """
    from rich.progress import track

    from handmesh.synthetic.sequences import with_noise
    from handmesh.types import Camera, Frame
    from handmesh.video.sinks import VideoRecorder

    camera = Camera.from_fov(WIDTH, HEIGHT, 60)
    recorder, joints_px = VideoRecorder(output, FPS), []
    for number, scene in enumerate(SCENES):
        room, trajectories = furnished_room(scene, camera), cast(scene)
        for k in track(range(frames), f"scene {number + 1}"):
            image = with_noise(room.render_scene(trajectories, k / FPS, camera), [scene.seed, k], **GRAIN)
            index = number * frames + k
            recorder.write(Frame(str(index), index / FPS, image), image, [])
            joints_px.append([hand.joints_px for hand in room.hands(trajectories, k / FPS, camera)])
    recorder.close()
    if truth:
        sides = np.array([trajectory.side for trajectory in trajectories])
        scenes = np.repeat(np.arange(len(SCENES), dtype=np.uint8), frames)
        np.savez_compressed(truth, joints_px=np.float32(joints_px), sides=sides, scenes=scenes)
    print(f"wrote {output} ({output.stat().st_size / 1e6:.2f} MB, {len(joints_px)} frames)")


def cast(scene: Scene) -> list[Trajectory]:
    """The two hands' parts."""
    from handmesh.synthetic.sequences import Trajectory

    right = _part(scene.right, scene.seed, scene.distance_m, 0.0)
    return [Trajectory("right", right), Trajectory("left", _part(scene.left, scene.seed + 1, scene.distance_m, 1.0))]


def _part(steps: tuple[Step, ...], seed: int, distance_m: float, phase: float) -> Callable[[float], HandState]:
    """The steps one after the other, while the hand drifts about its position."""
    from handmesh.hand.poses import default_sampler
    from handmesh.synthetic.sequences import HandState, Keyframes

    sampler = default_sampler()
    fingers = [sampler.gesture_deg(name, np.random.default_rng([seed, k])) for k, (name, _) in enumerate(steps)]
    rotations = Rotation.from_euler("xyz", [rotation for _, rotation in steps], degrees=True)
    keyframes = Keyframes(SECONDS_A_GESTURE * np.arange(len(steps)), np.array(fingers), rotations)
    middle = np.array([-0.12 * distance_m / 0.52, 0.12 * distance_m / 0.52, distance_m])

    def at(time_s: float) -> HandState:
        swing = 2 * np.pi * time_s / (4 * SECONDS_A_GESTURE) + phase
        return HandState(*keyframes.at(time_s), middle + [0.03, 0.02, 0.05] * np.sin([swing, 1.3 * swing, swing]))

    return at


# The room: a wall, a desk, and on it books, a cup and a keyboard, all out of focus.


def furnished_room(scene: Scene, camera: Camera) -> Room:
    """The scene's room with its person's hands and clothes."""
    from handmesh.synthetic.scene import Appearance
    from handmesh.synthetic.sequences import Room

    rng = np.random.default_rng([scene.seed, 1])
    room = Room(scene.seed, camera.width, camera.height, shape=rng.normal(0, 0.9, 10).clip(-2, 2))
    skin = room.appearance.skin._replace(depth=scene.skin_depth)
    cloth = None if scene.cloth is None else _material(rng, scene.cloth, 0.12)
    room.appearance = Appearance(skin, sleeve=cloth, seed=scene.seed)
    room.wall = _background(furniture(scene, rng), camera, room.light)
    return room


def furniture(scene: Scene, rng: np.random.Generator) -> list[Part]:
    """What stands behind the hands, in the camera's frame: x right, y down, z forward, metres."""
    from handmesh.synthetic.renderer import Material, Part, cylinder, slab
    from handmesh.synthetic.sensor import draw_pattern

    upright = Rotation.from_euler("x", 90, degrees=True).as_matrix()
    desk_y, parts = 0.3, []

    def put(surface: object, material: Material, position: tuple[float, float, float], rotation: np.ndarray) -> None:
        parts.append(Part(surface.moved(rotation, np.array(position)), material))

    put(slab(4.0, 3.0, 0.05), _material(rng, scene.wall, 0.05), (0, -0.5, 1.7), np.eye(3))
    put(
        slab(2.6, 0.04, 1.0), _material(rng, (0.36, 0.2, 0.1), 0.3, stretched=True), (0, desk_y + 0.02, 1.15), np.eye(3)
    )
    painting = Material(draw_pattern(rng, 128), OWN_COLOURS, MATT)
    put(slab(0.5, 0.36, 0.03), painting, (rng.uniform(-0.6, 0.6), -0.45, 1.65), np.eye(3))
    x = -0.75
    while x < -0.2:  # books
        width, height = rng.uniform(0.03, 0.06), rng.uniform(0.2, 0.3)
        colour = rng.uniform(0.03, 0.6, 3)
        put(slab(width, height, 0.16), _material(rng, colour, 0.1), (x, desk_y - height / 2, 1.5), np.eye(3))
        x += width + 0.004
    cup = rng.uniform(0.1, 0.8, 3)
    put(cylinder(0.045, 0.1), _material(rng, cup, 0.05), (rng.uniform(0.35, 0.55), desk_y - 0.05, 1.2), upright)
    for row in range(4):  # keyboard
        for column in range(13):
            position = (-0.13 + 0.021 * column + 0.006 * row, desk_y - 0.008, 1.02 - 0.021 * row)
            put(slab(0.018, 0.01, 0.018), _material(rng, (0.09, 0.09, 0.1), 0.02), position, np.eye(3))
    return parts


def _material(
    rng: np.random.Generator, colour: tuple[float, float, float] | np.ndarray, contrast: float, stretched: bool = False
) -> Material:
    """A matt material of (3,) reflectance, mottled by `contrast`; `stretched` as the grain of wood is."""
    from handmesh.synthetic.renderer import Material

    cells = (24, 2) if stretched else (16, 16)
    mottled = cv2.resize(rng.normal(0, 1, cells).astype(np.float32), (128, 128), interpolation=cv2.INTER_CUBIC)
    texture = np.repeat(np.uint8(np.clip(128 + 45 * mottled, 0, 255))[..., None], 3, axis=2)
    brightness = np.exp(contrast * (np.arange(256)[:, None] - 128) / 45)
    albedo = np.clip(np.asarray(colour) * brightness, 0.005, 0.95)
    return Material(texture, albedo.astype(np.float32), MATT)


def _background(parts: list[Part], camera: Camera, light: Light) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the parts in this light, out of focus."""
    from handmesh.synthetic.renderer import render

    directions = np.array([[0, -1, 0], [0, 0, -1], [0.7, -0.7, 0], [-0.7, -0.7, 0]], np.float32)
    rgba = render(parts, 0, camera, light, directions, sum(len(part.surface.vertices) for part in parts)).rgba
    sharp = rgba[..., :3] * (rgba[..., 3:].astype(np.float32) / 255)
    return np.uint8(cv2.GaussianBlur(sharp, (0, 0), OUT_OF_FOCUS_PX * camera.width / WIDTH))


if __name__ == "__main__":
    tyro.cli(main)
