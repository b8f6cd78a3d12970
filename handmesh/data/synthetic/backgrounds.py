"""Backgrounds: photographs from a folder, or patterns made here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from handmesh.data.photos import Split, split_of

COARSE_BELOW = 64
"""Smaller pictures are decoded at a quarter of their size, which is several times as fast."""

_SUFFIXES = (".jpg", ".jpeg", ".png")


def held_out(name: str) -> bool:
    """Whether a file of this base name belongs to validation."""
    return split_of(name) == "val"


class Backgrounds:
    """Draws square pictures; without a folder, patterns only."""

    def __init__(self, folder: Path | str | None = None, split: Split = "all") -> None:
        """Raises FileNotFoundError where `folder` holds no picture of this split."""
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
            raise ValueError(f"{self._files[k]} is not a readable picture; remove it from the folder")
        return image


def _files(folder: Path, split: Split) -> list[Path]:
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)
    if split != "all":
        files = [path for path in files if held_out(path.name) == (split == "val")]
    if not files:
        raise FileNotFoundError(f"no .jpg or .png picture of the split {split!r} in {folder}")
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
