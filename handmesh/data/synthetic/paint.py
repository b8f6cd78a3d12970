"""A skin painted on the hand's texture coordinates from its own rest shape: mottling, creases, knuckles, nails."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from handmesh import skeleton
from handmesh.data.synthetic.arm import Arm
from handmesh.rasterizer import rasterize

GROUND = 165.0
"""The value of plain skin, the same in each channel: the tone is put on later."""

FINGER_REACH_M = 0.06
"""Farther than this from a finger's middle nothing of it is painted."""


class Texels(NamedTuple):
    """The rest surface under each painted texel."""

    row: np.ndarray  # (N,) int
    column: np.ndarray  # (N,) int
    place: np.ndarray  # (N, 3) metres
    normal: np.ndarray  # (N, 3)

    def where(self, chosen: np.ndarray) -> Texels:
        """The texels at an (N,) bool mask."""
        return Texels(*(field[chosen] for field in self))


def paint_skin(arm: Arm, rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) uint8 texture, grey on the whole, for `arm`'s texture coordinates."""
    texels = _texels(arm, size)
    joints = arm.rest_joints
    shade = np.ones((len(texels.row), 3))
    shade *= _mottling(texels, rng)
    palm = texels.normal[:, 1] < 0
    shade[palm] *= 1 - _palm_lines(texels.where(palm), joints, rng)[:, None] * [0.24, 0.34, 0.34]
    for finger in skeleton.FINGERS:
        chain = np.array([joints[skeleton.KEYPOINTS.index(f"{finger}{k}")] for k in (1, 2, 3, 4)])
        around = np.linalg.norm(texels.place - chain.mean(0), axis=1) < FINGER_REACH_M
        shade[around] = _put_finger(shade[around], texels.where(around), chain, finger, rng)
    shade *= 1 - _wrist_lines(texels, joints, rng)[:, None] * [0.10, 0.16, 0.16]
    image = np.zeros((size, size, 3), np.float32)
    image[texels.row, texels.column] = GROUND * shade
    return _bleed(image, texels).clip(1, 255).astype(np.uint8)


def _texels(arm: Arm, size: int) -> Texels:
    """Rasterise the texture's own layout: which point of the rest surface each texel shows."""
    points = np.column_stack([arm.uv[:, 0] * size - 0.5, (1 - arm.uv[:, 1]) * size - 0.5, np.ones(len(arm.uv))])
    face, barycentric, _ = rasterize(points.astype(np.float32), arm.uv_faces, size, size)
    row, column = np.nonzero(face >= 0)
    corners = arm.faces[face[row, column]]
    v, w = barycentric[row, column].T[..., None].astype(np.float64)
    weights = np.stack([1 - v - w, v, w], 1)
    normal = (weights * arm.rest_normals[corners]).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return Texels(row, column, (weights * arm.rest[corners]).sum(1), normal)


def _bleed(image: np.ndarray, texels: Texels) -> np.ndarray:
    """Spread the painted texels outward a little, so that interpolation across a seam finds skin."""
    painted = np.zeros(image.shape[:2], np.uint8)
    painted[texels.row, texels.column] = 1
    image[painted == 0] = GROUND
    mean = cv2.boxFilter(image * painted[..., None], -1, (9, 9), normalize=False)
    count = cv2.boxFilter(painted.astype(np.float32), -1, (9, 9), normalize=False)[..., None]
    outside = (painted == 0) & (count[..., 0] > 0)
    image[outside] = (mean / np.maximum(count, 1))[outside]
    return image


def _noise(place: np.ndarray, wavelength_m: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) smooth noise of about unit variance in space: a sum of plane waves in random directions."""
    waves = 14
    direction = rng.normal(size=(3, waves))
    direction *= 2 * np.pi / wavelength_m * rng.uniform(0.6, 1.5, waves) / np.linalg.norm(direction, axis=0)
    return np.cos(place @ direction + rng.uniform(0, 2 * np.pi, waves)).sum(1) / np.sqrt(waves / 2)


def _mottling(texels: Texels, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) blotches: pale and red at the scale of a fingertip, fine grain, and freckles on the back."""
    blotch = 0.018 * _noise(texels.place, 0.022, rng) + 0.012 * _noise(texels.place, 0.007, rng)
    grain = 0.02 * _noise(texels.place, 0.0022, rng)
    red = blotch[:, None] * np.array([0.0, 1.0, 0.9]) + grain[:, None]
    sun = _smooth(texels.normal[:, 1], -0.2, 0.6)
    spots = rng.uniform(0, 0.16) * _smooth(_noise(texels.place, 0.004, rng), 1.5, 2.4) * sun
    veins = rng.uniform(0, 0.09) * np.exp(-np.square(_noise(texels.place * [0.35, 1, 1], 0.018, rng) / 0.16)) * sun
    veins = veins * _smooth(texels.place[:, 0], -0.005, 0.02)
    return (1 - red) * (1 - spots[:, None] * [0.7, 1, 1]) * (1 - veins[:, None] * [1.0, 0.55, 0.45])


def _put_finger(
    shade: np.ndarray, texels: Texels, chain: np.ndarray, finger: str, rng: np.random.Generator
) -> np.ndarray:
    """Paint what a finger has over (N, 3) `shade`: creases, redder knuckles and tip, a nail.

    chain: (4, 3) the finger's keypoints.
    """
    back = _back_direction(finger)
    for k in (1, 2):
        frame = _bone_frame(chain[k - 1], chain[k + 1], back)
        shade = shade * _joint_creases(texels, chain[k], frame, rng)
    tip = np.exp(-np.square(np.linalg.norm(texels.place - chain[3], axis=1) / 0.010))
    shade = shade * (1 - tip[:, None] * rng.uniform(0.0, 0.22) * np.array([0.0, 1.0, 0.8]))
    return _put_nail(shade, texels, chain, _bone_frame(chain[2], chain[3], back), rng)


def _back_direction(finger: str) -> np.ndarray:
    """The way a finger's nail faces in the rest pose; the thumb's is turned towards its own side."""
    if finger != "thumb":
        return np.array([-0.15, 1.0, 0.0])
    return np.array([-0.75, 0.35, 0.75])


def _bone_frame(start: np.ndarray, end: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(3, 3) rows along the bone, across it and out of the finger's back."""
    along = (end - start) / np.linalg.norm(end - start)
    out = back - along * (along @ back)
    out /= np.linalg.norm(out)
    return np.stack([along, np.cross(along, out), out])


def _joint_creases(texels: Texels, joint: np.ndarray, frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) fine wrinkles over the back of a joint, two or three lines under it, and a redder knuckle."""
    along, across, _ = ((texels.place - joint) @ frame.T).T
    near = np.exp(-np.square(np.linalg.norm(texels.place - joint, axis=1) / 0.013))
    back = _smooth(texels.normal @ frame[2], 0.1, 0.7)
    front = _smooth(-(texels.normal @ frame[2]), -0.1, 0.5)
    bow = along + 18 * across * across * np.sign(along) + 0.0004 * _noise(texels.place, 0.006, rng)
    wrinkle = np.clip(np.cos(bow * 2 * np.pi / rng.uniform(0.0017, 0.0026)), 0, 1) ** 2
    wrinkles = wrinkle * np.exp(-np.square(along / 0.0055)) * back * near
    places = rng.normal(0, 0.0022, rng.integers(1, 3))
    lines = sum(np.exp(-np.square((along - place) / 0.0007)) for place in places) * front * (near > 0.2)
    dark = 0.20 * wrinkles + 0.26 * np.minimum(lines, 1)
    red = near * back * rng.uniform(0.02, 0.2)
    return (1 - dark[:, None] * [0.7, 1, 1]) * (1 - red[:, None] * [0.05, 1.0, 0.9])


def _put_nail(
    shade: np.ndarray, texels: Texels, chain: np.ndarray, frame: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Paint a nail over `shade`: a smooth pale pink plate with a dark rim and a whiter free edge."""
    length = np.linalg.norm(chain[3] - chain[2])
    along, across, out = ((texels.place - chain[2]) @ frame.T).T
    half_long, half_wide = 0.25 * length, 0.22 * length
    x, y = (along - 0.74 * length) / half_long, across / half_wide
    radius = (np.abs(x) ** 2.6 + np.abs(y) ** 2.6) ** (1 / 2.6)
    visible = (texels.normal @ frame[2] > 0.25) & (out > 0)
    plate = _smooth(1.06 - radius, 0, 0.12) * visible
    rim = np.exp(-np.square((radius - 1.05) / 0.09)) * visible
    edge = _smooth(x, 0.72, 0.92)[:, None]
    colour = rng.uniform(1.02, 1.16) * np.array([1.05, 0.95, 0.97])
    colour = colour * (1 - edge) + edge * rng.uniform(1.05, 1.35) * np.array([1.0, 1.02, 1.02])
    shade = shade * (1 - rim[:, None] * [0.16, 0.24, 0.22])
    return shade * (1 - plate[:, None]) + plate[:, None] * colour


def _palm_lines(texels: Texels, joints: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) darkness of the three great lines of the palm, drawn between knuckles and wrist."""
    wrist, thumb, index, middle, little = (
        joints[skeleton.KEYPOINTS.index(name)][[0, 2]] for name in ("wrist", "thumb1", "index1", "middle1", "little1")
    )
    side = (index - little) / np.linalg.norm(index - little)
    up = (middle - wrist) / np.linalg.norm(middle - wrist)
    edge = little - 0.012 * side
    curves = [
        (index + 0.010 * side - 0.012 * up, (thumb + middle) / 2 - 0.012 * side, wrist + 0.010 * up + 0.004 * side),
        (index + 0.008 * side - 0.014 * up, (wrist + middle) / 2 + 0.010 * up, edge - 0.035 * up),
        (index - 0.008 * side - 0.004 * up, middle - 0.024 * up, edge - 0.014 * up),
    ]
    flat = texels.place[:, [0, 2]] + 0.0012 * np.stack([_noise(texels.place, 0.02, rng) for _ in range(2)], -1)
    palm = _smooth(-texels.normal[:, 1], 0.2, 0.6)
    lines = [np.exp(-np.square(_distance(flat, curve) / rng.uniform(0.0008, 0.0014))) for curve in curves]
    return np.max(lines, axis=0) * palm * (1 + 0.3 * _noise(texels.place, 0.01, rng)).clip(0, 1.3)


def _distance(points: np.ndarray, control: tuple[np.ndarray, ...]) -> np.ndarray:
    """(N,) distance from (N, 2) points to the quadratic Bezier curve with three control points."""
    t = np.linspace(0, 1, 40)[:, None]
    curve = (1 - t) ** 2 * control[0] + 2 * t * (1 - t) * control[1] + t * t * control[2]
    return np.sqrt(np.min([np.square(points - point).sum(1) for point in curve], axis=0))


def _wrist_lines(texels: Texels, joints: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) darkness of two lines across the inside of the wrist."""
    along = texels.place[:, 0] - joints[skeleton.WRIST, 0] + 0.0008 * _noise(texels.place, 0.02, rng)
    inside = _smooth(-texels.normal[:, 1], 0.0, 0.5)
    places = (-0.001, rng.uniform(0.005, 0.009))
    return sum(np.exp(-np.square((along - place) / 0.0009)) for place in places) * inside


def _smooth(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    share = np.clip((x - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)
