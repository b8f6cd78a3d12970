"""Skins: painted ones made here from the hand's own shape, or textures from a folder; tones for both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from handmesh.data.synthetic.arm import Arm
from handmesh.data.synthetic.materials import Materials, files_of, painted_numbers
from handmesh.data.synthetic.paint import paint_skin

TEXTURE_SIZE = 1024


class Material(NamedTuple):
    """How a surface answers light."""

    texture: np.ndarray  # (T, T, 3) uint8
    albedo: np.ndarray  # (256, 3) float32, reflectance of each texture value
    finish: np.ndarray  # (5,) float32: gloss, squarings of the highlight, wrap red, green, blue


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
    files = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if not files:
        raise FileNotFoundError(
            f"no .png or .jpg skin texture in {folder}: give a folder of textures for the hand's UVs"
        )
    return [_skin(_read_square(file), arm) for file in files_of(files, materials)]


def _read_square(file: Path) -> np.ndarray:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"{file} is not a readable picture")
    return cv2.resize(image, (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_AREA)


_LIGHTEST, _DARKEST = np.log([0.74, 0.50, 0.40]), np.log([0.050, 0.024, 0.016])


def tone(depth: float) -> np.ndarray:
    """(3,) reflectance of skin from very light at depth 0 to very dark at 1.

    Melanin dims exponentially, most in blue; medium skins are the most saturated.
    """
    saturation = np.array([0.15, -0.22, -0.50]) * 4 * depth * (1 - depth)
    return np.exp((1 - depth) * _LIGHTEST + depth * _DARKEST + saturation)


class SkinLook(NamedTuple):
    """One person's skin."""

    skin: Skin
    depth: float  # of the tone, 0..1
    hue: np.ndarray  # (3,) factor on the reflectance
    contrast: float  # exponent on the texture's relative values
    palm: float  # 0..1, how far palms go to their own, lighter tone
    gloss: float
    blush: np.ndarray  # (21,) redness at each keypoint


def draw_skin(rng: np.random.Generator, skins: Sequence[Skin]) -> SkinLook:
    """A skin of any tone, light ones a little more often: half of all depths lie below 0.4."""
    depth = float(rng.random() ** 1.3)
    hue = np.clip(rng.normal(1, 0.04, 3), 0.88, 1.12) * np.exp(rng.normal(0, 0.08))
    paler = (tone(depth).mean() / tone(depth)) ** rng.uniform(-0.1, 0.2)  # pinkish and greyish people, too
    return SkinLook(
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


def skin_material(look: SkinLook, pixels_per_metre: float) -> Material:
    """The material of a skin, its texture the coarsest that has a texel a pixel."""
    relative = np.arange(256)[:, None] / look.skin.mean
    albedo = tone(look.depth) * look.hue * np.minimum(relative, 1.9) ** look.contrast
    wrap = np.array([0.22, 0.10, 0.07]) * (1 - 0.5 * look.depth)
    fine = [level for level in look.skin.levels if len(level) * TEXELS_PER_METRE >= pixels_per_metre]
    return Material(
        fine[-1] if fine else look.skin.levels[0],
        np.minimum(albedo, 0.95).astype(np.float32),
        np.array([look.gloss, SKIN_SQUARINGS, *wrap], np.float32),
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


def skin_tint(look: SkinLook, regions: SkinRegions) -> np.ndarray:
    """(V', 3) float32 factors on the reflectance: lighter palms, redder or paler joints."""
    own = tone(look.depth)
    lighter = tone(0.55 * look.depth) / own
    palm = 1 + regions.palm * look.palm * (lighter - 1)
    blush = 1 + (regions.near @ look.blush)[:, None] * np.array([0.6, -0.8, -0.7])
    return (palm * np.maximum(blush, 0.5)).astype(np.float32)
