"""Random changes to a training crop: where its box lies, and what the picture looks like."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from handmesh.structs import Box


@dataclass(frozen=True)
class AugmentConfig:
    """How strongly training crops vary."""

    rotation_deg: float = 22.0
    """Standard deviation of the box's turn away from upright."""
    any_rotation: float = 0.06
    """Share of crops turned any which way."""
    scale: tuple[float, float] = (0.85, 1.3)
    shift: float = 0.08
    """Largest displacement of the box as a fraction of its side."""
    colour: bool = True
    wrong_side: float = 0.12
    """Share of crops mirrored the wrong way, to learn to tell."""


def jitter_box(box: Box, config: AugmentConfig, rng: np.random.Generator) -> Box:
    """A box moved, turned and scaled at random."""
    spread = math.radians(config.rotation_deg)
    turn = rng.uniform(-math.pi, math.pi) if rng.random() < config.any_rotation else rng.normal(0, spread)
    shift = rng.uniform(-config.shift, config.shift, 2) * box.size_px
    scale = math.exp(rng.uniform(math.log(config.scale[0]), math.log(config.scale[1])))
    centre = (box.centre_px[0] + shift[0], box.centre_px[1] + shift[1])
    return replace(box, centre_px=centre, size_px=box.size_px * scale, angle_rad=box.angle_rad + turn)


_COLOUR = v2.Compose(
    [
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.5)], p=0.8),
        v2.RandomApply([v2.ColorJitter(hue=0.06)], p=0.25),
        v2.RandomGrayscale(0.05),
        v2.RandomApply([v2.GaussianBlur(5, (0.4, 1.6))], p=0.15),
        v2.RandomApply([v2.JPEG((25, 90))], p=0.15),
    ]
)


def vary_colour(image: Tensor, seed: int) -> Tensor:
    """(3, S, S) uint8 with random tone, blur and compression; the same seed gives the same picture."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also queue a call for absent GPUs
    varied = _COLOUR(image)
    torch.set_rng_state(state)
    return varied


def cover_patch(image: np.ndarray, rng: np.random.Generator, probability: float = 0.15) -> np.ndarray:
    """(S, S, 3) with, at times, a flat rectangle over a part of it."""
    if rng.random() >= probability:
        return image
    size = image.shape[0]
    x, y = rng.integers(0, size, 2)
    width, height = rng.integers(size // 10, size // 3, 2)
    image[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    return image
