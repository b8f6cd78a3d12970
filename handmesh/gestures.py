"""What a hand does, read off its 21 joints: pinches of each finger, point, thumb up, fist, open hand. NumPy only.

Where the network tells which fingers the thumb touches, that speaks for a pinch or against it beside the distance.
Lengths are fractions of the hand's own length, so that a child's pinch and one seen at a wrong scale are pinches, too.
Everything has hysteresis: what has begun ends only well beyond where it began, so that nothing flickers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np

from handmesh import skeleton
from handmesh.geometry import logit
from handmesh.skeleton import Joint
from handmesh.types import hand_length_m

Gesture = Literal["", "pinch", "open", "point", "fist", "thumb up"]
GESTURES: tuple[Gesture, ...] = get_args(Gesture)
Finger = Literal["index", "middle", "ring", "little"]
FINGERS: tuple[Finger, ...] = get_args(Finger)

PINCH_BEGINS, PINCH_ENDS = 0.09, 0.12
"""Of the hand's length, between the last phalanges: skins are some 3 mm apart where a pinch begins and 9 where it ends
(medians of 1,600 sampled poses, by the mesh)."""
CONTACT_EVEN, CONTACT_LENGTH, CONTACT_HELD = -0.2, 0.2, 1.0
"""Where the network tells contact: the logit that leaves the distance as it is, what each unit above it is worth of the
hand's length, and what it may lack once a pinch is there. The first two, to a decimal, are those of a bound on
`logit - distance / length` that reads 2.5 % of 400 other poses of `evaluation.gestures.TUNED_SEED` as pinches, by the
box given and the tracker together, with `balanced`; lengths of 0.1 to 0.4 find as many of 120 pinches."""
PINCH_FAR = 0.32  # its strength begins to rise: six centimetres on a grown-up's hand

STRAIGHT_DEG, FOLDED_DEG = 65.0, 90.0  # a finger's bend, all its joints together
FIST_DEG = 155.0  # a fist's least: true ones have 170 and more, tracked ones less (docs/embedding.md)
PINCH_MOST_DEG = 170.0  # a finger that is bent farther lies in the palm: the thumb rests on it, and pinches nothing
GRAB_DEG = (60.0, 210.0)  # the fingers' mean bend of an open hand and of a fist
UP_DEG = 60.0  # the last phalanx of the thumb, from upwards in the image
THUMB_AWAY = 0.30  # the thumb's tip from the middle finger's second joint, of the hand's length
HELD_DEG, HELD_AWAY = 15.0, 0.04  # what a gesture may lack once it is there

_THUMB = [Joint.THUMB_IP, Joint.THUMB_TIP]
_CHAINS = np.array([[0, *(skeleton.KEYPOINTS.index(f"{finger}{k}") for k in (1, 2, 3, 4))] for finger in FINGERS])


class SeenHand(Protocol):
    """What is needed of a `Hand`."""

    @property
    def id(self) -> int:
        """Of one hand while it is followed."""

    @property
    def joints_m(self) -> np.ndarray:
        """(21, 3) in keypoint order, the camera's frame, up to one scale."""

    # And, where it has one, `contact`: (4,) 0..1, that the thumb touches each of FINGERS; None where that is not told.


class Reading(NamedTuple):
    """What one hand does in one frame."""

    gesture: Gesture  # 'pinch' where a finger pinches, unless the hand points; '' for none that is known
    pinches: tuple[Finger, ...]  # the fingers that meet the thumb
    pinch_distances: np.ndarray  # (4,) between the last phalanges of the thumb and FINGERS, of the hand's length
    pinch_strength: float  # the index finger's, 0 from PINCH_FAR, 1 where a pinch begins; contact brings it nearer
    grab_strength: float  # 0 for straight fingers, 1 for a fist


class GestureReader:
    """Reads the hands of one video, frame by frame; remembers what each was doing."""

    def __init__(self, pinch_begins: float = PINCH_BEGINS, pinch_ends: float = PINCH_ENDS) -> None:
        """Both of the hand's length. Raises ValueError where a pinch would end before it begins."""
        if not 0 < pinch_begins <= pinch_ends:
            raise ValueError(f"a pinch begins nearer than it ends; got {pinch_begins} and {pinch_ends}")
        self._begins, self._ends = pinch_begins, pinch_ends
        self._before: dict[int, tuple[str, tuple[Finger, ...]]] = {}  # by the hand's id: its form and its pinches

    def read(self, hands: Sequence[SeenHand]) -> list[Reading]:
        """The gestures of a frame's hands, in their order; hands that are not among them are forgotten."""
        readings, now = [], {}
        for hand in hands:
            reading, now[hand.id] = self._read(hand, *self._before.get(hand.id, ("", ())))
            readings.append(reading)
        self._before = now
        return readings

    def _read(
        self, hand: SeenHand, form: str, pinches: tuple[Finger, ...]
    ) -> tuple[Reading, tuple[str, tuple[Finger, ...]]]:
        joints = np.asarray(hand.joints_m, np.float64) / hand_length_m(hand.joints_m)
        bends, distances = finger_bends_deg(joints), pinch_distances(joints)
        held = np.isin(FINGERS, pinches)
        contact = getattr(hand, "contact", None)
        seeming = distances if contact is None else distances - _contact_lengths(contact, held)
        touching = seeming < np.where(held, self._ends, self._begins)
        if contact is None:  # a network that tells contact knows a thumb on a fist, and how bent a pinch is less well
            touching &= bends < PINCH_MOST_DEG
        pinches = tuple(finger for finger, touches in zip(FINGERS, touching, strict=True) if touches)
        form = _form(joints, bends, form)
        reading = Reading(
            form if form == "point" or not pinches else "pinch",  # the thumb may rest on a folded finger
            pinches,
            distances,
            float(np.clip((PINCH_FAR - seeming[0]) / (PINCH_FAR - self._begins), 0, 1)),
            float(np.clip((bends.mean() - GRAB_DEG[0]) / (GRAB_DEG[1] - GRAB_DEG[0]), 0, 1)),
        )
        return reading, (form, pinches)


def _contact_lengths(contact: np.ndarray, held: np.ndarray) -> np.ndarray:
    """(4,) how much nearer the thumb seems to each finger by what the network tells of contact."""
    return CONTACT_LENGTH * (logit(np.float64(contact)) - CONTACT_EVEN + CONTACT_HELD * held)


def finger_bends_deg(joints_m: np.ndarray) -> np.ndarray:
    """(4,) the angles from each bone to the next, summed from the wrist to the tip; (21, 3) joints at any scale."""
    bones = np.diff(joints_m[_CHAINS], axis=1)
    bones /= np.linalg.norm(bones, axis=2, keepdims=True)
    cosines = (bones[:, 1:] * bones[:, :-1]).sum(2)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1))).sum(1)


def pinch_distances(joints_m: np.ndarray) -> np.ndarray:
    """(4,) between the last phalanges of the thumb and of each finger, as lines; the unit is that of `joints_m`.

    Tips alone tell less: people pinch with pads and with the fingers' sides. Of 1,600 sampled poses, the best bound on
    it tells touching skins (mesh within 3 mm) from others (over 12 mm) in 99.8 %; on the tips' distance in 96.4 %.
    """
    gaps = nearest_weights(joints_m) @ joints_m
    return np.sqrt((gaps * gaps).sum(1))


def nearest_weights(joints_m: np.ndarray) -> np.ndarray:
    """(4, 21) for each finger, what takes joints to the gap between the last phalanges: thumb's nearest point less its.

    The unit of the (21, 3) joints does not matter.
    """
    thumb, fingers = joints_m[_THUMB], joints_m[_CHAINS[:, 3:]]
    s, t = _nearest(thumb[0], thumb[1] - thumb[0], fingers[:, 0], fingers[:, 1] - fingers[:, 0])
    weights = np.zeros((len(FINGERS), len(joints_m)))
    weights[:, _THUMB] = np.stack([1 - s, s], axis=1)
    np.put_along_axis(weights, _CHAINS[:, 3:], np.stack([t - 1, -t], axis=1), axis=1)
    return weights


def contacts(joints_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(4,) 1 where the thumb touches a finger, else 0, and (4,) 1 where that is clear; of true (21, 3) joints.

    It is unclear between where a pinch begins and where it ends.
    """
    joints = np.asarray(joints_m, np.float64) / hand_length_m(joints_m)
    distances = pinch_distances(joints)
    meets = finger_bends_deg(joints) < PINCH_MOST_DEG
    unclear = meets & (distances >= PINCH_BEGINS) & (distances < PINCH_ENDS)
    return (meets & (distances < PINCH_BEGINS)).astype(np.float32), (~unclear).astype(np.float32)


def _nearest(p: np.ndarray, u: np.ndarray, q: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) s and t: p + s u and q + t v are nearest, of the lines p + [0, 1] u, (3,), and q + [0, 1] v, (N, 3) each.

    Ericson, Real-Time Collision Detection (2005), 5.1.9.
    """
    r = p - q
    a, e, b = u @ u, (v * v).sum(1), v @ u
    c, f = r @ u, (v * r).sum(1)
    s = np.clip((b * f - c * e) / np.maximum(a * e - b * b, 1e-12), 0, 1)
    t = np.clip((b * s + f) / e, 0, 1)
    s = np.clip((b * t - c) / a, 0, 1)
    return s, t


def _form(joints: np.ndarray, bends_deg: np.ndarray, before: str) -> Gesture:
    """The form of the whole hand; each has a margin, 1 being what it may lack once it is there."""
    curled = (bends_deg.min() - FIST_DEG) / HELD_DEG
    up = _thumb_up(joints)
    margins: dict[Gesture, float] = {
        "open": (STRAIGHT_DEG - bends_deg.max()) / HELD_DEG,
        "point": min(STRAIGHT_DEG - bends_deg[0], bends_deg[1:].min() - FOLDED_DEG) / HELD_DEG,
        "fist": min(curled, -up),
        "thumb up": min(curled, up),
    }
    surest = max(margins, key=margins.__getitem__)
    still = next((form for form in margins if form == before and margins[form] > -1), None)
    return still or (surest if margins[surest] > 0 else "")


def _thumb_up(joints: np.ndarray) -> float:
    """The margin by which the thumb stands away from the fingers, and upwards in the image."""
    away = np.linalg.norm(joints[Joint.THUMB_TIP] - joints[Joint.MIDDLE_PIP])
    thumb = joints[Joint.THUMB_TIP] - joints[Joint.THUMB_IP]
    from_up_deg = np.degrees(np.arccos(np.clip(-thumb[1] / np.linalg.norm(thumb), -1, 1)))
    return float(min((UP_DEG - from_up_deg) / HELD_DEG, (away - THUMB_AWAY) / HELD_AWAY))
