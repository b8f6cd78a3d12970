"""Plausible hand poses and views at random: fists, pointing, pinches, grasps, counting and the rest.

A *gesture* draws a state for each finger from tables of joint angles; coupled joints, a spread that
shrinks as the fingers bend, noise and the joint limits are shared by all of them. A thumb that would
run through a finger is opened until it does not. Everything random comes from the generator given,
so that equal generators give equal poses. NumPy and SciPy only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.assets import OPEN_HAND
from handmesh.data import anatomy, pinch
from handmesh.data.clearance import Clearance

_INDEX, _MIDDLE = (skeleton.FINGERS.index(name) for name in ("index", "middle"))

FINGER_STATES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "straight": ((-25, 8), (-14, 3)),
    "relaxed": ((-8, 30), (0, 40)),
    "curled": ((58, 76), (82, 95)),
    "hook": ((-25, 15), (45, 95)),
    "bent": ((35, 75), (-10, 20)),
    "half": ((10, 50), (25, 70)),
}
"""Degrees of flexion, from the rest pose, of a finger's first and second joint. The third follows
the second."""

THUMB_STATES: dict[str, tuple[tuple[float, float], ...]] = {
    "out": ((-28, -5), (-30, 8), (-8, 10), (-20, 8), (-22, 12)),
    "relaxed": ((-10, 15), (-18, 10), (-5, 15), (-10, 20), (-5, 30)),
    "side": ((0, 25), (-45, -25), (-10, 10), (-5, 25), (0, 35)),
    "across": ((18, 42), (-32, 5), (5, 35), (15, 55), (10, 60)),
    "palm": ((22, 42), (-48, -15), (0, 25), (25, 55), (5, 60)),
    "opposed": ((0, 30), (0, 30), (10, 35), (0, 30), (0, 35)),
}
"""Degrees, from the rest pose, of the thumb: flexion, abduction and twist of its first joint, then
flexion of its second and third."""

_FOLLOW = 0.6  # of the second joint's flexion appears at the third: they share a tendon
_SPREAD_DEG = np.array([0.0, 12.0, 0.0, -8.0, -16.0])
_NOISE_DEG = np.array([3.0, 2.0, 1.5])


class PoseSampler:
    """Draws poses for a hand with the given rest joints ((21, 3), keypoint order, canonical frame)."""

    def __init__(self, joints_m: np.ndarray) -> None:
        self.joints_m = np.asarray(joints_m, dtype=np.float64)
        self.frames = anatomy.joint_frames(self.joints_m)
        self.clearance = Clearance(self.joints_m)
        self.pinches = pinch.build(self.joints_m)

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """(15, 3, 3) rotations relative to the parent joint, in MANO's order."""
        return anatomy.rotations_from_angles(self.angles_deg(rng), self.frames)

    def angles_deg(self, rng: np.random.Generator) -> np.ndarray:
        """(15, 3) flexion, abduction and twist in degrees, within `anatomy.limits_deg()`."""
        fingers = self._gesture(rng)
        if rng.random() < 0.2:  # on the way from one gesture to another
            share = rng.uniform(0.15, 0.85)
            fingers = (1 - share) * fingers + share * self._gesture(rng)
        return self._by_joint(fingers)

    def gesture_deg(self, name: str, rng: np.random.Generator) -> np.ndarray:
        """(15, 3) angles, as those of `angles_deg`, of a gesture by its name; KeyError lists the names."""
        if name not in _GESTURES:
            raise KeyError(f"unknown gesture {name!r}; known are {', '.join(_GESTURES)}")
        return self._by_joint(self._fingers(name, rng))

    @staticmethod
    def _by_joint(fingers: np.ndarray) -> np.ndarray:
        angles = np.empty((15, 3))
        angles[anatomy.FINGER_JOINTS] = fingers
        return np.clip(angles, *anatomy.limits_deg())

    def _gesture(self, rng: np.random.Generator) -> np.ndarray:
        return self._fingers(_NAMES[int(np.searchsorted(_CUMULATIVE, rng.random()))], rng)

    def _fingers(self, name: str, rng: np.random.Generator) -> np.ndarray:
        """(5, 3, 3) angles by finger, the thumb first."""
        if name == "pinch":
            return self._pinch(rng)
        return self.clearance.lift_thumb(_GESTURES[name][1](rng))

    def _pinch(self, rng: np.random.Generator) -> np.ndarray:
        """The thumb meets a finger; the others are all straight (OK), relaxed, half bent or curled."""
        finger = int(rng.choice(4, p=[0.55, 0.2, 0.13, 0.12])) + 1
        hand = _hand(rng, [_one_of(rng, "straight", "straight", "relaxed", "half", "curled")] * 4, "opposed")
        table = self.pinches[finger - 1]
        thumb, other = table[rng.integers(len(table))]
        hand[0], hand[finger] = thumb, other
        if finger == _INDEX and rng.random() < 0.3:  # the middle finger helps
            hand[_MIDDLE, :, 0] = other[:, 0] + rng.normal(0, 4)
        return hand


def _one_of(rng: np.random.Generator, *choices: str) -> str:
    return choices[rng.integers(len(choices))]


def _hand(
    rng: np.random.Generator, states: list[str], thumb: str, spread: tuple[float, float] = (-0.8, 1.0)
) -> np.ndarray:
    """(5, 3, 3) angles: four fingers from `FINGER_STATES`, index first, and a thumb."""
    hand = rng.normal(0.0, _NOISE_DEG, (5, 3, 3))
    ranges = np.array([FINGER_STATES[state] for state in states])
    flexion = rng.uniform(0, 1, (4, 2)) * 0.5 + rng.uniform(0, 1, 2) * 0.5  # fingers bend together
    flexion = ranges[..., 0] + flexion * (ranges[..., 1] - ranges[..., 0])
    hand[1:, :2, 0] += flexion
    hand[1:, 2, 0] += _FOLLOW * flexion[:, 1]
    hand[1:, 0, 1] += rng.uniform(*spread) * _SPREAD_DEG[1:]
    hand[1:, 0, 1] *= np.clip(np.cos(np.radians(flexion[:, 0] + 15)), 0.15, 1)
    hand[1:, 1:, 1:] *= 0.4
    low, high = np.array(THUMB_STATES[thumb]).T
    drawn = rng.uniform(low, high)
    hand[0, 0] = drawn[:3]
    hand[0, 1:, 0] += drawn[3:]
    return hand


def _open(rng: np.random.Generator) -> np.ndarray:
    return _hand(rng, ["straight"] * 4, _one_of(rng, "out", "out", "side", "relaxed"), (-0.9, 1.2))


def _relaxed(rng: np.random.Generator) -> np.ndarray:
    """Each finger a little more bent than the one before it, as in a hand at rest."""
    hand = _hand(rng, ["relaxed"] * 4, "relaxed", (-0.8, 0.4))
    hand[1:, :2, 0] += rng.uniform(0, 8) * np.arange(4)[:, None]
    return hand


def _fist(rng: np.random.Generator) -> np.ndarray:
    return _hand(rng, ["curled"] * 4, _one_of(rng, "across", "across", "side", "palm"))


def _thumb_up(rng: np.random.Generator) -> np.ndarray:
    return _hand(rng, ["curled"] * 4, "out")


def _point(rng: np.random.Generator) -> np.ndarray:
    others = _one_of(rng, "curled", "curled", "half")
    return _hand(rng, ["straight"] + [others] * 3, _one_of(rng, "across", "side", "out", "relaxed"))


def _victory(rng: np.random.Generator) -> np.ndarray:
    return _hand(rng, ["straight"] * 2 + ["curled"] * 2, _one_of(rng, "across", "palm"), (-0.5, 1.3))


def _count(rng: np.random.Generator) -> np.ndarray:
    """Any subset of the fingers is straight, the others are curled."""
    states = [_one_of(rng, "straight", "curled") for _ in range(4)]
    return _hand(rng, states, _one_of(rng, "out", "across", "palm", "side"))


def _claw(rng: np.random.Generator) -> np.ndarray:
    return _hand(rng, ["hook"] * 4, _one_of(rng, "opposed", "out", "relaxed"), (0, 1))


def _bent(rng: np.random.Generator) -> np.ndarray:
    return _hand(rng, ["bent"] * 4, _one_of(rng, "opposed", "relaxed", "side"))


def _grasp(rng: np.random.Generator) -> np.ndarray:
    """Around a bar (fingers together) or a ball (fingers apart)."""
    return _hand(rng, ["half"] * 4, "opposed", (-0.8, -0.2) if rng.random() < 0.6 else (0.2, 1.1))


def _anything(rng: np.random.Generator) -> np.ndarray:
    """Each finger in a state of its own, more often than not its neighbour's."""
    names = list(FINGER_STATES)
    states = [_one_of(rng, *names)]
    while len(states) < 4:
        states.append(states[-1] if rng.random() < 0.6 else _one_of(rng, *names))
    return _hand(rng, states, _one_of(rng, *THUMB_STATES), (-0.9, 1.2))


_GESTURES: dict[str, tuple[float, Callable[[np.random.Generator], np.ndarray] | None]] = {
    "open": (0.17, _open),
    "relaxed": (0.13, _relaxed),
    "fist": (0.09, _fist),
    "thumb up": (0.04, _thumb_up),
    "point": (0.08, _point),
    "victory": (0.05, _victory),
    "count": (0.09, _count),
    "claw": (0.04, _claw),
    "bent": (0.04, _bent),
    "grasp": (0.08, _grasp),
    "pinch": (0.10, None),
    "anything": (0.09, _anything),
}
_NAMES = tuple(_GESTURES)
_CUMULATIVE = np.cumsum([weight for weight, _ in _GESTURES.values()])
_CUMULATIVE /= _CUMULATIVE[-1]


@cache
def default_sampler() -> PoseSampler:
    """The sampler for the bundled open hand."""
    with np.load(OPEN_HAND) as hand:
        vertices = hand["v_template"].astype(np.float64)
        tips = [skeleton.OPEN_HAND_TIP_VERTICES[name] for name in skeleton.TIPS]
        joints = np.concatenate([hand["J_regressor"] @ vertices, vertices[tips]])
    return PoseSampler(joints[list(skeleton.MANO_TO_KEYPOINTS)])


def sample_pose(rng: np.random.Generator, sampler: PoseSampler | None = None) -> np.ndarray:
    """(15, 3, 3) rotations relative to the parent, MANO order; by default for the open hand."""
    return (sampler or default_sampler()).sample(rng)


def sample_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) rotation from the canonical frame to the camera's (x right, y down, z forward).

    40 % show the palm, 25 % the back of the hand, each tilted by up to 70 degrees; the rest show
    it from anywhere, edge-on and fingers first included. Most stand upright or lie sideways.
    """
    kind = rng.random()
    if kind >= 0.65:
        return Rotation.random(None, rng).as_matrix()
    about, tilt = rng.uniform(0, 2 * np.pi), min(abs(rng.normal(0, 32)), 70.0)
    tilted = Rotation.from_rotvec([tilt * np.cos(about), tilt * np.sin(about), 0], degrees=True)
    side = Rotation.from_euler("y", 0.0 if kind < 0.4 else 180.0, degrees=True)
    turned = Rotation.from_euler("z", _roll_deg(rng), degrees=True) * tilted * side
    return turned.as_matrix() @ np.array(skeleton.PALM_TO_CAMERA)


def _roll_deg(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.2:
        return rng.uniform(-180, 180)
    upright = 0.0 if kind < 0.7 else rng.choice([-90.0, 90.0])
    return rng.normal(upright, 22)
