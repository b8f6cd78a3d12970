"""Snow, frost and fog over a picture, with the parameters of ImageNet-C; see `corruptions`."""

from __future__ import annotations

import math

import cv2
import numpy as np

_FROST_TINT = np.float32([0.93, 1.0, 1.06])
_FROST_LEVEL = (0.48, 0.82)
_BRANCH_RAD = math.radians(60)


def snow(
    image: np.ndarray, rng: np.random.Generator, mean: float, deviation: float, zoom: float, threshold: float,
    radius: int, sigma: float, kept: float,
) -> np.ndarray:  # fmt: skip
    """Flakes: enlarged noise above a threshold, blurred along the way they fall, over a whitened picture."""
    flakes = magnified(rng.normal(mean, deviation, image.shape[:2]).astype(np.float32), zoom)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    flakes = cv2.filter2D(
        flakes, -1, motion_kernel(radius, sigma, rng.uniform(-135, -45)), borderType=cv2.BORDER_REPLICATE
    )
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    whitened = kept * image + (1 - kept) * np.maximum(image, 1.5 * grey + 0.5)
    return whitened + (flakes + flakes[::-1, ::-1])[..., None]


def fog(image: np.ndarray, rng: np.random.Generator, strength: float, decay: float) -> np.ndarray:
    """A cloudy height map added, the whole brought back to the picture's own brightest value."""
    height, width = image.shape[:2]
    cloud = plasma(1 << (max(height, width) - 1).bit_length(), decay, rng)[:height, :width, None]
    brightest = image.max()
    return (image + strength * cloud) * brightest / (brightest + strength)


def frost(image: np.ndarray, rng: np.random.Generator, kept: float, share: float) -> np.ndarray:
    """A frosted window added to the dimmed picture.

    ImageNet-C has photographs of frost for it. Here the frost is drawn: feathery crystals on a cloudy ground,
    about as bright and as contrasty as those photographs.
    """
    return kept * image + share * frosted_window(image.shape[0], image.shape[1], rng)


def frosted_window(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32 in 0..1: frost, drawn."""
    size = 1 << (max(height, width) - 1).bit_length()
    ground = plasma(size, 1.7, rng)[:height, :width].astype(np.float32)
    crystals = np.zeros((height, width), np.float32)
    for _ in range(height * width // 250):
        _draw_fern(crystals, rng)
    crystals = cv2.GaussianBlur(crystals, (0, 0), 0.8)
    detail = crystals - crystals.mean() + 0.4 * (ground - ground.mean())
    detail += rng.normal(0, 0.03, (height, width)).astype(np.float32)
    return np.clip((rng.uniform(*_FROST_LEVEL) + 0.55 * detail)[..., None] * _FROST_TINT, 0, 1)


def _draw_fern(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """A stem with branches at 60 degrees to both sides, in place: the way that ice grows on glass."""
    height, width = canvas.shape
    start, angle = rng.uniform((0, 0), (width, height)), rng.uniform(0, 2 * math.pi)
    length, value = rng.uniform(12, 60), float(rng.uniform(-0.5, 1.0))
    direction = np.array([math.cos(angle), math.sin(angle)])
    _draw_stroke(canvas, start, start + length * direction, value)
    for along in np.arange(3, length, 4.0):
        for turn in (-_BRANCH_RAD, _BRANCH_RAD):
            side = np.array([math.cos(angle + turn), math.sin(angle + turn)]) * 0.45 * (length - along)
            _draw_stroke(canvas, start + along * direction, start + along * direction + side, 0.8 * value)


def _draw_stroke(canvas: np.ndarray, begin: np.ndarray, end: np.ndarray, value: float) -> None:
    cv2.line(canvas, tuple(np.rint(begin).astype(int).tolist()), tuple(np.rint(end).astype(int).tolist()), value, 1)


def plasma(size: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """(size, size) clouds in 0..1 by the diamond-square algorithm; size is a power of two.

    Each halving of the grid adds noise that is `decay` squared times weaker. Source: Fournier,
    Fussell and Carpenter, Computer rendering of stochastic models (1982).
    """
    heights, step, reach = np.zeros((size, size)), size, 1e4
    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        right, below = np.roll(corners, -1, axis=1), np.roll(corners, -1, axis=0)
        noise = rng.uniform(-reach, reach, (3, *corners.shape))
        centres = (corners + right + below + np.roll(below, -1, axis=1)) / 4 + noise[0]
        heights[half::step, half::step] = centres
        heights[::step, half::step] = (centres + np.roll(centres, 1, axis=0) + corners + right) / 4 + noise[1]
        heights[half::step, ::step] = (centres + np.roll(centres, 1, axis=1) + corners + below) / 4 + noise[2]
        step, reach = half, reach / decay
    heights -= heights.min()
    return heights / heights.max()


def magnified(image: np.ndarray, zoom: float) -> np.ndarray:
    """The middle of a picture, `zoom` times as large, in the size that it had."""
    height, width = image.shape[:2]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    affine = np.column_stack([zoom * np.eye(2), (1 - zoom) * middle])
    return cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def motion_kernel(radius: int, sigma: float, angle_deg: float) -> np.ndarray:
    """The kernel of a motion blur: half a Gaussian from the middle outwards, 2 `radius` + 1 steps along a direction."""
    reach = 2 * radius + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    steps = np.arange(reach)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    x = np.rint(steps * math.cos(math.radians(angle_deg))).astype(int)
    y = np.rint(steps * math.sin(math.radians(angle_deg))).astype(int)
    np.add.at(kernel, (reach + y, reach + x), weights / weights.sum())
    return kernel
