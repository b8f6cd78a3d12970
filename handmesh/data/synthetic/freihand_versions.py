"""FreiHAND's four versions of one picture: a green screen, and three other backgrounds with colours of their own.

The real set was filmed before a green screen (`gs`). Its other versions put a photograph behind the
hand and treat the colours: the hand harmonised with the background (`hom`), or the whole picture made
grey and coloured anew, with hints of the true colours (`sample`) or without (`auto`). Here the same is
done by simple means. Hand, pose and camera are the same in all four.
"""

from __future__ import annotations

import cv2
import numpy as np

from handmesh.data.freihand import VERSIONS
from handmesh.data.synthetic.backgrounds import Backgrounds
from handmesh.data.synthetic.camera_effects import composite, photograph


def develop_versions(rgba: np.ndarray, rng: np.random.Generator, backgrounds: Backgrounds) -> np.ndarray:
    """(4, S, S, 3) uint8: a scene of (S, S, 4) RGBA in the order of `VERSIONS`."""
    size, blur = len(rgba), int(rng.integers(2**32))
    pictures = []
    for version in VERSIONS:
        background = _green_screen(rng, size) if version == "gs" else backgrounds.draw(rng, size)
        hand = _harmonise(rgba, background, rng) if version == "hom" else rgba
        image = composite(hand, background, np.random.default_rng(blur))  # one camera movement for all four
        if version in ("sample", "auto"):
            image = _recolour(image, rng, hints=version == "sample")
        pictures.append(photograph(image, rng))
    return np.stack(pictures)


def _green_screen(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) uint8 green cloth, lit unevenly and a little creased."""
    green = np.array([rng.uniform(20, 80), rng.uniform(120, 200), rng.uniform(40, 100)])
    corners = 1 + rng.normal(0, 0.12, (2, 2)).astype(np.float32)
    light = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
    creases = rng.normal(0, 0.05, (6, 6)).astype(np.float32)
    light = light + cv2.resize(creases, (size, size), interpolation=cv2.INTER_CUBIC)
    return (green * light[..., None]).clip(0, 255).astype(np.uint8)


def _harmonise(rgba: np.ndarray, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The hand's colours moved part of the way to the background's mean and contrast."""
    shown = rgba[..., 3] > 127
    if not shown.any():
        return rgba
    share = rng.uniform(0.15, 0.45)
    hand, behind = rgba[shown][:, :3].astype(np.float32), background.reshape(-1, 3).astype(np.float32)
    contrast = np.clip(behind.std(0) / np.maximum(hand.std(0), 1), 0.6, 1.6) ** share
    mean = hand.mean(0) + share * (behind.mean(0) - hand.mean(0))
    colours = (rgba[..., :3] - hand.mean(0)) * contrast + mean
    return np.concatenate([colours.clip(0, 255).astype(np.uint8), rgba[..., 3:]], -1)


def _recolour(image: np.ndarray, rng: np.random.Generator, hints: bool) -> np.ndarray:
    """(S, S, 3) uint8: the picture's grey, with colours that are only roughly its own.

    hints: keep much of the true colours; else they are weak, smeared and shifted.
    """
    smear, strength, shift = (0.02, (0.6, 1.3), 5.0) if hints else (0.06, (0.2, 0.8), 12.0)
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    chroma = cv2.GaussianBlur(planes[..., 1:] - 128, (0, 0), max(smear * len(image), 0.5))
    planes[..., 1:] = 128 + chroma * rng.uniform(*strength) + rng.normal(0, shift, 2)
    return cv2.cvtColor(planes.clip(0, 255).astype(np.uint8), cv2.COLOR_YCrCb2RGB)
