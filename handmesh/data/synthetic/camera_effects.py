"""What a camera does to a scene: shadow and movement, response, optics, few pixels, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np


def composite(rgba: np.ndarray, background: np.ndarray, rng: np.random.Generator, motion: float = 0.18) -> np.ndarray:
    """(S, S, 3) uint8: the scene over a background, with probability `motion` blurred as it moves."""
    rgba = rgba.astype(np.float32)
    alpha = rgba[..., 3:] * np.float32(1 / 255)
    premultiplied = np.concatenate([rgba[..., :3] * alpha, alpha], -1)
    if rng.random() < motion:
        premultiplied = cv2.filter2D(premultiplied, -1, _streak(rng, len(rgba)))
    elif rng.random() < 0.5:
        premultiplied = cv2.GaussianBlur(premultiplied, (3, 3), rng.uniform(0.3, 0.7))
    behind = 1 - premultiplied[..., 3:]
    if rng.random() < 0.45:
        behind = behind * _shadow(premultiplied[..., 3], rng)
    image = premultiplied[..., :3] + background * behind
    return image.clip(0, 255).astype(np.uint8)


def _shadow(alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(S, S, 1) float32 share of the light that is left on what lies behind the scene."""
    size = max(len(alpha) // 4, 8)  # a shadow is soft: a quarter of the pixels is enough
    small = cv2.resize(alpha, (size, size), interpolation=cv2.INTER_AREA)
    away = rng.normal(0, 0.08, 2) * size
    small = cv2.warpAffine(small, np.float32([[1, 0, away[0]], [0, 1, away[1]]]), (size, size))
    small = cv2.GaussianBlur(small, (0, 0), size * rng.uniform(0.008, 0.06))
    dark = cv2.resize(small, alpha.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return (1 - np.float32(rng.uniform(0.15, 0.75)) * dark)[..., None]


def _streak(rng: np.random.Generator, size: int) -> np.ndarray:
    """A blur kernel along a line of a random direction."""
    length = max(3.0, size * rng.uniform(0.015, 0.07))
    radius = int(np.ceil(length / 2))
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    angle = rng.uniform(0, np.pi)
    offset = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    start, end = (tuple(int(c) for c in np.round(16 * (radius + sign * offset))) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_AA, 4)
    return kernel / kernel.sum()


def photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(S, S, 3) uint8: `image` as an ordinary camera delivers it.

    Optics, noise, sharpening and compression act at the sensor's own resolution, which is often
    lower than the picture's; then it is enlarged.
    """
    size = len(image)
    if rng.random() < 0.85:
        image = _respond(image, rng)
    pixels = _sensor_pixels(rng, size)
    if pixels < size:
        image = cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.55:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.35, 0.5 + 0.8 * pixels / size))
    if rng.random() < 0.6:
        image = _noise(image, rng)
    if rng.random() < 0.3:
        image = _sharpen(image, rng)
    if rng.random() < 0.45:
        image = _compress(image, int(rng.integers(25, 92)))
    if pixels < size:
        how = cv2.INTER_CUBIC if rng.random() < 0.3 else cv2.INTER_LINEAR
        image = cv2.resize(image, (size, size), interpolation=how)
    return image


def _sensor_pixels(rng: np.random.Generator, size: int) -> int:
    """Pixels a side that the picture had before it was enlarged: all of them, some, or very few."""
    kind = rng.random()
    if kind < 0.45:
        return size
    return max(int(size * (rng.uniform(0.4, 0.9) if kind < 0.85 else rng.uniform(0.26, 0.4))), 8)


def _respond(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White balance, exposure, gamma, contrast, a film-like shoulder, a veil of stray light; in one table."""
    value = np.arange(256)[:, None] / 255
    balance = np.exp(rng.normal(0, 0.08, 3) + rng.normal(0, 0.14))
    table = np.clip(value * balance, 0, 1.6)
    if rng.random() < 0.5:  # highlights roll off instead of clipping
        table = 1 - np.exp(-table * rng.uniform(0.5, 1.4))
        table /= table[-1].max()
    table = np.clip(table, 0, 1) ** np.exp(rng.normal(0, 0.17))
    table = np.clip((table - 0.5) * np.exp(rng.normal(0, 0.15)) + 0.5, 0, 1)
    if rng.random() < 0.3:
        veil = rng.uniform(0, 0.22)
        table = table * (1 - veil) + veil * np.clip(rng.normal(0.75, 0.1, 3), 0.3, 1)
    return cv2.LUT(image, (255 * table).astype(np.uint8)[None])


def _sharpen(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    amount = rng.uniform(0.2, 1.0)
    return cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), 1.0), -amount, 0)


def _noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sensor noise, as large as a pixel or a little larger, as after a camera's own denoising."""
    strength = 9 * rng.random() ** 2 + 1
    noise = rng.standard_normal(image.shape, np.float32)
    if rng.random() < 0.5:
        noise = cv2.GaussianBlur(noise, (3, 3), 0.8) * np.float32(1.6)
    noise *= np.float32(strength)
    return cv2.add(image, noise.astype(np.int16), dtype=cv2.CV_8U)


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    """JPEG, its colours at half the resolution as cameras store them."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imdecode(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR_RGB)
