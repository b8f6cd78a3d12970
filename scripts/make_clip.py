"""Render the bundled demo clip: two hands of our own making go through gestures before a painted wall.

    python scripts/make_clip.py --output handmesh/assets/demo.mp4 --truth demo_truth.npz

Everything in the clip is generated: the open hand, painted skin, a procedural background, light.
`--truth` keeps each frame's joints in pixels, for the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    from handmesh.synthetic.sequences import HandState, Trajectory

FPS, WIDTH, HEIGHT = 30, 640, 480
SECONDS_A_GESTURE = 0.9

STORY = (
    # gesture, rotation of the hand about the image's x, y and z axes in degrees
    ("open", (0, 0, 0)),
    ("relaxed", (10, 25, -10)),
    ("victory", (0, -15, 8)),
    ("fist", (5, 20, 0)),
    ("point", (-10, -25, -20)),
    ("pinch", (0, 35, 10)),
    ("open", (15, 0, 15)),
    ("thumb up", (0, -20, 0)),
    ("claw", (10, 15, 5)),
    ("open", (0, 0, 0)),
)

LENGTH = round(FPS * SECONDS_A_GESTURE * (len(STORY) - 1)) + 1


def main(output: Path, truth: Path | None = None, seed: int = 15) -> None:
    """Render every frame and write the clip.

    Args:
        output: the .mp4 file to write
        truth: an .npz file for the joints of each frame
        seed: of the room and of the hands' ways
    """
    from rich.progress import track

    from handmesh.synthetic.sequences import Room
    from handmesh.types import Camera, Frame
    from handmesh.video.sinks import VideoRecorder

    room, camera, trajectories = Room(seed, WIDTH, HEIGHT), Camera.from_fov(WIDTH, HEIGHT, 60), cast(seed)
    recorder, joints_px = VideoRecorder(output, FPS), []
    for k in track(range(LENGTH), "rendering"):
        image = room.render_scene(trajectories, k / FPS, camera)
        recorder.write(Frame(str(k), k / FPS, image), image, [])
        joints_px.append([hand.joints_px for hand in room.hands(trajectories, k / FPS, camera)])
    recorder.close()
    if truth:
        np.savez_compressed(
            truth, joints_px=np.float32(joints_px), sides=np.array([trajectory.side for trajectory in trajectories])
        )
    print(f"wrote {output} ({output.stat().st_size / 1e6:.2f} MB, {LENGTH} frames)")


def cast(seed: int) -> list[Trajectory]:
    """The two hands' parts in the story; the second hand is elsewhere in it."""
    from handmesh.synthetic.sequences import Trajectory

    return [Trajectory("right", _part(seed, 0, 0.0)), Trajectory("left", _part(seed + 1, 4, 1.0))]


def _part(seed: int, offset: int, phase: float) -> Callable[[float], HandState]:
    """The story from its gesture `offset` on, while the hand drifts about its position."""
    from handmesh.hand.poses import default_sampler
    from handmesh.synthetic.sequences import HandState, Keyframes

    story, sampler = [*STORY[offset:], *STORY[:offset]], default_sampler()
    fingers = [sampler.gesture_deg(name, np.random.default_rng([seed, k])) for k, (name, _) in enumerate(story)]
    rotations = Rotation.from_euler("xyz", [rotation for _, rotation in story], degrees=True)
    keyframes = Keyframes(SECONDS_A_GESTURE * np.arange(len(story)), np.array(fingers), rotations)

    def at(time_s: float) -> HandState:
        swing = 2 * np.pi * time_s / (4 * SECONDS_A_GESTURE) + phase
        wrist = np.array([-0.12, 0.12, 0.52]) + [0.03, 0.02, 0.05] * np.sin([swing, 1.3 * swing, swing])
        return HandState(*keyframes.at(time_s), wrist)

    return at


if __name__ == "__main__":
    tyro.cli(main)
