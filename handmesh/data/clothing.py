"""Random clothes and hair for bodies, so that skin is not the only thing a person shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from handmesh.data.bodies import Body, Rig


@dataclass(frozen=True, eq=False)
class Wardrobe:
    """The parts of a rig's bodies that clothes and hair can cover, each (V,) in 0..1."""

    torso: np.ndarray
    legs: np.ndarray
    feet: np.ndarray
    arms: np.ndarray
    along_arm: np.ndarray  # 0 at the shoulder, 1 at the wrist
    head: np.ndarray

    @staticmethod
    def of(rig: Rig, body: Body) -> Wardrobe:
        """Measure one body; all share the vertices."""
        arms = rig.share("upperarm", "lowerarm")
        along = np.zeros(len(arms))
        for side in ("left", "right"):
            start, end = (body.heads_m[rig.bone(name, side)] for name in ("upperarm01", "wrist"))
            here = np.sign(body.vertices_m[:, 0]) == np.sign(end[0])
            along[here] = ((body.vertices_m - start) @ (end - start) / ((end - start) @ (end - start)))[here]
        return Wardrobe(
            torso=rig.share("spine", "clavicle", "shoulder", "pelvis", "root"),
            legs=rig.share("upperleg", "lowerleg"),
            feet=rig.share("foot", "toe"),
            arms=arms,
            along_arm=along,
            head=rig.share("head", "eye"),
        )


class Outfit(NamedTuple):
    """What a body wears, vertex by vertex."""

    colours: np.ndarray  # (V, 3) float32, 0..1
    bare: np.ndarray  # (V,) float32: 1 where the skin shows, 0 under cloth or hair
    thickness_m: np.ndarray  # (V,) float32: how far cloth or hair stand off


def dress(parts: Wardrobe, body: Body, rng: np.random.Generator) -> Outfit:
    """Random clothes, shoes and hair for a posed body."""
    sleeve = rng.choice([0.05, rng.uniform(0.1, 0.7), rng.uniform(0.9, 1.02)], p=[0.15, 0.4, 0.45])
    covers = [
        (parts.torso + parts.arms * (parts.along_arm < sleeve) > 0.5, rng.uniform(0.003, 0.02)),
        ((parts.legs > 0.5), rng.uniform(0.003, 0.015)),
        ((parts.feet > 0.5) & (rng.random() < 0.75), 0.008),
        (_hair(parts, body, rng), rng.uniform(0.005, 0.03)),
    ]
    colours = np.zeros((len(parts.torso), 3), np.float32)
    bare, thickness = np.ones(len(colours), np.float32), np.zeros(len(colours), np.float32)
    for k, (where, thick) in enumerate(covers):
        base = np.array([0.5, 0.35, 0.2]) * rng.uniform(0.05, 1.2) if k == 3 else _cloth_colour(rng)
        colours[where] = base * _pattern(body.vertices_m[where], rng)[:, None]
        bare[where], thickness[where] = 0, thick
    return Outfit(colours, bare, thickness)


def _hair(parts: Wardrobe, body: Body, rng: np.random.Generator) -> np.ndarray:
    """Where hair grows: the top and the back of the head, down to a random line."""
    head = body.vertices_m[parts.head > 0.5]
    low, high = head.min(0), head.max(0)
    place = (body.vertices_m - low) / (high - low)
    line = rng.uniform(0.72, 0.95) - rng.uniform(0.3, 0.8) * np.clip(place[:, 1] - 0.35, 0, 1)
    return (parts.head > 0.5) & (place[:, 2] > line)


def _cloth_colour(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.45:
        return np.full(3, rng.uniform(0.03, 0.95)) * rng.uniform(0.95, 1.05, 3)
    hsv = np.uint8([[[rng.integers(180), rng.integers(20, 230), rng.integers(20, 240)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] / 255.0


def _pattern(points_m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) brightness: plain, striped or blotched."""
    if rng.random() < 0.5:
        return np.ones(len(points_m))
    waves = points_m @ rng.normal(0, 1, (3, 1 if rng.random() < 0.5 else 4)) * rng.uniform(20, 150)
    return 1 + rng.uniform(0.1, 0.5) * np.sin(waves + rng.uniform(0, 6.28, waves.shape[1])).mean(1)
