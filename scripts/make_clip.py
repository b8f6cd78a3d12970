"""Render the bundled demo clip: two hands of our own making go through gestures before a painted wall.

    python scripts/make_clip.py handmesh/assets/demo.mp4 --truth demo_truth.npz

Everything in the clip is generated: the open hand, painted skin, a procedural background, light.
`--truth` keeps each frame's joints in pixels, for the tests.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation, Slerp

FPS, WIDTH, HEIGHT = 30, 640, 480
SECONDS_A_GESTURE = 0.9

STORY = (
    # gesture, turn of the hand about the picture's x, y and z axes in degrees
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


def main() -> int:
    """Render every frame and write the clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the .mp4 file to write")
    parser.add_argument("--truth", type=Path, help="an .npz file for the joints of each frame")
    parser.add_argument("--seed", type=int, default=15)
    options = parser.parse_args()
    from rich.progress import track

    from handmesh.camera import project
    from handmesh.crop import mirror_points_m
    from handmesh.runtime.recording import VideoRecorder
    from handmesh.runtime.sources import Frame
    from handmesh.structs import Camera

    studio, camera = Studio(options.seed), Camera.from_fov(WIDTH, HEIGHT, 60)
    recorder, truth = VideoRecorder(options.out, FPS), []
    for k in track(range(studio.length), "rendering"):
        actors = studio.actors(k)
        picture, hands = studio.shoot(actors, camera)
        recorder.write(Frame(str(k), k / FPS, picture), picture, [])
        joints = [hands[0].joints, mirror_points_m(hands[1].joints)]
        truth.append([project(points, camera) for points in joints])
    recorder.close()
    if options.truth:
        np.savez_compressed(options.truth, joints_px=np.float32(truth), sides=np.array(["right", "left"]))
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.2f} MB, {studio.length} frames)")
    return 0


class Studio:
    """Skin, light, wall and the two hands' parts in the story; all follow from the seed."""

    def __init__(self, seed: int) -> None:
        from handmesh.data.poses import default_sampler
        from handmesh.data.synthetic.arm import Arm
        from handmesh.data.synthetic.backgrounds import draw_pattern
        from handmesh.data.synthetic.lighting import random_light
        from handmesh.data.synthetic.skin import draw_skin, painted_skins
        from handmesh.data.synthetic.stage import Outfit, Stage

        arm = Arm.load(None)
        self.stage, self.sampler = Stage(arm), default_sampler()
        rng = np.random.default_rng(seed)
        self.outfit = Outfit(draw_skin(rng, painted_skins(arm, 1, 1024)))
        self.light = random_light(rng)
        wall = cv2.GaussianBlur(draw_pattern(rng, WIDTH), (0, 0), 6)
        self.wall = wall[:HEIGHT] // 2 + 70
        self.parts = [self._part(seed, 0), self._part(seed + 1, 4)]
        self.length = round(FPS * SECONDS_A_GESTURE * (len(STORY) - 1)) + 1

    def _part(self, seed: int, offset: int) -> tuple[np.ndarray, Slerp]:
        """Angles at the key frames, and the turn between them; the second hand is elsewhere in the story."""
        story = [*STORY[offset:], *STORY[:offset]]
        angles = [self.sampler.gesture_deg(name, np.random.default_rng([seed, k])) for k, (name, _) in enumerate(story)]
        turns = Rotation.from_euler("xyz", [turn for _, turn in story], degrees=True)
        return np.array(angles), Slerp(np.arange(len(story)), turns)

    def actors(self, frame: int):
        """The two hands of a frame; the second is the left one."""
        from handmesh.data import anatomy
        from handmesh.data.synthetic.stage import Actor
        from handmesh.skeleton import PALM_TO_CAMERA

        made = []
        for (angles, turns), side in zip(self.parts, ("right", "left"), strict=True):
            at = frame / (FPS * SECONDS_A_GESTURE)
            k = min(int(at), len(angles) - 2)
            share = (at - k) ** 2 * (3 - 2 * (at - k))  # at rest at each key frame
            fingers = (1 - share) * angles[k] + share * angles[k + 1]
            turn = turns(k + share).as_matrix() @ np.array(PALM_TO_CAMERA)
            rotations = np.concatenate([turn[None], anatomy.rotations_from_angles(fingers, self.sampler.frames)])
            phase = 2 * np.pi * at / 4 + (1.0 if side == "left" else 0.0)
            wrist = np.array([-0.12, 0.12, 0.52]) + [0.03, 0.02, 0.05] * np.sin([phase, 1.3 * phase, phase])
            place = wrist - self.stage.arm.rest_joints[0]  # the hand model turns about the wrist
            made.append(Actor(rotations, np.zeros(10), place, np.eye(3), self.outfit, side))
        return made

    def shoot(self, actors, camera):
        """The finished picture and the posed hands."""
        hands = self.stage.pose(actors)
        drawn = self.stage.shoot(list(zip(actors, hands, strict=True)), camera, self.light)
        alpha = drawn.rgba[..., 3:].astype(np.float32) / 255
        return np.uint8(drawn.rgba[..., :3] * alpha + self.wall * (1 - alpha)), hands


if __name__ == "__main__":
    sys.exit(main())
