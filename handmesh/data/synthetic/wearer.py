"""Whose hand it is: a clothed body and a face behind the hand, in the colours of its sleeve and skin.

A photograph of a hand mostly shows its owner: the sleeve's cloth goes on behind the hand, and a face
has the hand's own tone. Both are plain bodies; the hand's light falls on them and its shadow, too.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.data.synthetic import mesh
from handmesh.data.synthetic.arm import PosedHand
from handmesh.data.synthetic.mesh import Surface
from handmesh.data.synthetic.paint import GROUND
from handmesh.data.synthetic.skin import Skin, SkinLook

_UPRIGHT = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""(3, 3) from a turned body's axes to the camera's: its axis up, the middle of its texture to the camera."""

FACE_SIZE = 64


def draw_torso(rng: np.random.Generator, hand: PosedHand) -> Surface:
    """Chest and belly behind the hand, as far off as an arm bends, mostly reaching past the picture."""
    size = np.array([rng.uniform(0.13, 0.22), rng.uniform(0.3, 0.5), rng.uniform(0.09, 0.14)])
    aside = np.array([rng.normal(0.05, 0.13), rng.normal(0.12, 0.15), 0.0])
    return _behind(rng, hand, size, aside, gap_m=rng.uniform(0.01, 0.3))


def draw_head(rng: np.random.Generator, hand: PosedHand) -> Surface:
    """A head behind the hand; every third time the hand is on the face."""
    size = np.array([rng.uniform(0.068, 0.082), rng.uniform(0.1, 0.125), rng.uniform(0.085, 0.1)])
    on_face = rng.random() < 0.35
    aside = np.array([*rng.normal(0, 0.05 if on_face else 0.11, 2), 0.0])
    return _behind(rng, hand, size, aside, gap_m=0.0 if on_face else rng.uniform(0.02, 0.3))


def _behind(
    rng: np.random.Generator, hand: PosedHand, half_size: np.ndarray, aside: np.ndarray, gap_m: float
) -> Surface:
    """An ellipsoid, (3,) `half_size` in the camera's axes; its front lies `gap_m` behind the hand's farthest point."""
    turn = Rotation.from_euler("yxz", rng.normal(0, (25, 12, 12)), degrees=True).as_matrix()
    place = hand.joints.mean(0) + aside
    place[2] = hand.vertices[:, 2].max() + gap_m + half_size[2]
    return mesh.ball(1.0, sides=32).moved(turn @ np.diag(half_size) @ _UPRIGHT, place)


def face_look(rng: np.random.Generator, look: SkinLook) -> SkinLook:
    """The look of the face that goes with a hand's: the same tone, a painted face."""
    return look._replace(skin=Skin((_paint_face(rng),), np.full(3, GROUND)))


def _paint_face(rng: np.random.Generator) -> np.ndarray:
    """(FACE_SIZE, FACE_SIZE, 3) uint8, all round the head: eyes, brows, a mouth, hair behind and above."""
    n = FACE_SIZE
    image = np.full((n, n, 3), GROUND, np.float32)
    middle, high, dark = n / 2, 0.47 * n, rng.uniform(15, 70)
    for side in (-1, 1):
        eye = (middle + side * 0.075 * n, high)
        _spot(image, eye, (0.035 * n, 0.016 * n), (60.0, 55.0, 55.0))
        _spot(image, (eye[0], eye[1] - 0.06 * n), (0.05 * n, 0.012 * n), (dark, dark, dark))
    _spot(image, (middle, high + 0.13 * n), (0.025 * n, 0.03 * n), (150.0, 135.0, 135.0))
    _spot(image, (middle, high + 0.22 * n), (0.06 * n, 0.016 * n), (140.0, 80.0, 85.0))
    hair = np.full(3, dark) + rng.uniform(0, 30, 3)
    if rng.random() < 0.85:
        image[: int(rng.uniform(0.2, 0.36) * n)] = hair
        edge = int(rng.uniform(0.2, 0.3) * n)
        image[: int(rng.uniform(0.5, 0.9) * n), :edge] = image[: int(rng.uniform(0.5, 0.9) * n), n - edge :] = hair
    if rng.random() < 0.25:  # a beard
        image[int(0.73 * n) :] = 0.5 * image[int(0.73 * n) :] + 0.5 * hair
    return cv2.GaussianBlur(image, (0, 0), 0.8).clip(1, 255).astype(np.uint8)


def _spot(image: np.ndarray, centre: tuple[float, float], axes: tuple[float, float], colour: tuple) -> None:
    cv2.ellipse(image, (centre, (2 * axes[0], 2 * axes[1]), 0.0), colour, -1, cv2.LINE_AA)
