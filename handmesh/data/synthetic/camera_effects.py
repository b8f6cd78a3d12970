"""What a camera does to a scene: motion and focus blur, few pixels, noise, colour cast, JPEG."""

from __future__ import annotations

import cv2
import numpy as np


def composite(rgba: np.ndarray, background: np.ndarray, rng: np.random.Generator, motion: float = 0.18) -> np.ndarray:
    """(S, S, 3) uint8: the scene over a background, with probability `motion` blurred as it moves."""
    rgba = rgba.astype(np.float32)
    alpha = rgba[..., 3:] / 255
    premultiplied = np.concatenate([rgba[..., :3] * alpha, alpha], -1)
    if rng.random() < motion:
        premultiplied = cv2.filter2D(premultiplied, -1, _streak(rng, len(rgba)))
    elif rng.random() < 0.5:
        premultiplied = cv2.GaussianBlur(premultiplied, (3, 3), rng.uniform(0.3, 0.7))
    image = premultiplied[..., :3] + background * (1 - premultiplied[..., 3:])
    return image.clip(0, 255).astype(np.uint8)


def _streak(rng: np.random.Generator, size: int) -> np.ndarray:
    """A blur kernel along a line of a random direction."""
    length = max(3.0, size * rng.uniform(0.015, 0.06))
    radius = int(np.ceil(length / 2))
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    angle = rng.uniform(0, np.pi)
    offset = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    start, end = (tuple(int(c) for c in np.round(16 * (radius + sign * offset))) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_AA, 4)
    return kernel / kernel.sum()


def photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(S, S, 3) uint8: `image` as an ordinary camera delivers it."""
    image = _resolution(image, rng)
    if rng.random() < 0.75:
        image = _colour_cast(image, rng)
    if rng.random() < 0.6:
        image = _noise(image, rng)
    if rng.random() < 0.3:
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 85))])[1]
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return image


def _resolution(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Often fewer pixels than the picture pretends to have, sometimes out of focus or sharpened."""
    size, kind = len(image), rng.random()
    if kind < 0.4:
        small = int(size * rng.uniform(0.3, 0.85))
        image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = _sharpen(image, rng) if rng.random() < 0.4 else image
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    if kind < 0.6:
        return cv2.GaussianBlur(image, (0, 0), size * rng.uniform(0.0025, 0.009))
    return _sharpen(image, rng) if kind < 0.7 else image


def _sharpen(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    amount = rng.uniform(0.2, 0.9)
    return cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), 1.0), -amount, 0)


def _colour_cast(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White balance, exposure, contrast and gamma, in one table."""
    value = np.arange(256)[:, None] / 255
    balance = np.exp(rng.normal(0, 0.07, 3) + rng.normal(0, 0.12))
    table = np.clip(value * balance, 0, 1) ** np.exp(rng.normal(0, 0.15))
    table = np.clip((table - 0.5) * np.exp(rng.normal(0, 0.12)) + 0.5, 0, 1)
    return cv2.LUT(image, (255 * table).astype(np.uint8)[None])


def _noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sensor noise, as large as a pixel or a little larger, as after a camera's own denoising."""
    strength = 8 * rng.random() ** 2 + 1
    noise = rng.standard_normal(image.shape, np.float32)
    if rng.random() < 0.5:
        noise = cv2.GaussianBlur(noise, (3, 3), 0.8) * np.float32(1.6)
    noise *= np.float32(strength)
    return cv2.add(image, noise.astype(np.int16), dtype=cv2.CV_8U)
