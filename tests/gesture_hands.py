"""Hands that do something: open, closed, pinching with any finger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.geometry import mirror_points_m, mirror_rotations, project
from handmesh.gestures import GestureReader, Reading
from handmesh.hand import anatomy
from handmesh.hand.lbs import SkinnedHand
from handmesh.hand.poses import default_sampler
from handmesh.types import Camera, Hand, Side

CAMERA = Camera.from_fov(640, 480)
THUMB = [skeleton.KEYPOINTS.index(name) for name in ("thumb3", "thumb4")]


def reading_of(hand: Hand) -> Reading:
    """Of a hand that was not seen before."""
    return GestureReader().read([hand])[0]


def hand_doing(gesture: str, rng: np.random.Generator, side: Side = "right", thumb_to: tuple = (0, 0, 1)) -> Hand:
    """A hand in a pose of that gesture, turned so that the last phalanx of the thumb points to `thumb_to`."""
    model = SkinnedHand.open_hand()
    shape = rng.normal(0, 0.7, 10)
    pose = np.concatenate([np.eye(3)[None], default_sampler().sample(rng, gesture)])
    vertices, joints = model.posed(pose, model.rest(shape))
    if side == "left":
        vertices, joints, pose = mirror_points_m(vertices), mirror_points_m(joints), mirror_rotations(pose)
    rotation = Rotation.align_vectors([thumb_to], [joints[THUMB[1]] - joints[THUMB[0]]])[0].as_matrix()
    pose = np.concatenate([rotation @ pose[:1], pose[1:]])
    vertices, joints = vertices @ rotation.T + (0, 0, 0.5), joints @ rotation.T + (0, 0, 0.5)
    return Hand(vertices, joints, project(joints, CAMERA), side, 1.0, pose, shape, model.faces)


def pinching(finger: int, row: int, side: Side = "right") -> Hand:
    """The thumb on one finger (0 the index), the others straight."""
    sampler, model = default_sampler(), SkinnedHand.open_hand()
    angles = sampler.gesture_deg("open", np.random.default_rng(0))
    table = sampler.pinches[finger]
    angles[anatomy.FINGER_JOINTS[[0, finger + 1]]] = table[row % len(table)]
    pose = np.concatenate([np.eye(3)[None], anatomy.rotations_from_angles(angles, sampler.frames)])
    vertices, joints = model.posed(pose, model.rest(np.zeros(10)))
    if side == "left":
        vertices, joints, pose = mirror_points_m(vertices), mirror_points_m(joints), mirror_rotations(pose)
    vertices, joints = vertices + (0, 0, 0.5), joints + (0, 0, 0.5)
    return Hand(vertices, joints, project(joints, CAMERA), side, 1.0, pose, np.zeros(10), model.faces)


def apart(hand: Hand) -> Iterator[Hand]:
    """The hand with its thumb ever farther from its index finger."""
    away = hand.joints_m[THUMB[1]] - hand.joints_m[skeleton.KEYPOINTS.index("index4")]
    for step_m in np.arange(0, 0.05, 0.0005):
        joints = hand.joints_m.copy()
        joints[THUMB] += step_m * away / np.linalg.norm(away)
        yield replace(hand, joints_m=joints)
