"""Random changes to a training crop: where its box lies, and what the image looks like."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from handmesh.types import Box


@dataclass(frozen=True)
class AugmentConfig:
    """How strongly training crops vary."""

    rotation_deg: float = 22.0
    """Standard deviation of the box's rotation away from upright."""
    any_rotation: float = 0.06
    """Fraction of crops turned any which way."""
    scale: tuple[float, float] = (0.85, 1.3)
    shift: float = 0.08
    """Largest displacement of the box as a fraction of its side."""
    colour: bool = True
    wrong_side: float = 0.12
    """Fraction of crops mirrored the wrong way, to learn to tell."""


def jitter_box(box: Box, config: AugmentConfig, rng: np.random.Generator) -> Box:
    """A box moved, turned and scaled at random."""
    spread = math.radians(config.rotation_deg)
    rotation = rng.uniform(-math.pi, math.pi) if rng.random() < config.any_rotation else rng.normal(0, spread)
    shift = rng.uniform(-config.shift, config.shift, 2) * box.size_px
    scale = math.exp(rng.uniform(math.log(config.scale[0]), math.log(config.scale[1])))
    centre = (box.centre_px[0] + shift[0], box.centre_px[1] + shift[1])
    return replace(box, centre_px=centre, size_px=box.size_px * scale, angle_rad=box.angle_rad + rotation)


LUMA = np.array([0.299, 0.587, 0.114])
"""How bright red, green and blue look (ITU-R BT.601)."""

_TONE, _HUE, _GREY, _SWAP, _LIGHT, _NIGHT = 0.8, 0.25, 0.18, 0.16, 0.25, 0.06
_BLUR, _NOISE, _JPEG = 0.15, 0.25, 0.15
"""How often each change is made."""


def vary_colour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A new (H, W, 3) uint8 RGB image, of random tone, blur, noise and compression."""
    varied = cv2.transform(image, _random_tone(np.array(cv2.mean(image)[:3]), rng))
    if rng.random() < _BLUR:
        varied = cv2.GaussianBlur(varied, (5, 5), rng.uniform(0.4, 1.6))
    if rng.random() < _NOISE:
        varied = _add_noise(varied, rng)
    if rng.random() < _JPEG:
        varied = _compress(varied, int(rng.integers(25, 91)))
    return varied


def _random_tone(mean_rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(3, 4) affine map of colours: random brightness, contrast, saturation and hue, then at times coloured
    light, night, and channels in another order (as of a camera whose red and blue are swapped).

    Contrast is stretched about the grey of the image's mean colour. As nothing is clipped in
    between, the changes are one map.
    """
    brightness, contrast, saturation, rotation = 1.0, 1.0, 1.0, 0.0
    if rng.random() < _TONE:
        brightness, contrast, saturation = rng.uniform([0.6, 0.4, 0.5], [1.4, 1.4, 1.5])
    if rng.random() < _HUE:
        rotation = rng.uniform(-0.06, 0.06) * 2 * math.pi
    if rng.random() < _GREY:
        saturation = 0.0
    hue, _ = cv2.Rodrigues(np.full(3, rotation / math.sqrt(3)))  # about the axis of the greys
    linear = saturation * hue + (1 - saturation) * LUMA  # each row: what remains of a colour, and its grey
    offset = (1 - contrast) * LUMA @ mean_rgb
    tone = brightness * np.column_stack([contrast * linear, np.full(3, offset)])
    if rng.random() < _LIGHT:
        tone *= np.exp(rng.normal(0, 0.3, (3, 1)))
    if rng.random() < _NIGHT:
        tone *= rng.uniform(0.12, 0.4)
    if rng.random() < _SWAP:
        tone = tone[rng.permutation(3) if rng.random() < 0.5 else [2, 1, 0]]
    return tone


def _add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of a dark room's sensor, mostly faint."""
    spread = math.exp(rng.uniform(math.log(2), math.log(30)))
    noise = rng.standard_normal(image.shape, np.float32) * spread
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


def cover_patch(image: np.ndarray, rng: np.random.Generator, probability: float = 0.15) -> np.ndarray:
    """(S, S, 3) with, at times, a flat rectangle over a part of it."""
    if rng.random() >= probability:
        return image
    size = image.shape[0]
    x, y = rng.integers(0, size, 2)
    width, height = rng.integers(size // 10, size // 3, 2)
    image[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    return image
