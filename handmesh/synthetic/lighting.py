"""Light: a few directions and a smooth surround, drawn at random or taken from environment maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.synthetic.split import Materials, files_of


class Light(NamedTuple):
    """Light in the camera's frame (x right, y down, z forward), brightness about 1."""

    lights: np.ndarray  # (L, 6) float32, L >= 1: unit direction to the light and its RGB
    surround: np.ndarray  # (9, 3) float32: irradiance / pi in real spherical harmonics


def harmonics(directions: np.ndarray) -> np.ndarray:
    """(N, 3) unit directions to (N, 9) real spherical harmonics up to degree 2.

    Source: Ramamoorthi and Hanrahan, An efficient representation for irradiance environment maps (2001).
    """
    x, y, z = directions.T
    one = np.full_like(x, 0.282095)
    first = [0.488603 * y, 0.488603 * z, 0.488603 * x]
    second = [1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z]
    return np.stack([one, *first, *second, 0.546274 * (x * x - y * y)], -1)


_COSINE_LOBE = np.array([1.0] + [2 / 3] * 3 + [1 / 4] * 5)[:, None]
"""What a clamped cosine, divided by pi, keeps of each degree: radiance 1 all round gives irradiance / pi of 1."""


def random_light(rng: np.random.Generator) -> Light:
    """One to three lights, mostly from above and from the camera's side, in a sky-and-ground surround."""
    count = int(rng.integers(1, 4))
    directions = rng.normal(size=(count, 3)) - [0, 0.8, 0.5]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    strength = np.sort(rng.dirichlet(np.ones(count)))[::-1, None]
    colours = strength * np.clip(rng.normal(1, 0.1, (count, 3)), 0.7, 1.3)
    surround_fraction = rng.uniform(0.25, 0.75)
    sky, ground = np.clip(rng.normal(1.2, 0.12, 3), 0.6, 1.8), np.clip(rng.normal(0.7, 0.15, 3), 0.25, 1.3)
    surround = np.zeros((9, 3))
    surround[0] = (sky + ground) / 2 / 0.282095
    surround[1] = (ground - sky) / 2 / 0.488603
    lights = np.concatenate([directions, colours * (1 - surround_fraction) * 1.6], 1)
    return _exposed(lights, surround * surround_fraction, rng)


def _exposed(lights: np.ndarray, surround: np.ndarray, rng: np.random.Generator) -> Light:
    """The light scaled to a random brightness, as a camera's exposure leaves it."""
    bright = 0.282095 * surround[0].mean() + 0.5 * lights[:, 3:].mean(1).sum()
    gain = np.exp(min(rng.normal(0.0, 0.26), 0.4)) / max(bright, 1e-6)
    lights = np.concatenate([lights[:, :3], lights[:, 3:] * gain], 1)
    return Light(lights.astype(np.float32), (surround * gain).astype(np.float32))


class EnvironmentMap:
    """A panorama reduced to its brightest lights and a smooth rest."""

    WIDTH, HEIGHT = 64, 32

    def __init__(self, radiance: np.ndarray) -> None:
        """radiance: (H, 2H, 3) linear RGB, equirectangular, up at the top."""
        small = cv2.resize(radiance, (self.WIDTH, self.HEIGHT), interpolation=cv2.INTER_AREA)
        theta = (np.arange(self.HEIGHT) + 0.5) / self.HEIGHT * np.pi
        phi = (np.arange(self.WIDTH) + 0.5) / self.WIDTH * 2 * np.pi
        theta, phi = (angle.ravel() for angle in np.meshgrid(theta, phi, indexing="ij"))
        self._directions = np.stack([np.sin(theta) * np.cos(phi), -np.cos(theta), np.sin(theta) * np.sin(phi)], -1)
        solid_angle = np.sin(theta) * (np.pi / self.HEIGHT) * (2 * np.pi / self.WIDTH)
        self._power = small.reshape(-1, 3).astype(np.float64) * solid_angle[:, None]
        self._lights = [self._take_brightest() for _ in range(3)]

    def _take_brightest(self) -> tuple[np.ndarray, np.ndarray]:
        """Remove the brightest spot and what lies within 25 degrees above twice the mean; (direction, RGB)."""
        grey = self._power.mean(1)
        near = self._directions @ self._directions[grey.argmax()] > np.cos(np.radians(25))
        spot = near & (grey > 2 * grey.mean())
        spot[grey.argmax()] = True
        direction = (grey[spot, None] * self._directions[spot]).sum(0)
        colour = self._power[spot].sum(0) / np.pi
        self._power[spot] = np.median(self._power, axis=0)
        return direction / np.linalg.norm(direction), colour

    def light(self, rng: np.random.Generator) -> Light:
        """The panorama seen by a camera that faces anywhere and is pitched a little."""
        rotation = Rotation.from_euler("yxz", [rng.uniform(0, 360), rng.normal(0, 15), rng.normal(0, 8)], degrees=True)
        surround = _COSINE_LOBE * (harmonics(rotation.apply(self._directions)).T @ self._power)
        lights = np.stack([np.concatenate([rotation.apply(d), colour]) for d, colour in self._lights])
        lights[:, 3:] *= rng.uniform(0.5, 1.2)
        return _exposed(lights, surround, rng)


def load_environments(folder: Path | str, materials: Materials = "all") -> list[EnvironmentMap]:
    """The `.hdr` panoramas in a folder that belong to `materials`; it may be none.

    Raises FileNotFoundError where the folder holds no panorama at all.
    """
    files = sorted(Path(folder).glob("*.hdr"))
    if not files:
        raise FileNotFoundError(f"no .hdr environment map in {folder}: give a folder of equirectangular panoramas")
    return [EnvironmentMap(_read_radiance(file)) for file in files_of(files, materials)]


def _read_radiance(file: Path) -> np.ndarray:
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3:
        raise ValueError(f"{file} is not a readable Radiance .hdr image")
    return image[..., 2::-1].astype(np.float32)


def draw_light(rng: np.random.Generator, environments: Sequence[EnvironmentMap]) -> Light:
    """Light for one image: half the time from an environment map where there are any."""
    if environments and rng.random() < 0.5:
        return environments[rng.integers(len(environments))].light(rng)
    return random_light(rng)
