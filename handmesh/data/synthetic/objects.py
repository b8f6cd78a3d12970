"""Things that hands hold, wear and pass behind."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.data.synthetic import mesh
from handmesh.data.synthetic.arm import PosedHand, band, sleeve
from handmesh.data.synthetic.mesh import Surface
from handmesh.data.synthetic.skin import Material

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


def draw_held(rng: np.random.Generator, hand: PosedHand) -> Surface:
    """Something in the grasp: as thick as fits between fingers and palm, a stick where little does."""
    joints = hand.joints.astype(np.float64)
    grip = joints[_GRIP]
    centre = grip.mean(0)
    axis = joints[skeleton.KEYPOINTS.index("little1")] - joints[skeleton.KEYPOINTS.index("index1")]
    axis /= np.linalg.norm(axis)
    from_axis = (grip - centre) - ((grip - centre) @ axis)[:, None] * axis
    room = np.linalg.norm(from_axis, axis=1).min() - FINGER_RADIUS_M
    if room < 0.006:
        return _stick(rng, joints)
    radius = min(room, 0.04) * rng.uniform(0.8, 1.2)
    kind = rng.random()
    if kind < 0.55:
        shape = mesh.cylinder(radius, rng.uniform(0.07, 0.24))
    elif kind < 0.75:
        shape = mesh.ball(min(radius * 1.25, 0.045))
    else:
        shape = mesh.slab(radius * rng.uniform(0.5, 1.6), radius * rng.uniform(0.5, 1.6), rng.uniform(0.06, 0.2))
    turn = _onto(axis, rng.uniform(0, 2 * np.pi))
    return shape.moved(turn, centre + axis * rng.normal(0, 0.02))


def _stick(rng: np.random.Generator, joints: np.ndarray) -> Surface:
    """A pen or a thin bar between the tips of thumb and index finger."""
    tips = joints[[skeleton.KEYPOINT_TIPS[0], skeleton.KEYPOINT_TIPS[1]]]
    knuckle = joints[skeleton.KEYPOINTS.index("index1")]
    along = knuckle - tips.mean(0) + rng.normal(0, 0.02, 3)
    along /= np.linalg.norm(along)
    length = rng.uniform(0.09, 0.16)
    shape = mesh.cylinder(rng.uniform(0.003, 0.006), length)
    return shape.moved(_onto(along, 0.0), tips.mean(0) + along * length * rng.uniform(0.15, 0.4))


def draw_occluder(rng: np.random.Generator, hand: PosedHand) -> Surface:
    """A simple body between the camera and some joint of the hand."""
    joints = hand.joints.astype(np.float64)
    extent = np.ptp(joints[:, :2], axis=0).max()
    depth = rng.uniform(0.55, 0.9)
    size = extent * depth * rng.uniform(0.12, 0.38)
    kind = rng.random()
    if kind < 0.4:
        shape = mesh.slab(size, size * rng.uniform(0.5, 2.5), size * rng.uniform(0.1, 0.8))
    elif kind < 0.75:
        shape = mesh.cylinder(size * rng.uniform(0.15, 0.5), size * rng.uniform(1.5, 4))
    else:
        shape = mesh.ball(size * 0.5)
    place = joints[rng.integers(21)] + rng.normal(0, 0.15 * extent, 3)
    return shape.moved(Rotation.random(random_state=rng).as_matrix(), place * depth)


def _onto(axis: np.ndarray, spin: float) -> np.ndarray:
    """(3, 3) rotation that takes the z axis to the unit vector `axis`, spun about it."""
    side = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.6 else [0, 1.0, 0])
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(axis, side), axis], 1)
    return frame @ Rotation.from_euler("z", spin).as_matrix()
