"""Plausible gestures and viewpoints at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.assets import OPEN_HAND, POSE_LIBRARY
from handmesh.hand import anatomy
from handmesh.hand.anatomy import Clearance

# Plausible hand poses at random: of a library that people made, and fists, pointing, pinches, grasps and the rest.
#
# Half of the draws come from the *library*, recorded hands that `scripts/build_pose_library.py` fitted: one of its
# poses, or the fingers of two, with noise. The other *gestures* draw a state for each finger from tables of joint
# angles; coupled joints, a spread that shrinks as the fingers bend and noise are shared by all of them. Both keep the
# joint limits. A thumb that would run through a finger is opened until it does not. Everything random comes from the
# generator given, so that equal generators give equal poses. NumPy and SciPy only.


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
_MIXED = 0.5
"""How often a pose of the library has the fingers of two."""
MIXED_DEPTH_M = 0.004
"""By so much may the fingers of two poses run into one another."""


class PoseSampler:
    """Draws poses for a hand with the given rest joints ((21, 3), keypoint order, canonical frame)."""

    def __init__(self, joints_m: np.ndarray, fractions: Mapping[str, float] | None = None) -> None:
        """shares: how often each gesture is drawn, by its name; `FRACTIONS` without it."""
        fractions = fractions or FRACTIONS
        self._names = tuple(fractions)
        self._cumulative = np.cumsum(list(fractions.values()))
        self._cumulative /= self._cumulative[-1]
        self.joints_m = np.asarray(joints_m, dtype=np.float64)
        self.frames = anatomy.joint_frames(self.joints_m)
        self.clearance = Clearance(self.joints_m)
        self.pinches = anatomy.build(self.joints_m)
        self.library_deg = library_deg()

    def sample(self, rng: np.random.Generator, gesture: str | None = None) -> np.ndarray:
        """(15, 3, 3) rotations relative to the parent joint, in MANO's order; of any gesture without a name."""
        angles = self.angles_deg(rng) if gesture is None else self.gesture_deg(gesture, rng)
        return anatomy.rotations_from_angles(angles, self.frames)

    def angles_deg(self, rng: np.random.Generator) -> np.ndarray:
        """(15, 3) flexion, abduction and twist in degrees, within `anatomy.limits_deg()`."""
        fingers = self._gesture(rng)
        if rng.random() < 0.2:  # on the way from one gesture to another
            fraction = rng.uniform(0.15, 0.85)
            fingers = (1 - fraction) * fingers + fraction * self._gesture(rng)
        return self._by_joint(fingers)

    def gesture_deg(self, name: str, rng: np.random.Generator) -> np.ndarray:
        """(15, 3) angles, as those of `angles_deg`, of a gesture by its name; KeyError lists the names."""
        if name not in _GESTURES:
            raise KeyError(f"unknown gesture {name!r}; known are {', '.join(_GESTURES)}")
        return self._by_joint(self.fingers_deg(name, rng))

    @staticmethod
    def _by_joint(fingers: np.ndarray) -> np.ndarray:
        angles = np.empty((15, 3))
        angles[anatomy.FINGER_JOINTS] = fingers
        return np.clip(angles, *anatomy.limits_deg())

    def _gesture(self, rng: np.random.Generator) -> np.ndarray:
        return self.fingers_deg(self._names[int(np.searchsorted(self._cumulative, rng.random()))], rng)

    def fingers_deg(self, name: str, rng: np.random.Generator) -> np.ndarray:
        """(5, 3, 3) angles by finger, the thumb first."""
        if name == "pinch":
            return self._pinch(rng)
        if name == "almost pinch":
            return self.clearance.lift_thumb(self._almost_pinch(rng))
        if name == "library":
            return self.clearance.lift_thumb(self._recorded(rng))
        return self.clearance.lift_thumb(_GESTURES[name](rng))

    def _recorded(self, rng: np.random.Generator) -> np.ndarray:
        """A pose of the library, or each finger of either of two where these keep clear; the spread is of one."""
        hand, other = self.library_deg[rng.integers(len(self.library_deg), size=2)]
        if rng.random() < _MIXED:
            others, mixed = rng.random(5) < 0.5, hand.copy()
            mixed[others, :, anatomy.FLEXION] = other[others, :, anatomy.FLEXION]
            if others[0]:
                mixed[0] = other[0]
            if self.clearance.fingers_depth(mixed) <= MIXED_DEPTH_M:
                hand = mixed
        noise = rng.normal(0.0, _NOISE_DEG, (5, 3, 3))
        noise[:, 1:, 1:] *= 0.4
        return hand + noise

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

    def _almost_pinch(self, rng: np.random.Generator) -> np.ndarray:
        """A pinch whose thumb and fingers have opened a little: on its way, or just seeming one from a side."""
        hand = self._pinch(rng)
        hand[:, :2, anatomy.FLEXION] -= rng.uniform(4, 30) * rng.uniform(0.3, 1, (5, 1))
        hand[0, 0, anatomy.ABDUCTION] += rng.normal(0, 8)
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


def _crossed(rng: np.random.Generator) -> np.ndarray:
    """Index and middle finger straight and as good as crossed: the tip of either lies before the other's."""
    hand = _hand(rng, ["straight"] * 2 + ["curled"] * 2, _one_of(rng, "across", "palm"))
    hand[[_INDEX, _MIDDLE], 0, 1] = -14, 14
    flexion = rng.uniform(-15, 5)
    hand[[_INDEX, _MIDDLE], 0, 0] = flexion + rng.permutation([0.0, rng.uniform(16, 24)])
    hand[[_INDEX, _MIDDLE], 1, 0] = rng.uniform(-12, 10)
    return hand


def _signs(rng: np.random.Generator) -> np.ndarray:
    """Horns, the telephone, "I love you", the three of sign languages with the thumb on the little finger, an L of the
    thumb and one finger or two."""
    states, thumb = _SIGNS[rng.integers(len(_SIGNS))]
    return _hand(rng, ["straight" if state == "1" else "curled" for state in states], thumb, (-0.4, 1.2))


_SIGNS = (
    *(("1001", "across"), ("1001", "palm"), ("0001", "out"), ("1001", "out"), ("1110", "palm"), ("1000", "out")),
    ("1100", "out"),
)
"""Index to little finger, 1 for a straight one, and the thumb."""


def _single(rng: np.random.Generator) -> np.ndarray:
    """One straight finger, whichever, over a fist; the others may be half open."""
    others = _one_of(rng, "curled", "curled", "curled", "half")
    states = [others] * 4
    states[rng.integers(4)] = "straight"
    return _hand(rng, states, _one_of(rng, "across", "palm", "side", "out"), (-0.4, 0.6))


def _letters(rng: np.random.Generator) -> np.ndarray:
    return _of_table(rng, tuple(LETTERS.values()))


def _grips(rng: np.random.Generator) -> np.ndarray:
    return _of_table(rng, GRIPS[_one_of(rng, *GRIPS)])


def _of_table(rng: np.random.Generator, table: tuple[tuple[str, str, tuple[float, float]], ...]) -> np.ndarray:
    states, thumb, spread = table[rng.integers(len(table))]
    return _hand(rng, [INITIALS[initial] for initial in states], thumb, spread)


INITIALS = {"s": "straight", "r": "relaxed", "c": "curled", "k": "hook", "b": "bent", "h": "half"}
_CLOSED, _LOOSE, _APART = (-1.0, -0.5), (-0.5, 0.3), (0.3, 1.2)

LETTERS: dict[str, tuple[str, str, tuple[float, float]]] = {
    "A": ("cccc", "side", _CLOSED),
    "B": ("ssss", "palm", _CLOSED),
    "C": ("hhhh", "opposed", _CLOSED),
    "D": ("shhh", "opposed", _LOOSE),
    "E": ("kkkk", "across", _CLOSED),
    "F": ("hsss", "opposed", _APART),
    "G": ("sccc", "side", _LOOSE),
    "H": ("sscc", "across", _CLOSED),
    "I": ("cccs", "across", _LOOSE),
    "K": ("sbcc", "relaxed", _LOOSE),
    "L": ("sccc", "out", _LOOSE),
    "M": ("bbbc", "palm", _CLOSED),
    "N": ("bbcc", "palm", _CLOSED),
    "O": ("bbbb", "opposed", _CLOSED),
    "S": ("cccc", "across", _CLOSED),
    "T": ("hccc", "across", _CLOSED),
    "U": ("sscc", "palm", _CLOSED),
    "V": ("sscc", "across", _APART),
    "W": ("sssc", "palm", _APART),
    "X": ("kccc", "across", _LOOSE),
    "Y": ("cccs", "out", _APART),
}
"""The letters of the American finger alphabet that stand still, roughly: four fingers from the index on by the initials
of their states, the thumb, the spread. P and Q are K and G held downwards; R is the gesture `crossed`."""

GRIPS: dict[str, tuple[tuple[str, str, tuple[float, float]], ...]] = {
    "pen": (("hhcc", "opposed", _CLOSED), ("bhhc", "opposed", _CLOSED), ("bhcc", "relaxed", _CLOSED)),
    "cup": (("hhhh", "opposed", _CLOSED), ("hhhh", "out", _CLOSED), ("hhhs", "opposed", _LOOSE)),
    "card": (("hhcc", "side", _CLOSED), ("hhhh", "side", _CLOSED), ("cccc", "side", _CLOSED)),
    "ball": (("hhhh", "opposed", _APART), ("rrrr", "opposed", _APART), ("kkkk", "opposed", _APART)),
    "hook": (("kkkk", "relaxed", _CLOSED), ("kkkk", "side", _CLOSED), ("kkkk", "out", _LOOSE)),
    "scissors": (("hhcc", "opposed", _LOOSE), ("shhc", "opposed", _LOOSE), ("rhhh", "opposed", _LOOSE)),
}
"""Ways to hold things, each as `LETTERS`, with variants: a pen, a cup or bar, a card between thumb and the side of the
index finger, a ball, a handle in the hooked fingers, scissors."""


def _claw(rng: np.random.Generator) -> np.ndarray:
    return _hand(rng, ["hook"] * 4, _one_of(rng, "opposed", "out", "relaxed"), (0, 1))


def _bent(rng: np.random.Generator) -> np.ndarray:
    return _hand(rng, ["bent"] * 4, _one_of(rng, "opposed", "relaxed", "side"))


def _bowl(rng: np.random.Generator) -> np.ndarray:
    """Half of a bowl made of two hands: the fingers together and bent alike, mostly at their first joints."""
    state = _one_of(rng, "bent", "bent", "half", "relaxed", "straight")
    return _hand(rng, [state] * 4, _one_of(rng, "out", "out", "side", "relaxed"), (-1.0, -0.2))


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


_GESTURES: dict[str, Callable[[np.random.Generator], np.ndarray] | None] = {
    "open": _open,
    "relaxed": _relaxed,
    "fist": _fist,
    "thumb up": _thumb_up,
    "point": _point,
    "victory": _victory,
    "count": _count,
    "claw": _claw,
    "bent": _bent,
    "grasp": _grasp,
    "pinch": None,  # by the sampler, which knows where pads meet
    "almost pinch": None,  # likewise
    "anything": _anything,
    "crossed": _crossed,
    "signs": _signs,
    "single": _single,
    "letters": _letters,
    "grips": _grips,
    "bowl": _bowl,
    "library": None,  # by the sampler, which holds it
}
_FRACTIONS = (
    *(0.060, 0.050, 0.030, 0.020, 0.030, 0.020, 0.030, 0.015, 0.015),
    *(0.030, 0.045, 0.000, 0.035, 0.010, 0.015, 0.030, 0.030, 0.035, 0.000, 0.500),
)
FRACTIONS = dict(zip(_GESTURES, _FRACTIONS, strict=True))
"""How often each gesture is drawn."""


@cache
def library_deg() -> np.ndarray:
    """(N, 5, 3, 3) flexion, abduction and twist, degrees, of poses that people made, by `skeleton.FINGERS`."""
    with np.load(POSE_LIBRARY) as library:
        angles = library["angles_deg"].astype(np.float64)
    fingers = np.clip(angles, *anatomy.limits_deg())[:, anatomy.FINGER_JOINTS]
    fingers.flags.writeable = False
    return fingers


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


# How a hand is turned to the camera, at random: palm or back, worn on the head, edge-on, fingers first.
#
# Each function gives the (3, 3) rotation from the open hand's canonical frame (fingers along -x, palm
# facing -y, thumb's side +z) to the camera's (x right, y down, z forward). Equal generators give equal views.


def sample_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) rotation from the canonical frame to the camera's (x right, y down, z forward).

    38 % show the palm, 19 % the back of the hand, each tilted by up to 70 degrees; 10 % are seen as by
    a head-mounted camera; the rest show it from anywhere, edge-on and fingers first included. Most
    stand upright or lie sideways.
    """
    kind = rng.random()
    if kind >= 0.9:
        return head_mounted_view(rng)
    if kind >= 0.57:
        return Rotation.random(None, rng).as_matrix()
    return _facing(rng, kind < 0.38, _roll_deg)


def shown_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) as `sample_view`: a hand shown to the camera, palm or back to it, upright or, three times in ten,
    lying; one in six points at it, one in eight is seen from an edge, as hands that point aside."""
    kind = rng.random()
    if kind < 0.17:
        return fingers_first_view(rng)
    if kind < 0.295:
        return edge_on_view(rng)
    return _facing(rng, rng.random() < 0.6, _shown_roll_deg)


def _facing(rng: np.random.Generator, palm: bool, roll_deg: Callable[[np.random.Generator], float]) -> np.ndarray:
    """The palm or the back to the camera, tilted by up to 70 degrees and turned in the image."""
    about, tilt = rng.uniform(0, 2 * np.pi), min(abs(rng.normal(0, 32)), 70.0)
    tilted = Rotation.from_rotvec([tilt * np.cos(about), tilt * np.sin(about), 0], degrees=True)
    side = Rotation.from_euler("y", 0.0 if palm else 180.0, degrees=True)
    rotated = Rotation.from_euler("z", roll_deg(rng), degrees=True) * tilted * side
    return rotated.as_matrix() @ np.array(skeleton.PALM_TO_CAMERA)


def head_mounted_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) as `sample_view`: one's own hand before one's eyes, its fingers up and away, its back seen more often."""
    side = Rotation.from_euler("y", 0.0 if rng.random() < 0.35 else 180.0, degrees=True)
    about_arm = Rotation.from_euler("y", rng.normal(0, 35), degrees=True)
    tilted = Rotation.from_euler("zx", [rng.normal(20, 25), -rng.uniform(15, 75)], degrees=True)
    return (tilted * about_arm * side).as_matrix() @ np.array(skeleton.PALM_TO_CAMERA)


_THUMB_SIDE_FIRST = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
_FINGERS_FIRST = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
"""(3, 3) from the canonical frame to the camera's: the thumb's side, or the finger tips, to the camera."""


def edge_on_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) as `sample_view`: the thumb's or the little finger's edge to the camera, within 20 degrees."""
    side = Rotation.from_euler("y", 0.0 if rng.random() < 0.5 else 180.0, degrees=True)
    return _near(rng, side, 20.0, _roll_deg(rng)) @ _THUMB_SIDE_FIRST


def fingers_first_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) as `sample_view`: the fingers' direction within 35 degrees of towards the camera."""
    return _near(rng, Rotation.identity(), 35.0, rng.uniform(-180, 180)) @ _FINGERS_FIRST


def offered_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) as `sample_view`: a palm held up or towards its owner, its fingers to the camera: seen from above into the
    palm, or from below onto the back of bent fingers."""
    turned_deg = rng.normal(0, 18), rng.normal(0, 18), rng.uniform(-60, 50)
    return Rotation.from_euler("zyx", turned_deg, degrees=True).as_matrix() @ _FINGERS_FIRST


def _near(rng: np.random.Generator, side: Rotation, most_deg: float, roll_deg: float) -> np.ndarray:
    about, tilt = rng.uniform(0, 2 * np.pi), most_deg * np.sqrt(rng.random())
    tilted = Rotation.from_rotvec([tilt * np.cos(about), tilt * np.sin(about), 0], degrees=True)
    return (Rotation.from_euler("z", roll_deg, degrees=True) * tilted * side).as_matrix()


def _shown_roll_deg(rng: np.random.Generator) -> float:
    return rng.normal(0.0 if rng.random() < 0.7 else rng.choice([-80.0, 80.0]), 32)


def _roll_deg(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.2:
        return rng.uniform(-180, 180)
    upright = 0.0 if kind < 0.7 else rng.choice([-90.0, 90.0])
    return rng.normal(upright, 22)
