"""The hard set: each sample has one of the situations in which hand trackers fail, in turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from handmesh.data import poses, views

Difficulty = Literal["ordinary", "hard"]

Challenge = Literal["grasp", "hands touching", "edge-on", "cut off", "fingers first"]
CHALLENGES: tuple[Challenge, ...] = get_args(Challenge)

_GRASPS = ("grasp", "grasp", "fist", "claw", "pinch", "relaxed")


@dataclass(frozen=True)
class Chances:
    """How often things appear."""

    sleeve: float = 0.5
    band: float = 0.12
    glove: float = 0.03
    torso: float = 0.17
    head: float = 0.07
    held: float = 0.2
    occluder: float = 0.13
    second_hand: float = 0.16
    touching: float = 0.45
    """Of second hands."""
    cut_off: float = 0.07


FREIHAND_CHANCES = Chances(glove=0, torso=0, head=0, second_hand=0, cut_off=0)
"""As in the real set: one bare hand, whole, before nothing but the screen."""


def challenge_of(difficulty: Difficulty, index: int) -> Challenge | None:
    """What the sample `index` is hard by: each in turn, so that all have equal shares."""
    return CHALLENGES[index % len(CHALLENGES)] if difficulty == "hard" else None


def harder(chances: Chances, challenge: Challenge | None) -> Chances:
    """`chances` with what the challenge needs made certain."""
    if challenge == "grasp":
        return replace(chances, held=1.0)
    if challenge == "hands touching":
        return replace(chances, second_hand=1.0, touching=1.0)
    return replace(chances, cut_off=1.0) if challenge == "cut off" else chances


def sample_view(rng: np.random.Generator, challenge: Challenge | None) -> np.ndarray:
    """(3, 3) rotation from the canonical frame to the camera's that suits the challenge."""
    if challenge == "edge-on":
        return views.edge_on_view(rng)
    return views.fingers_first_view(rng) if challenge == "fingers first" else views.sample_view(rng)


def sample_fingers(rng: np.random.Generator, sampler: poses.PoseSampler, challenge: Challenge | None) -> np.ndarray:
    """(15, 3, 3) rotations of the fingers that suit the challenge."""
    if challenge == "grasp":
        return sampler.sample(rng, _GRASPS[rng.integers(len(_GRASPS))])
    return sampler.sample(rng)
