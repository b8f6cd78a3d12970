"""Where hands stand before the camera: aimed at, cut by the border, beside or touching one another."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from handmesh.data.synthetic.arm import Arm, PosedHand
from handmesh.data.synthetic.stage import Actor
from handmesh.structs import Camera

TOUCH_M = 0.004
"""Hands whose sampled vertices come this near touch: about half the distance of neighbouring ones."""

_VERTICES_STEP = 3  # every third vertex is enough to find where hands meet
_FARTHEST_M = 0.35


def aim(
    rng: np.random.Generator, arm: Arm, actor: Actor, hand: PosedHand, size: int, cover: tuple[float, float],
    cut_off: bool = False,
) -> tuple[Actor, PosedHand, Camera]:  # fmt: skip
    """Place the hand before a camera that looks straight at it, and bend its wrist.

    The longer side of the joints' box takes a share in `cover` of the (size, size) picture. With
    `cut_off` the picture is taken farther to one side, so that its border runs through the hand.
    """
    distance = float(np.exp(rng.uniform(np.log(0.25), np.log(1.2))))
    joints = hand.joints.astype(np.float64)
    shift = np.array([0, 0, distance]) - joints.mean(0)
    for _ in range(2):
        low, high = _image_box(joints + shift)
        shift[:2] -= (low + high) / 2 * distance
    low, high = _image_box(joints + shift)
    focal = size * rng.uniform(*cover) / (high - low).max()
    centre = (size - 1) / 2 - focal * (low + high) / 2 + rng.normal(0, 0.02 * size, 2)
    if cut_off:
        centre += _over_the_border(rng, size, focal * (high - low))
    camera = Camera(focal, focal, *(float(c) for c in centre), size, size)
    actor = _bend(rng, actor._replace(translation=shift), hand)
    return actor, _moved(arm, actor, hand), camera


def _over_the_border(rng: np.random.Generator, size: int, extent_px: np.ndarray) -> np.ndarray:
    """(2,) pixels that take 15 to 42 % of a centred box of (2,) `extent_px` out of the picture; some at a corner."""
    share = rng.uniform(0.15, 0.42)
    shift = rng.choice([-1.0, 1.0], 2) * (size / 2 + (share - 0.5) * extent_px)
    if rng.random() < 0.85:
        shift[rng.integers(2)] = 0
    return shift


def _moved(arm: Arm, actor: Actor, hand: PosedHand) -> PosedHand:
    """The hand, posed before without a translation, where `actor` now says."""
    shift, turn = actor.translation.astype(np.float32), actor.rotations[0]
    return arm.pose(hand.vertices + shift, hand.joints + shift, turn @ actor.bend @ turn.T)


def _bend(rng: np.random.Generator, actor: Actor, hand: PosedHand) -> Actor:
    """Bend the wrist so that the forearm does not pass between the camera and the hand, if that can be."""
    turn, joints = actor.rotations[0], hand.joints + actor.translation
    for attempt in range(8):
        bend = _wrist_bend(rng, 1 + 0.15 * attempt)
        axis = turn @ bend @ turn.T @ hand.axis
        if not _hides(joints, hand.wrist + actor.translation, axis):
            break
    return actor._replace(bend=bend)


def beside(
    rng: np.random.Generator, arm: Arm, first: PosedHand, actor: Actor, hand: PosedHand, touching: bool = False
) -> tuple[Actor, PosedHand]:
    """Another hand near the first, before or behind it; with `touching`, on it."""
    flip = np.array([-1.0, 1, 1]) if actor.side == "left" else np.ones(3)
    for _ in range(4 if touching else 8):
        actor = actor._replace(bend=_wrist_bend(rng))
        place = _touching_place(rng, first, hand, flip) if touching else _near_place(rng, first)
        actor = actor._replace(translation=flip * place - hand.joints.mean(0))
        moved = _moved(arm, actor, hand)
        if not _hides(first.joints, flip * moved.wrist, flip * moved.axis, reach_m=(-0.1, 0.4)):
            break
    return actor, moved


def _near_place(rng: np.random.Generator, first: PosedHand) -> np.ndarray:
    away = rng.normal(size=2)
    away *= rng.uniform(0.09, 0.2) / np.linalg.norm(away)
    return first.joints.mean(0).astype(np.float64) * rng.uniform(0.85, 1.3) + [*away, 0]


def _touching_place(rng: np.random.Generator, first: PosedHand, hand: PosedHand, flip: np.ndarray) -> np.ndarray:
    """(3,) where the other's middle comes to lie when it is brought up to the first from a random direction.

    It comes nearer by the distance that remains, so that it cannot pass into the first.
    """
    direction = rng.normal(size=3) * [1, 1, 0.8]
    direction /= np.linalg.norm(direction)
    centre = first.joints.mean(0).astype(np.float64)
    tree = cKDTree(first.vertices[::_VERTICES_STEP])
    other = flip * (hand.vertices[::_VERTICES_STEP] - hand.joints.mean(0)) + centre
    away = _FARTHEST_M
    while away > 0.01:
        gap = float(tree.query(other + away * direction, distance_upper_bound=2 * _FARTHEST_M)[0].min())
        if gap < TOUCH_M:
            break
        away -= max(gap - 0.5 * TOUCH_M, 0.001)
    return centre + away * direction


def _wrist_bend(rng: np.random.Generator, freedom: float = 1.0) -> np.ndarray:
    """(3, 3) flexion, deviation and twist of the forearm at the wrist."""
    angles = rng.normal(0, (20, 9, 10)) * freedom
    return Rotation.from_euler("zyx", angles.clip(-60, 60), degrees=True).as_matrix()


def _image_box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The (2,) least and greatest x / z and y / z."""
    image = points[:, :2] / points[:, 2:]
    return image.min(0), image.max(0)


def _hides(
    joints: np.ndarray, wrist: np.ndarray, axis: np.ndarray, reach_m: tuple[float, float] = (0.06, 0.45)
) -> bool:
    """Whether a forearm along `axis` comes before the joints' middle or runs into the camera."""
    points = wrist + np.linspace(*reach_m, 12)[:, None] * axis
    points = points[points[:, 2] < joints[:, 2].mean() - 0.02]
    if not len(points):
        return False
    low, high = _image_box(joints)
    margin = 0.1 * (high - low)
    image = points[:, :2] / points[:, 2:].clip(0.05)
    return bool(((image > low + margin) & (image < high - margin)).all(1).any() or (points[:, 2] < 0.06).any())
