"""Objects that hands hold, wear and pass behind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.synthetic import renderer
from handmesh.synthetic.config import Materials
from handmesh.synthetic.hand_mesh import PosedHand, band, sleeve
from handmesh.synthetic.renderer import Material, Surface

_FINGERS = [[skeleton.KEYPOINTS.index(f"{finger}{k}") for k in (1, 2, 3, 4)] for finger in skeleton.FINGERS]
_GRIP = [joint for finger in _FINGERS[1:] for joint in finger]
FINGER_RADIUS_M = 0.009


def coloured(rng: np.random.Generator, pattern: np.ndarray, gloss: float) -> Material:
    """A material of a random colour, on which `pattern` (T, T, 3) uint8 shows more or less."""
    colour = rng.uniform(0.02, 1, 3) ** 1.6 if rng.random() < 0.75 else np.repeat(rng.uniform(0.01, 0.9) ** 1.5, 3)
    strength = rng.choice([0.25, 1.0, 1.8])
    value = np.arange(256)[:, None] / 255
    albedo = colour * (1 - 0.5 * strength) + colour * strength * value
    if rng.random() < 0.25:  # the pattern's own colours
        albedo = np.repeat(value**2.0, 3, axis=1) * rng.uniform(0.5, 0.95)
    return Material(pattern, albedo.clip(0.005, 0.95).astype(np.float32), np.float32([gloss, 5, 0, 0, 0]))


def draw_sleeve(rng: np.random.Generator, hand: PosedHand) -> Surface:
    """A tight or wide, smooth or creased sleeve whose edge lies anywhere from the wrist to mid-forearm."""
    rings, sides = 12, len(hand.section)
    waves = rng.normal(size=(rings + 2, sides))
    along = (waves[:-2] + waves[1:-1] + waves[2:]) / 3
    folds = rng.uniform(0.01, 0.09) * (along + np.roll(along, 1, 1) + np.roll(along, -1, 1)) / 2
    width = 1.05 + 0.35 * rng.random() ** 2
    folds += rng.uniform(-0.03, 0.12) * np.linspace(0, 1, rings)[:, None]
    start = rng.uniform(-0.012, 0.02) if rng.random() < 0.55 else rng.uniform(0.02, 0.13)
    return sleeve(hand, start, width, folds)


def draw_band(rng: np.random.Generator, hand: PosedHand) -> Surface:
    """A bracelet, or a strap as of a watch."""
    return band(hand, rng.uniform(0.008, 0.03), rng.uniform(0.004, 0.028), rng.uniform(1.05, 1.14))


def draw_watch(rng: np.random.Generator, hand: PosedHand) -> Surface:
    """A watch's round or square case on the back or the inside of the wrist, where the arm is flattest."""
    flat = hand.section - (hand.section @ hand.axis)[:, None] * hand.axis
    out = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][1] * rng.choice([-1.0, 1.0])
    thick = float((flat @ out).max())
    width, height = rng.uniform(0.024, 0.042), rng.uniform(0.006, 0.012)
    case = renderer.cylinder(width / 2, height) if rng.random() < 0.6 else renderer.slab(width, 1.15 * width, height)
    position = hand.wrist + hand.axis * rng.uniform(0.018, 0.035) + out * (thick + 0.3 * height)
    return case.moved(_onto(out, rng.uniform(0, 2 * np.pi)), position)


def _bar(rng: np.random.Generator, radius: float, length: float) -> Surface:
    return renderer.cylinder(radius, length)


def _ball(rng: np.random.Generator, radius: float, length: float) -> Surface:
    return renderer.ball(min(1.25 * radius, 0.5 * length))


def _block(rng: np.random.Generator, radius: float, length: float) -> Surface:
    return renderer.slab(radius * rng.uniform(0.5, 1.6), radius * rng.uniform(0.5, 1.6), length)


def _plate(rng: np.random.Generator, radius: float, length: float) -> Surface:
    """A telephone, a card or a book."""
    return renderer.slab(radius * rng.uniform(0.2, 0.6), rng.uniform(0.35, 0.7) * length, length)


def _bottle(rng: np.random.Generator, radius: float, length: float) -> Surface:
    h, neck, r = length / 2, rng.uniform(0.25, 0.5) * radius, radius
    return renderer.lathe(
        [(1e-4, -h), (0.95 * r, -h), (r, -0.9 * h), (r, 0.2 * h), (neck, 0.6 * h), (neck, h), (1e-4, h)]
    )


def _cup(rng: np.random.Generator, radius: float, length: float) -> Surface:
    h, foot = min(length / 2, 2.2 * radius), rng.uniform(0.6, 0.9) * radius
    outside = [(1e-4, -h), (foot, -h), (radius * 1.1, h)]
    return renderer.lathe([*outside, (radius, h), (0.9 * foot, -0.8 * h), (1e-4, -0.8 * h)])


def _spool(rng: np.random.Generator, radius: float, length: float) -> Surface:
    """A dumb-bell, a spool, a door knob: thicker at both ends."""
    h, wide = length / 2, rng.uniform(1.2, 2.0) * radius
    ends = [(1e-4, -h), (wide, -h), (wide, -0.7 * h), (radius, -0.55 * h)]
    return renderer.lathe([*ends, *((r, -z) for r, z in ends[::-1])])


def _egg(rng: np.random.Generator, radius: float, length: float) -> Surface:
    stretch = np.array([1.2 * radius, 1.2 * radius, max(0.4 * length, 1.3 * radius)])
    return renderer.ball(1.0).moved(np.diag(stretch), np.zeros(3))


_Shape = Callable[[np.random.Generator, float, float], Surface]
_TRAIN: tuple[_Shape, ...] = (_bar, _bar, _ball, _block, _plate, _bottle)
_TEST: tuple[_Shape, ...] = (_cup, _spool, _egg)
SHAPES: dict[Materials, tuple[_Shape, ...]] = {"all": (*_TRAIN, *_TEST), "train": _TRAIN, "test": _TEST}
"""Makers of bodies about the z axis from a radius and a length in metres; training and test share none."""


def _draw_shape(rng: np.random.Generator, radius: float, length: float, materials: Materials) -> Surface:
    makers = SHAPES[materials]
    return makers[rng.integers(len(makers))](rng, radius, length)


def draw_held(rng: np.random.Generator, hand: PosedHand, materials: Materials = "all") -> Surface:
    """Something in the grasp: as thick as fits between fingers and palm, a stick where little does."""
    joints = hand.joints.astype(np.float64)
    grip = joints[_GRIP]
    centre = grip.mean(0)
    axis = joints[skeleton.KEYPOINTS.index("little1")] - joints[skeleton.KEYPOINTS.index("index1")]
    axis /= np.linalg.norm(axis)
    from_axis = (grip - centre) - ((grip - centre) @ axis)[:, None] * axis
    room = np.quantile(np.linalg.norm(from_axis, axis=1), 0.1) - FINGER_RADIUS_M
    if room < 0.006:
        return _stick(rng, joints) if rng.random() < 0.5 else _card(rng, joints)
    radius = min(room, 0.04) * rng.uniform(0.8, 1.2)
    shape = _draw_shape(rng, radius, rng.uniform(0.07, 0.24), materials)
    rotation = _onto(axis, rng.uniform(0, 2 * np.pi))
    return shape.moved(rotation, centre + axis * rng.normal(0, 0.02))


def _stick(rng: np.random.Generator, joints: np.ndarray) -> Surface:
    """A pen or a thin bar between the tips of thumb and index finger."""
    tips = joints[[skeleton.KEYPOINT_TIPS[0], skeleton.KEYPOINT_TIPS[1]]]
    knuckle = joints[skeleton.KEYPOINTS.index("index1")]
    along = knuckle - tips.mean(0) + rng.normal(0, 0.02, 3)
    along /= np.linalg.norm(along)
    length = rng.uniform(0.09, 0.16)
    shape = renderer.cylinder(rng.uniform(0.003, 0.006), length)
    return shape.moved(_onto(along, 0.0), tips.mean(0) + along * length * rng.uniform(0.15, 0.4))


def _card(rng: np.random.Generator, joints: np.ndarray) -> Surface:
    """A telephone, a card or a sheet between the tips of thumb and fingers, away from the palm."""
    thumb, index, middle = joints[list(skeleton.KEYPOINT_TIPS[:3])]
    through = (index + middle) / 2 - thumb
    gap = float(np.linalg.norm(through))
    through /= gap
    position = thumb + through * gap / 2
    away = position - joints[skeleton.WRIST]
    away -= (away @ through) * through
    away /= np.linalg.norm(away)
    length = rng.uniform(0.07, 0.16)
    shape = renderer.slab(np.clip(gap - 2 * FINGER_RADIUS_M, 0.002, 0.012), length * rng.uniform(0.45, 0.9), length)
    frame = np.stack([through, np.cross(away, through), away], 1)
    return shape.moved(frame, position + away * length * rng.uniform(0.2, 0.4))


def draw_occluder(rng: np.random.Generator, hand: PosedHand, materials: Materials = "all") -> Surface:
    """A simple body between the camera and some joint of the hand."""
    joints = hand.joints.astype(np.float64)
    extent = np.ptp(joints[:, :2], axis=0).max()
    depth = rng.uniform(0.55, 0.9)
    size = extent * depth * rng.uniform(0.12, 0.38)
    shape = _draw_shape(rng, size * rng.uniform(0.15, 0.5), size * rng.uniform(1, 3.5), materials)
    position = joints[rng.integers(21)] + rng.normal(0, 0.15 * extent, 3)
    return shape.moved(Rotation.random(random_state=rng).as_matrix(), position * depth)


def _onto(axis: np.ndarray, spin: float) -> np.ndarray:
    """(3, 3) rotation that takes the z axis to the unit vector `axis`, spun about it."""
    side = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.6 else [0, 1.0, 0])
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(axis, side), axis], 1)
    return frame @ Rotation.from_euler("z", spin).as_matrix()
