"""Skins: painted from the hand's own shape or read from a folder of textures; tones and regions for both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from handmesh import skeleton
from handmesh.files import read_image, visible
from handmesh.render.rasterizer import rasterize
from handmesh.synthetic.config import Materials, files_of, painted_numbers
from handmesh.synthetic.hand_mesh import Arm
from handmesh.synthetic.renderer import Material

# A skin painted on the hand's texture coordinates from its own rest shape: mottling, creases, knuckles, nails.


GROUND = 165.0
"""The value of plain skin, the same in each channel: the tone is put on later."""

FINGER_REACH_M = 0.06
"""Farther than this from a finger's middle nothing of it is painted."""


class Texels(NamedTuple):
    """The rest surface under each painted texel."""

    row: np.ndarray  # (N,) int
    column: np.ndarray  # (N,) int
    position: np.ndarray  # (N, 3) metres
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
        around = np.linalg.norm(texels.position - chain.mean(0), axis=1) < FINGER_REACH_M
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


def _noise(position: np.ndarray, wavelength_m: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) smooth noise of about unit variance in space: a sum of plane waves in random directions."""
    waves = 14
    direction = rng.normal(size=(3, waves))
    direction *= 2 * np.pi / wavelength_m * rng.uniform(0.6, 1.5, waves) / np.linalg.norm(direction, axis=0)
    return np.cos(position @ direction + rng.uniform(0, 2 * np.pi, waves)).sum(1) / np.sqrt(waves / 2)


def _mottling(texels: Texels, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) blotches: pale and red at the scale of a fingertip, fine grain, and freckles on the back."""
    blotch = 0.018 * _noise(texels.position, 0.022, rng) + 0.012 * _noise(texels.position, 0.007, rng)
    grain = 0.02 * _noise(texels.position, 0.0022, rng)
    red = blotch[:, None] * np.array([0.0, 1.0, 0.9]) + grain[:, None]
    sun = _smooth(texels.normal[:, 1], -0.2, 0.6)
    spots = rng.uniform(0, 0.16) * _smooth(_noise(texels.position, 0.004, rng), 1.5, 2.4) * sun
    veins = rng.uniform(0, 0.09) * np.exp(-np.square(_noise(texels.position * [0.35, 1, 1], 0.018, rng) / 0.16)) * sun
    veins = veins * _smooth(texels.position[:, 0], -0.005, 0.02)
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
    tip = np.exp(-np.square(np.linalg.norm(texels.position - chain[3], axis=1) / 0.010))
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
    along, across, _ = ((texels.position - joint) @ frame.T).T
    near = np.exp(-np.square(np.linalg.norm(texels.position - joint, axis=1) / 0.013))
    back = _smooth(texels.normal @ frame[2], 0.1, 0.7)
    front = _smooth(-(texels.normal @ frame[2]), -0.1, 0.5)
    bow = along + 18 * across * across * np.sign(along) + 0.0004 * _noise(texels.position, 0.006, rng)
    wrinkle = np.clip(np.cos(bow * 2 * np.pi / rng.uniform(0.0017, 0.0026)), 0, 1) ** 2
    wrinkles = wrinkle * np.exp(-np.square(along / 0.0055)) * back * near
    positions = rng.normal(0, 0.0022, rng.integers(1, 3))
    lines = sum(np.exp(-np.square((along - position) / 0.0007)) for position in positions) * front * (near > 0.2)
    dark = 0.20 * wrinkles + 0.26 * np.minimum(lines, 1)
    red = near * back * rng.uniform(0.02, 0.2)
    return (1 - dark[:, None] * [0.7, 1, 1]) * (1 - red[:, None] * [0.05, 1.0, 0.9])


def _put_nail(
    shade: np.ndarray, texels: Texels, chain: np.ndarray, frame: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Paint a nail over `shade`: a smooth pale pink plate with a dark rim and a whiter free edge."""
    length = np.linalg.norm(chain[3] - chain[2])
    along, across, out = ((texels.position - chain[2]) @ frame.T).T
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
    flat = texels.position[:, [0, 2]] + 0.0012 * np.stack([_noise(texels.position, 0.02, rng) for _ in range(2)], -1)
    palm = _smooth(-texels.normal[:, 1], 0.2, 0.6)
    lines = [np.exp(-np.square(_distance(flat, curve) / rng.uniform(0.0008, 0.0014))) for curve in curves]
    return np.max(lines, axis=0) * palm * (1 + 0.3 * _noise(texels.position, 0.01, rng)).clip(0, 1.3)


def _distance(points: np.ndarray, control: tuple[np.ndarray, ...]) -> np.ndarray:
    """(N,) distance from (N, 2) points to the quadratic Bezier curve with three control points."""
    t = np.linspace(0, 1, 40)[:, None]
    curve = (1 - t) ** 2 * control[0] + 2 * t * (1 - t) * control[1] + t * t * control[2]
    return np.sqrt(np.min([np.square(points - point).sum(1) for point in curve], axis=0))


def _wrist_lines(texels: Texels, joints: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) darkness of two lines across the inside of the wrist."""
    along = texels.position[:, 0] - joints[skeleton.WRIST, 0] + 0.0008 * _noise(texels.position, 0.02, rng)
    inside = _smooth(-texels.normal[:, 1], 0.0, 0.5)
    positions = (-0.001, rng.uniform(0.005, 0.009))
    return sum(np.exp(-np.square((along - position) / 0.0009)) for position in positions) * inside


def _smooth(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    fraction = np.clip((x - low) / (high - low), 0, 1)
    return fraction * fraction * (3 - 2 * fraction)


# Skins: painted ones made here from the hand's own shape, or textures from a folder; tones for both.


TEXTURE_SIZE = 1024


class Skin(NamedTuple):
    """A skin's texture at falling sizes and the mean of what it shows of the hand."""

    levels: tuple[np.ndarray, ...]  # (T, T, 3), (T/2, T/2, 3) ... uint8
    mean: np.ndarray  # (3,) texture values


def _skin(texture: np.ndarray, arm: Arm) -> Skin:
    levels = [np.ascontiguousarray(texture)]
    while len(levels) < 3:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    uv = arm.uv[np.unique(arm.uv_faces[: arm.hand_faces])]
    row = np.clip((1 - uv[:, 1]) * len(texture), 0, len(texture) - 1).astype(int)
    column = np.clip(uv[:, 0] * len(texture), 0, len(texture) - 1).astype(int)
    return Skin(tuple(levels), np.maximum(texture[row, column].mean(0), 1.0))


def painted_skins(arm: Arm, count: int, size: int, materials: Materials = "all") -> list[Skin]:
    """`count` skins painted for this hand on `size` x `size` texels, always the same ones."""
    numbers = painted_numbers(materials, count)
    return [_skin(paint_skin(arm, np.random.default_rng(k), size), arm) for k in numbers]


def load_skins(folder: Path | str, arm: Arm, materials: Materials = "all") -> list[Skin]:
    """The .png and .jpg in a folder that belong to `materials`, as skins; it may be none.

    Raises FileNotFoundError where the folder holds no texture at all.
    """
    files = visible(path for path in Path(folder).glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if not files:
        raise FileNotFoundError(
            f"no .png or .jpg skin texture in {folder}: give a folder of textures for the hand's UVs"
        )
    return [_skin(_read_square(file), arm) for file in files_of(files, materials)]


def _read_square(file: Path) -> np.ndarray:
    return cv2.resize(read_image(file), (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_AREA)


_LIGHTEST, _DARKEST = np.log([0.74, 0.50, 0.40]), np.log([0.050, 0.024, 0.016])


def tone(depth: float) -> np.ndarray:
    """(3,) reflectance of skin from very light at depth 0 to very dark at 1.

    Melanin dims exponentially, most in blue; medium skins are the most saturated.
    """
    saturation = np.array([0.15, -0.22, -0.50]) * 4 * depth * (1 - depth)
    return np.exp((1 - depth) * _LIGHTEST + depth * _DARKEST + saturation)


class SkinAppearance(NamedTuple):
    """One person's skin."""

    skin: Skin
    depth: float  # of the tone, 0..1
    hue: np.ndarray  # (3,) factor on the reflectance
    contrast: float  # exponent on the texture's relative values
    palm: float  # 0..1, how far palms go to their own, lighter tone
    gloss: float
    blush: np.ndarray  # (21,) redness at each keypoint


def draw_skin(rng: np.random.Generator, skins: Sequence[Skin]) -> SkinAppearance:
    """A skin of any tone, light ones a little more often: half of all depths lie below 0.4."""
    depth = float(rng.random() ** 1.3)
    hue = np.clip(rng.normal(1, 0.04, 3), 0.88, 1.12) * np.exp(rng.normal(0, 0.08))
    paler = (tone(depth).mean() / tone(depth)) ** rng.uniform(-0.1, 0.2)  # pinkish and greyish people, too
    return SkinAppearance(
        skins[rng.integers(len(skins))],
        depth=depth,
        hue=hue * paler,
        contrast=float(rng.uniform(0.9, 2.0)),
        palm=float(rng.uniform(0.35, 0.95)),
        gloss=float(rng.uniform(0, 0.16)),
        blush=(rng.uniform(-0.03, 0.1) + rng.normal(0, 0.06, 21)).clip(-0.08, 0.25),
    )


SKIN_SQUARINGS = 4

TEXELS_PER_METRE = 1.7
"""Roughly, on the hand, of a texture one texel wide."""


def skin_material(appearance: SkinAppearance, pixels_per_metre: float) -> Material:
    """The material of a skin, its texture the coarsest that has a texel a pixel."""
    relative = np.arange(256)[:, None] / appearance.skin.mean
    albedo = tone(appearance.depth) * appearance.hue * np.minimum(relative, 1.9) ** appearance.contrast
    wrap = np.array([0.22, 0.10, 0.07]) * (1 - 0.5 * appearance.depth)
    fine = [level for level in appearance.skin.levels if len(level) * TEXELS_PER_METRE >= pixels_per_metre]
    return Material(
        fine[-1] if fine else appearance.skin.levels[0],
        np.minimum(albedo, 0.95).astype(np.float32),
        np.array([appearance.gloss, SKIN_SQUARINGS, *wrap], np.float32),
    )


class SkinRegions(NamedTuple):
    """Where palms and knuckles lie on an arm's rest mesh."""

    palm: np.ndarray  # (V', 1) float32, 1 on the palm's side
    near: np.ndarray  # (V', 21) float32, closeness to each keypoint

    @staticmethod
    def of(arm: Arm) -> SkinRegions:
        """The regions of `arm`."""
        facing = np.clip((-arm.rest_normals[:, 1] + 0.15) / 0.6, 0, 1)
        wrist = arm.rest_joints[0, 0]
        on_hand = np.clip((wrist + 0.005 - arm.rest[:, 0]) / 0.02, 0, 1)
        distance = np.linalg.norm(arm.rest[:, None] - arm.rest_joints, axis=2)
        near = np.exp(-np.square(distance / 0.011))
        return SkinRegions((facing * on_hand)[:, None].astype(np.float32), near.astype(np.float32))


def skin_tint(appearance: SkinAppearance, regions: SkinRegions) -> np.ndarray:
    """(V', 3) float32 factors on the reflectance: lighter palms, redder or paler joints."""
    own = tone(appearance.depth)
    lighter = tone(0.55 * appearance.depth) / own
    palm = 1 + regions.palm * appearance.palm * (lighter - 1)
    blush = 1 + (regions.near @ appearance.blush)[:, None] * np.array([0.6, -0.8, -0.7])
    return (palm * np.maximum(blush, 0.5)).astype(np.float32)
