"""The sequences on which tracking is scored: what their hands do, and their images as a webcam gives them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.progress import Progress
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.evaluation.datasets import ArrayCache
from handmesh.hand.poses import default_sampler
from handmesh.synthetic import sequences
from handmesh.synthetic.sequences import HandState, Keyframes, Room, Trajectory, eased, eased_between
from handmesh.types import Camera, Frame, Side, hand_length_m

# The scripts of the sequences: what hands do, as functions of time, at speeds that people reach.
#
# Positions are of the wrist, in metres, in the camera's frame: x right, y down, z forward. At 0.5 m an image of 60
# degrees shows 58 x 43 cm. A left hand's script is that of the right hand that is its mirror image.


ELBOW_M = np.array([0.0, 0.36, 0.55])
FOREARM_M = 0.26
WAVE_RAD = math.radians(33)
"""Takes the knuckles, 9 cm from the wrist, 20 cm to either side."""


class Sequence(NamedTuple):
    """What is filmed."""

    seconds: float
    trajectories: list[Trajectory]


Script = Callable[[np.random.Generator], Sequence]
"""Of the generator that the fingers' exact posture comes from."""


def _fingers(rng: np.random.Generator, *gestures: str) -> np.ndarray:
    """(K, 15, 3) angles in degrees."""
    return np.array([default_sampler().gesture_deg(gesture, rng) for gesture in gestures])


def _euler(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Rotation:
    return Rotation.from_euler("xyz", [x, y, z], degrees=True)


def still(wrist_m: tuple[float, float, float], seconds: float) -> Script:
    """A hand that does not move. wrist_m: camera frame."""

    def script(rng: np.random.Generator) -> Sequence:
        state = HandState(_fingers(rng, "open")[0], _euler(5, 15, -8), np.array(wrist_m))
        return Sequence(seconds, [Trajectory("right", lambda time_s: state)])

    return script


def _wave(hertz: float) -> Script:
    """Half a second at rest, then waving, then at rest again."""

    def script(rng: np.random.Generator, seconds: float = 5.0) -> Sequence:
        fingers = _fingers(rng, "open")[0]

        def at(time_s: float) -> HandState:
            much = eased((time_s - 0.5) / 0.5) * eased((seconds - 0.5 - time_s) / 0.5)
            angle = WAVE_RAD * much * math.sin(2 * math.pi * hertz * (time_s - 0.5))
            wrist = ELBOW_M + FOREARM_M * np.array([math.sin(angle), -math.cos(angle), 0])
            return HandState(fingers, _euler(0, 10, math.degrees(angle)), wrist)

        return Sequence(seconds, [Trajectory("right", at)])

    return script


def _grasp_and_rotation(rng: np.random.Generator) -> Sequence:
    story = (
        ("open", _euler()), ("grasp", _euler(10, 20, 0)), ("grasp", _euler(10, 80, 0)), ("grasp", _euler(35, -25, 20)),
        ("open", _euler(0, -30, 0)), ("fist", _euler(0, 30, -20)), ("point", _euler(-20, 50, 0)), ("relaxed", _euler()),
    )  # fmt: skip
    times = 0.2 + 0.62 * np.arange(len(story))
    gestures, rotations = zip(*story, strict=True)
    keyframes = Keyframes(times, _fingers(rng, *gestures), Rotation.concatenate(rotations))
    positions = np.array([(0, 0.1, 0.5), (0.04, 0.08, 0.46), (-0.04, 0.1, 0.5), (0.02, 0.12, 0.54)] * 2)
    return Sequence(
        5.0,
        [Trajectory("right", lambda time_s: HandState(*keyframes.at(time_s), eased_between(times, positions, time_s)))],
    )


def _to_and_fro(rng: np.random.Generator) -> Sequence:
    fingers = _fingers(rng, "relaxed")[0]

    def at(time_s: float) -> HandState:
        depth = 0.55 - 0.2 * math.cos(2 * math.pi * 0.4 * time_s)
        return HandState(fingers, _euler(10, 20, 0), np.array([0.02, 0.09 * depth / 0.5, depth]))

    return Sequence(5.0, [Trajectory("left", at)])


def _crossing(rng: np.random.Generator) -> Sequence:
    """They meet after 1.25 and 3.75 seconds, at 0.4 m/s."""
    first, second = _fingers(rng, "open", "relaxed")

    def at(fingers: np.ndarray, height_m: float, depth_m: float) -> Callable[[float], HandState]:
        def state(time_s: float) -> HandState:
            x = -0.17 * math.cos(2 * math.pi * time_s / 5)
            return HandState(fingers, _euler(0, 10, 0), np.array([x, height_m, depth_m]))

        return state

    return Sequence(5.0, [Trajectory("right", at(first, 0.10, 0.48)), Trajectory("left", at(second, 0.12, 0.60))])


def _leaving(rng: np.random.Generator) -> Trajectory:
    """Out over the image's left border and back, lower and with other fingers."""
    times = np.array([0.0, 1.0, 1.8, 2.8, 3.6, 5.0])
    keyframes = Keyframes(
        times, _fingers(rng, *["open"] * 3, *["relaxed"] * 3), Rotation.concatenate([_euler(0, 10, 0)] * 6)
    )
    positions = np.array([(-0.1, 0.06, 0.5)] * 2 + [(-0.48, 0.06, 0.5), (-0.48, 0.13, 0.5)] + [(-0.08, 0.13, 0.5)] * 2)
    return Trajectory("right", lambda time_s: HandState(*keyframes.at(time_s), eased_between(times, positions, time_s)))


def _one_of_two_leaves(rng: np.random.Generator) -> Sequence:
    stays = HandState(_fingers(rng, "open")[0], _euler(0, 15, 0), np.array([-0.14, 0.1, 0.55]))
    return Sequence(5.0, [_leaving(rng), Trajectory("left", lambda time_s: stays)])


class Filmed(NamedTuple):
    """A sequence in words, and its script."""

    what: str
    script: Script


SEQUENCES = {
    "still": Filmed("a hand held still at half a metre", still((0.0, 0.09, 0.5), 5.0)),
    "still, near": Filmed("the same at 0.3 m", still((0.0, 0.07, 0.3), 3.0)),
    "still, far": Filmed("the same at 1.1 m", still((0.05, 0.09, 1.1), 3.0)),
    "slow wave": Filmed("from the elbow, 0.5 Hz, 20 cm to either side", _wave(0.5)),
    "fast wave": Filmed("from the elbow, 1.5 Hz, 20 cm to either side", _wave(1.5)),
    "grasp and turn": Filmed("opens, grasps, turns by up to 80 degrees, points", _grasp_and_rotation),
    "to and fro": Filmed("towards the camera and away from it, 0.35 m to 0.75 m", _to_and_fro),
    "crossing": Filmed("two hands pass each other twice, the right one before the left", _crossing),
    "leave and return": Filmed(
        "out of the image for a second, back at another height", lambda rng: Sequence(5.0, [_leaving(rng)])
    ),
    "one of two leaves": Filmed("the same beside a hand that stays", _one_of_two_leaves),
}
"""What is filmed, by name."""


# Sequences on film: images as a webcam gives them, with the truth beside each.


FPS, WIDTH, HEIGHT = 30, 640, 480

_KEPT = {"what": "images of scripted hands, without noise"}


class Truth(NamedTuple):
    """T frames of H hands."""

    times_s: np.ndarray  # (T,)
    sides: tuple[Side, ...]  # H
    joints_m: np.ndarray  # (T, H, 21, 3) camera frame
    joints_px: np.ndarray  # (T, H, 21, 2)
    inside: np.ndarray  # (T, H) fraction of the outline that is in the image
    seen: np.ndarray  # (T, H) fraction of the outline that is in the image and not hidden

    def later(self, seconds: float) -> Truth:
        """Where the joints are so long after each frame, by cubic splines; nothing is to be seen after the last one."""
        if not seconds or len(self.times_s) < 2:
            return self
        at_s = self.times_s + seconds
        joints_m, joints_px = (CubicSpline(self.times_s, joints)(at_s) for joints in (self.joints_m, self.joints_px))
        seen = np.where((at_s <= self.times_s[-1])[:, None], self.seen, 0.0)
        return self._replace(joints_m=joints_m, joints_px=joints_px, seen=seen)


class Speed(NamedTuple):
    """What a sequence shows."""

    sequence: str
    sample: int
    frames: int
    hands: int
    fastest_px_s: float  # of a root joint, from one frame to the next
    fastest_cm_s: float
    nearest_m: float  # depth of a root joint
    farthest_m: float
    hand_size_m: float  # wrist to middle fingertip along the bones


@dataclass(frozen=True, eq=False)
class RenderedSequence:
    """One take of a sequence."""

    name: str
    sample: int
    camera: Camera
    truth: Truth
    seed: tuple[int, ...]  # of the noise
    pngs: list[np.ndarray]  # encoded images without noise

    @property
    def title(self) -> str:
        """Its name, and which take it is but for the first."""
        return f"{self.name} {self.sample + 1}" if self.sample else self.name

    @property
    def hand_size_m(self) -> float:
        """From the wrist along the bones to the middle finger's tip; all hands of a take are one person's."""
        return hand_length_m(self.truth.joints_m[0, 0])

    def frames(self) -> Iterator[Frame]:
        """The images with the sensor's noise, the same each time."""
        for k, (time_s, png) in enumerate(zip(self.truth.times_s, self.pngs, strict=True)):
            clean = cv2.imdecode(png, cv2.IMREAD_COLOR_RGB)
            yield Frame(f"{k:06d}", float(time_s), sequences.with_noise(clean, [*self.seed, k]))

    def speed(self) -> Speed:
        """How fast the root joints move, those outside the image left out."""
        truth = self.truth
        there, rate = truth.inside[1:] > 0.5, 1 / float(np.median(np.diff(truth.times_s)))
        steps = (np.diff(joints[:, :, skeleton.ROOT], axis=0) for joints in (truth.joints_px, truth.joints_m))
        fastest_px, fastest_m = (float(np.linalg.norm(step, axis=-1)[there].max()) for step in steps)
        depth_m = truth.joints_m[:, :, skeleton.ROOT, 2]
        return Speed(
            *(self.name, self.sample, len(truth.times_s), len(truth.sides), rate * fastest_px, 100 * rate * fastest_m),
            *(float(depth_m.min()), float(depth_m.max()), self.hand_size_m),
        )


def render_scene(
    name: str,
    sample: int,
    bar: Progress,
    seed: int = 0,
    exposure_ms: float = 8.0,
    frames: Path | None = None,
    limit: int | None = None,
) -> RenderedSequence:
    """Film a take of a sequence, or fetch its images where these very hands were filmed before.

    seed: another one films other people. exposure_ms: how long the shutter is open. frames: the folder that keeps
    images. limit: of frames; all of them without.
    """
    seeds = (seed, list(SEQUENCES).index(name), sample)
    rng = np.random.default_rng(seeds)
    script, camera = SEQUENCES[name].script(rng), Camera.from_fov(WIDTH, HEIGHT)
    room = Room(int(rng.integers(2**31)), WIDTH, HEIGHT, rng.normal(0, 0.8, 10).clip(-2, 2))
    times_s = np.arange(round(script.seconds * FPS) if limit is None else limit) / FPS
    hands = [room.hands(script.trajectories, float(time_s), camera) for time_s in times_s]
    columns = ("joints_m", "joints_px", "inside", "seen")
    values = (np.array([[getattr(hand, column) for hand in some] for some in hands]) for column in columns)
    truth = Truth(times_s, tuple(trajectory.side for trajectory in script.trajectories), *values)

    cache = None if frames is None else ArrayCache(frames, _KEPT)
    # What tells the images apart is all that they depend on: the hands' positions and shapes, seed, shutter, version.
    setting = np.float32(truth.joints_m).tobytes() + json.dumps([sequences.VERSION, seed, exposure_ms]).encode()
    key = f"{name.replace(', ', '-').replace(' ', '-')}-{hashlib.sha256(setting).hexdigest()[:12]}"
    if cache and (kept := cache.get(key)):
        return RenderedSequence(name, sample, camera, truth, seeds, np.split(kept["pngs"], kept["ends"][:-1]))
    pngs, task = [], bar.add_task(f"filming {name}", total=len(times_s))
    for time_s in bar.track(times_s, task_id=task):
        image = room.render_scene(script.trajectories, float(time_s), camera, exposure_ms / 1000)
        pngs.append(cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])[1])
    bar.remove_task(task)
    if cache:
        cache.put(key, pngs=np.concatenate(pngs), ends=np.cumsum([len(png) for png in pngs]))
    return RenderedSequence(name, sample, camera, truth, seeds, pngs)
