"""The sequences on which tracking is scored: what their hands do, and their images as a webcam gives them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from rich.progress import Progress
from scipy.spatial.transform import Rotation

from handmesh.evaluation.datasets import ArrayCache
from handmesh.evaluation.tracking import SEQUENCES, TrackingOptions, Truth
from handmesh.hand.poses import default_sampler
from handmesh.synthetic import sequences
from handmesh.synthetic.sequences import Keys, Moment, Role, Room, eased, eased_between
from handmesh.types import Camera, Frame

# The scripts of the sequences: what hands do, as functions of time, at speeds that people reach.
#
# Places are of the wrist, in metres, in the camera's frame: x right, y down, z forward. At 0.5 m a picture of 60
# degrees shows 58 x 43 cm. A left hand's script is that of the right hand that is its mirror image.


ELBOW_M = np.array([0.0, 0.36, 0.55])
FOREARM_M = 0.26
WAVE_RAD = math.radians(33)
"""Takes the knuckles, 9 cm from the wrist, 20 cm to either side."""


class Sequence(NamedTuple):
    """What is filmed."""

    seconds: float
    roles: list[Role]


def sequence(name: str, rng: np.random.Generator) -> Sequence:
    """The sequence of that name (see `tracking.SEQUENCES`); the fingers' exact posture comes from `rng`."""
    return SCRIPTS[name](rng)


def _fingers(rng: np.random.Generator, *gestures: str) -> np.ndarray:
    """(K, 15, 3) angles in degrees."""
    return np.array([default_sampler().gesture_deg(gesture, rng) for gesture in gestures])


def _turn(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Rotation:
    return Rotation.from_euler("xyz", [x, y, z], degrees=True)


def still(wrist_m: tuple[float, float, float], seconds: float) -> Callable[[np.random.Generator], Sequence]:
    def script(rng: np.random.Generator) -> Sequence:
        moment = Moment(_fingers(rng, "open")[0], _turn(5, 15, -8), np.array(wrist_m))
        return Sequence(seconds, [Role("right", lambda time_s: moment)])

    return script


def _wave(hertz: float) -> Callable[[np.random.Generator], Sequence]:
    """Half a second at rest, then waving, then at rest again."""

    def script(rng: np.random.Generator, seconds: float = 5.0) -> Sequence:
        fingers = _fingers(rng, "open")[0]

        def at(time_s: float) -> Moment:
            much = eased((time_s - 0.5) / 0.5) * eased((seconds - 0.5 - time_s) / 0.5)
            angle = WAVE_RAD * much * math.sin(2 * math.pi * hertz * (time_s - 0.5))
            wrist = ELBOW_M + FOREARM_M * np.array([math.sin(angle), -math.cos(angle), 0])
            return Moment(fingers, _turn(0, 10, math.degrees(angle)), wrist)

        return Sequence(seconds, [Role("right", at)])

    return script


def _grasp_and_turn(rng: np.random.Generator) -> Sequence:
    story = (
        ("open", _turn()), ("grasp", _turn(10, 20, 0)), ("grasp", _turn(10, 80, 0)), ("grasp", _turn(35, -25, 20)),
        ("open", _turn(0, -30, 0)), ("fist", _turn(0, 30, -20)), ("point", _turn(-20, 50, 0)), ("relaxed", _turn()),
    )  # fmt: skip
    times = 0.2 + 0.62 * np.arange(len(story))
    gestures, turns = zip(*story, strict=True)
    keys = Keys(times, _fingers(rng, *gestures), Rotation.concatenate(turns))
    places = np.array([(0, 0.1, 0.5), (0.04, 0.08, 0.46), (-0.04, 0.1, 0.5), (0.02, 0.12, 0.54)] * 2)
    return Sequence(5.0, [Role("right", lambda time_s: Moment(*keys.at(time_s), eased_between(times, places, time_s)))])


def _to_and_fro(rng: np.random.Generator) -> Sequence:
    fingers = _fingers(rng, "relaxed")[0]

    def at(time_s: float) -> Moment:
        depth = 0.55 - 0.2 * math.cos(2 * math.pi * 0.4 * time_s)
        return Moment(fingers, _turn(10, 20, 0), np.array([0.02, 0.09 * depth / 0.5, depth]))

    return Sequence(5.0, [Role("left", at)])


def _crossing(rng: np.random.Generator) -> Sequence:
    """They meet after 1.25 and 3.75 seconds, at 0.4 m/s."""
    first, second = _fingers(rng, "open", "relaxed")

    def at(fingers: np.ndarray, height_m: float, depth_m: float) -> Callable[[float], Moment]:
        def moment(time_s: float) -> Moment:
            x = -0.17 * math.cos(2 * math.pi * time_s / 5)
            return Moment(fingers, _turn(0, 10, 0), np.array([x, height_m, depth_m]))

        return moment

    return Sequence(5.0, [Role("right", at(first, 0.10, 0.48)), Role("left", at(second, 0.12, 0.60))])


def _leaving(rng: np.random.Generator) -> Role:
    """Out over the picture's left border and back, lower and with other fingers."""
    times = np.array([0.0, 1.0, 1.8, 2.8, 3.6, 5.0])
    keys = Keys(times, _fingers(rng, *["open"] * 3, *["relaxed"] * 3), Rotation.concatenate([_turn(0, 10, 0)] * 6))
    places = np.array([(-0.1, 0.06, 0.5)] * 2 + [(-0.48, 0.06, 0.5), (-0.48, 0.13, 0.5)] + [(-0.08, 0.13, 0.5)] * 2)
    return Role("right", lambda time_s: Moment(*keys.at(time_s), eased_between(times, places, time_s)))


def _leave_and_return(rng: np.random.Generator) -> Sequence:
    return Sequence(5.0, [_leaving(rng)])


def _one_of_two_leaves(rng: np.random.Generator) -> Sequence:
    stays = Moment(_fingers(rng, "open")[0], _turn(0, 15, 0), np.array([-0.14, 0.1, 0.55]))
    return Sequence(5.0, [_leaving(rng), Role("left", lambda time_s: stays)])


SCRIPTS: dict[str, Callable[[np.random.Generator], Sequence]] = {
    "still": still((0.0, 0.09, 0.5), 5.0),
    "still, near": still((0.0, 0.07, 0.3), 3.0),
    "still, far": still((0.05, 0.09, 1.1), 3.0),
    "slow wave": _wave(0.5),
    "fast wave": _wave(1.5),
    "grasp and turn": _grasp_and_turn,
    "to and fro": _to_and_fro,
    "crossing": _crossing,
    "leave and return": _leave_and_return,
    "one of two leaves": _one_of_two_leaves,
}


# Sequences on film: pictures as a webcam gives them, with the truth beside each.


FPS, WIDTH, HEIGHT = 30, 640, 480

_KEPT = {"what": "pictures of scripted hands, without noise"}


@dataclass(frozen=True, eq=False)
class Footage:
    """One take of a sequence."""

    name: str
    take: int
    camera: Camera
    truth: Truth
    seed: tuple[int, ...]  # of the noise
    pngs: list[np.ndarray]  # encoded pictures without noise

    @property
    def title(self) -> str:
        """Its name, and which take it is but for the first."""
        return f"{self.name} {self.take + 1}" if self.take else self.name

    def frames(self) -> Iterator[Frame]:
        """The pictures with the sensor's noise, the same each time."""
        for k, (time_s, png) in enumerate(zip(self.truth.times_s, self.pngs, strict=True)):
            clean = cv2.imdecode(png, cv2.IMREAD_COLOR_RGB)
            yield Frame(f"{k:06d}", float(time_s), sequences.with_noise(clean, [*self.seed, k]))


def shoot(name: str, take: int, options: TrackingOptions, bar: Progress, limit: int | None = None) -> Footage:
    """Film a take of a sequence, or fetch it from the folder of frames that `options` name.

    limit: of frames; all of them without.
    """
    seed = (options.seed, list(SEQUENCES).index(name), take)
    rng = np.random.default_rng(seed)
    script, camera = sequence(name, rng), Camera.from_fov(WIDTH, HEIGHT)
    room = Room(int(rng.integers(2**31)), WIDTH, HEIGHT, rng.normal(0, 0.8, 10).clip(-2, 2))
    times_s = np.arange(round(script.seconds * FPS) if limit is None else limit) / FPS
    truth = _truth(room, script.roles, times_s, camera)
    pngs = _pictures(room, script.roles, truth, camera, name, options, bar)
    return Footage(name, take, camera, truth, seed, pngs)


def _truth(room: Room, roles: list[Role], times_s: np.ndarray, camera: Camera) -> Truth:
    frames = [room.hands(roles, float(time_s), camera) for time_s in times_s]
    columns = ("joints_m", "joints_px", "inside", "seen")
    values = (np.array([[getattr(hand, column) for hand in hands] for hands in frames]) for column in columns)
    return Truth(times_s, tuple(role.side for role in roles), *values)


def _pictures(
    room: Room, roles: list[Role], truth: Truth, camera: Camera, name: str, options: TrackingOptions, bar: Progress
) -> list[np.ndarray]:
    """Rendered, or read from the cache if these very hands were rendered before."""
    cache = None if options.frames is None else ArrayCache(options.frames, _KEPT)
    key = f"{name.replace(', ', '-').replace(' ', '-')}-{_digest(truth, options)}"
    kept = cache.get(key) if cache else None
    if kept is not None:
        return np.split(kept["pngs"], kept["ends"][:-1])
    task = bar.add_task(f"filming {name}", total=len(truth.times_s))
    pngs = []
    for time_s in truth.times_s:
        picture = room.shoot(roles, float(time_s), camera, options.exposure_ms / 1000)
        pngs.append(cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])[1])
        bar.advance(task)
    bar.remove_task(task)
    if cache:
        cache.put(key, pngs=np.concatenate(pngs), ends=np.cumsum([len(png) for png in pngs]))
    return pngs


def _digest(truth: Truth, options: TrackingOptions) -> str:
    """Tells the pictures apart by all that they depend on: the hands' places and shapes, seed, shutter, version."""
    setting = json.dumps([sequences.VERSION, options.seed, options.exposure_ms])
    return hashlib.sha256(np.float32(truth.joints_m).tobytes() + setting.encode()).hexdigest()[:12]
