"""The 15 corruptions of ImageNet-C at five severities each: noise, blur, weather, digital artefacts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numba import njit

# Snow, frost and fog over an image, with the parameters of ImageNet-C; see `corruptions`.


_FROST_TINT = np.float32([0.93, 1.0, 1.06])
_FROST_LEVEL = (0.48, 0.82)
_BRANCH_RAD = math.radians(60)


def snow(
    image: np.ndarray, rng: np.random.Generator, mean: float, deviation: float, zoom: float, threshold: float,
    radius: int, sigma: float, kept: float,
) -> np.ndarray:  # fmt: skip
    """Flakes: enlarged noise above a threshold, blurred along the way they fall, over a whitened image."""
    flakes = magnified(rng.normal(mean, deviation, image.shape[:2]).astype(np.float32), zoom)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    flakes = cv2.filter2D(
        flakes, -1, motion_kernel(radius, sigma, rng.uniform(-135, -45)), borderType=cv2.BORDER_REPLICATE
    )
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    whitened = kept * image + (1 - kept) * np.maximum(image, 1.5 * grey + 0.5)
    return whitened + (flakes + flakes[::-1, ::-1])[..., None]


def fog(image: np.ndarray, rng: np.random.Generator, strength: float, decay: float) -> np.ndarray:
    """A cloudy height map added, the whole brought back to the image's own brightest value."""
    height, width = image.shape[:2]
    cloud = plasma(1 << (max(height, width) - 1).bit_length(), decay, rng)[:height, :width, None]
    brightest = image.max()
    return (image + strength * cloud) * brightest / (brightest + strength)


def frost(image: np.ndarray, rng: np.random.Generator, kept: float, fraction: float) -> np.ndarray:
    """A frosted window added to the dimmed image.

    ImageNet-C has photographs of frost for it. Here the frost is drawn: feathery crystals on a cloudy ground,
    about as bright and as contrasty as those photographs.
    """
    return kept * image + fraction * frosted_window(image.shape[0], image.shape[1], rng)


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
        for rotation in (-_BRANCH_RAD, _BRANCH_RAD):
            side = np.array([math.cos(angle + rotation), math.sin(angle + rotation)]) * 0.45 * (length - along)
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
    """The middle of an image, `zoom` times as large, in the size that it had."""
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


# The 15 corruptions of ImageNet-C at five severities each.
#
# Source of kinds and parameters: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to
# Common Corruptions and Perturbations (ICLR 2019), and the authors' released settings for images
# of 224 x 224 pixels, FreiHAND's own size. Two differ. Frost is drawn, not photographed (`weather`).
# The elastic transform has no random affine, which would move the hand away from its labels: it is
# that of Michaelis et al., Benchmarking Robustness in Object Detection (2019), made for labels that
# are places. The PyPI packages that offer these do not run with NumPy 2 and today's scikit-image.


SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(NamedTuple):
    """One kind, and its parameters at each severity."""

    group: str
    apply: Callable[..., np.ndarray]  # (image, rng, *parameters); images are (H, W, 3) float32 RGB in 0..1
    levels: tuple[tuple[Any, ...], ...]


def corrupt(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """An (H, W, 3) uint8 RGB image, corrupted; the same arguments give the same image.

    name: one of CORRUPTIONS; severity: 1 to 5; seed: of the image, such as its number. Raises
    ValueError for a name or a severity that does not exist.
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        raise ValueError(f"no corruption {name!r} of severity {severity}; there are {', '.join(CORRUPTIONS)}, 1 to 5")
    kind = CORRUPTIONS[name]
    rng = np.random.default_rng([seed, list(CORRUPTIONS).index(name), severity])
    changed = kind.apply(image.astype(np.float32) / 255, rng, *kind.levels[severity - 1])
    return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(image: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Sensor noise in dim light."""
    return image + rng.normal(0, deviation, image.shape)


def shot_noise(image: np.ndarray, rng: np.random.Generator, photons: float) -> np.ndarray:
    """The discreteness of light: white is so many photons."""
    return rng.poisson(image * photons) / photons


def impulse_noise(image: np.ndarray, rng: np.random.Generator, fraction: float) -> np.ndarray:
    """Salt and pepper, each colour by itself."""
    hit, salt = rng.random(image.shape) < fraction, rng.random(image.shape) < 0.5
    return np.where(hit, salt, image)


def defocus_blur(image: np.ndarray, rng: np.random.Generator, radius: int, soft: float) -> np.ndarray:
    """A lens out of focus: the mean over a disk with a softened rim."""
    reach = np.arange(-max(8, radius), max(8, radius) + 1)
    disk = (reach[:, None] ** 2 + reach**2 <= radius**2).astype(np.float32)
    width = 3 if radius <= 8 else 5
    return cv2.filter2D(image, -1, cv2.GaussianBlur(disk / disk.sum(), (width, width), soft))


def glass_blur(image: np.ndarray, rng: np.random.Generator, sigma: float, reach: int, rounds: int) -> np.ndarray:
    """Frosted glass: each pixel takes the colour of one near it."""
    blurred = _blurred(image, sigma)
    offsets = rng.integers(-reach, reach, (rounds, *image.shape[:2], 2))
    take_from_near(blurred, offsets, reach)
    return _blurred(blurred, sigma)


@njit(cache=True)
def take_from_near(image: np.ndarray, offsets: np.ndarray, reach: int) -> None:
    """In place, from the last pixel to the first, so that colours may travel, as the released images were made."""
    for k in range(offsets.shape[0]):
        for y in range(image.shape[0] - reach, reach, -1):
            for x in range(image.shape[1] - reach, reach, -1):
                dx, dy = offsets[k, y, x]
                for channel in range(3):
                    image[y, x, channel] = image[y + dy, x + dx, channel]


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    width = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(image, (width, width), sigma, borderType=cv2.BORDER_REPLICATE)


def motion_blur(image: np.ndarray, rng: np.random.Generator, radius: int, sigma: float) -> np.ndarray:
    """A camera that moves in one direction."""
    kernel = motion_kernel(radius, sigma, rng.uniform(-45, 45))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def zoom_blur(image: np.ndarray, rng: np.random.Generator, end: float, step: float) -> np.ndarray:
    """A camera that moves towards the image's middle: the mean of the image and its enlargements."""
    zooms = np.arange(1, end, step)
    return (image + sum(magnified(image, zoom) for zoom in zooms)) / (len(zooms) + 1)


def brightness(image: np.ndarray, rng: np.random.Generator, more: float) -> np.ndarray:
    """More light: the value in HSV raised."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.clip(hsv[..., 2] + more, 0, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def contrast(image: np.ndarray, rng: np.random.Generator, kept: float) -> np.ndarray:
    """Colours drawn towards their means."""
    means = image.mean((0, 1))
    return (image - means) * kept + means


def elastic_transform(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Small regions stretched and squeezed by a smooth random field."""
    height, width = image.shape[:2]
    reach = 0.005 * height
    noise = rng.uniform(-reach, reach, (2, height, width)).astype(np.float32)
    sigma_x, sigma_y = 0.01 * width, 0.01 * height
    size = 2 * int(3 * sigma_x + 0.5) + 1, 2 * int(3 * sigma_y + 0.5) + 1
    dx, dy = (
        strength * cv2.GaussianBlur(n, size, sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REFLECT) for n in noise
    )
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(image, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def pixelate(image: np.ndarray, rng: np.random.Generator, fraction: float) -> np.ndarray:
    """An image enlarged from fewer pixels."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (int(width * fraction), int(height * fraction)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def jpeg_compression(image: np.ndarray, rng: np.random.Generator, quality: int) -> np.ndarray:
    """Lossy compression."""
    pixels = cv2.cvtColor(np.rint(image * 255).astype(np.uint8), cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB).astype(np.float32) / 255


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian noise": Corruption("noise", gaussian_noise, ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,))),
    "shot noise": Corruption("noise", shot_noise, ((60,), (25,), (12,), (5,), (3,))),
    "impulse noise": Corruption("noise", impulse_noise, ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,))),
    "defocus blur": Corruption("blur", defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass blur": Corruption("blur", glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion blur": Corruption("blur", motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom blur": Corruption("blur", zoom_blur, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))),
    "snow": Corruption("weather", snow, (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )),
    "frost": Corruption("weather", frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))),
    "fog": Corruption("weather", fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "brightness": Corruption("weather", brightness, ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,))),
    "contrast": Corruption("digital", contrast, ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,))),
    "elastic transform": Corruption("digital", elastic_transform, ((12.5,), (16.25,), (21.25,), (25,), (30,))),
    "pixelate": Corruption("digital", pixelate, ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,))),
    "JPEG compression": Corruption("digital", jpeg_compression, ((25,), (18,), (15,), (10,), (7,))),
}  # fmt: skip
"""The 15 kinds in the paper's order."""
