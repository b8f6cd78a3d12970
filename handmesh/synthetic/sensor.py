"""What is behind the hands and what a camera makes of it all: backgrounds, motion, optics, noise, compression."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from handmesh.data.photos import Split, split_of
from handmesh.files import visible

# Backgrounds: photographs from a folder, or patterns made here.


COARSE_BELOW = 64
"""Smaller images are decoded at a quarter of their size, which is several times as fast."""

_SUFFIXES = (".jpg", ".jpeg", ".png")


def held_out(name: str) -> bool:
    """Whether a file of this base name belongs to validation."""
    return split_of(name) == "val"


class Backgrounds:
    """Draws square images; without a folder, patterns only."""

    def __init__(self, folder: Path | str | None = None, split: Split = "all") -> None:
        """Raises FileNotFoundError where `folder` holds no image of this split."""
        self._files = [] if folder is None else _files(Path(folder), split)
        self._encoded: dict[int, np.ndarray] = {}

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """(size, size, 3) uint8: mostly part of a photograph where there are any."""
        if self._files and rng.random() < 0.88:
            return self._photograph(rng, size)
        return draw_pattern(rng, size)

    def _photograph(self, rng: np.random.Generator, size: int) -> np.ndarray:
        image = self._read_bgr(int(rng.integers(len(self._files))), coarse=size < COARSE_BELOW)
        shorter = min(image.shape[:2])
        side = int(shorter * rng.uniform(0.3, 1.0))
        y, x = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
        how = cv2.INTER_AREA if side > 1.5 * size else cv2.INTER_LINEAR
        part = cv2.resize(image[y : y + side, x : x + side], (size, size), interpolation=how)
        part = cv2.cvtColor(part, cv2.COLOR_BGR2RGB)
        return part[:, ::-1] if rng.random() < 0.5 else part

    def _read_bgr(self, k: int, coarse: bool) -> np.ndarray:
        if k not in self._encoded:
            self._encoded[k] = np.fromfile(self._files[k], np.uint8)
        image = cv2.imdecode(self._encoded[k], cv2.IMREAD_REDUCED_COLOR_4 if coarse else cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{self._files[k]} is not a readable image; remove it from the folder")
        return image


def _files(folder: Path, split: Split) -> list[Path]:
    files = visible(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)
    if split != "all":
        files = [path for path in files if held_out(path.name) == (split == "val")]
    if not files:
        raise FileNotFoundError(f"no .jpg or .png image of the split {split!r} in {folder}")
    return files


def draw_pattern(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) uint8: a plain or graded ground with noise, stripes or shapes, sharp or blurred."""
    image = _gradient(rng, size)
    for _ in range(rng.integers(0, 4)):
        image = _LAYERS[rng.integers(len(_LAYERS))](rng, image)
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), size * rng.uniform(0.003, 0.03))
    return image.clip(0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator) -> np.ndarray:
    grey = rng.uniform(10, 250)
    return np.clip(grey + rng.normal(0, rng.choice([6.0, 50.0]), 3), 0, 255).astype(np.float32)


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    corners = np.stack([_colour(rng) for _ in range(4)]).reshape(2, 2, 3)
    corners = corners.mean((0, 1)) + rng.uniform(0, 1) * (corners - corners.mean((0, 1)))
    return cv2.resize(corners.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)


def _add_noise(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    size = len(image)
    cells = int(rng.integers(3, 40))
    noise = rng.normal(0, rng.uniform(5, 40), (cells, cells, rng.choice([1, 3]))).astype(np.float32)
    noise = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    return image + noise.reshape(size, size, -1)


def _add_stripes(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    size = len(image)
    angle, wavelength = rng.uniform(0, np.pi), size * rng.uniform(0.03, 0.4)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    wave = np.cos((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / wavelength + rng.uniform(0, 6))
    mask = np.clip(wave * rng.uniform(1, 8), -1, 1)[..., None] * 0.5 + 0.5
    return image + mask * rng.uniform(0.2, 1) * (_colour(rng) - image)


def _add_shapes(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    size = len(image)
    image = np.ascontiguousarray(image)
    for _ in range(rng.integers(1, 12)):
        centre = tuple(int(c) for c in rng.uniform(0, size, 2))
        colour, axes = tuple(_colour(rng).tolist()), tuple(int(a) for a in rng.uniform(0.03, 0.45, 2) * size)
        if rng.random() < 0.5:
            cv2.ellipse(image, centre, axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints((centre, axes, rng.uniform(0, 180))).astype(np.int32)
            cv2.fillConvexPoly(image, corners, colour, cv2.LINE_AA)
    return image


_LAYERS = (_add_noise, _add_stripes, _add_shapes)


# What a camera does to a scene: shadow and movement, response, optics, few pixels, noise, compression.


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
    """(S, S, 1) float32 fraction of the light that is left on what lies behind the scene."""
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
    lower than the image's; then it is enlarged.
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
    """Pixels a side that the image had before it was enlarged: all of them, some, or very few."""
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
