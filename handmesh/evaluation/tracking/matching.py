"""Which of the hands that a tracker sees are which true ones, frame by frame. NumPy and SciPy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from handmesh.structs import Hand, Side

VISIBLE = 0.5
"""A hand counts as visible while at least this share of its outline is in the picture and not hidden."""

AWAY = 0.05
"""A hand has left while less than this share of its outline is in the picture."""

GATE = 0.5
"""A hand is seen where its joints lie, on average, within this share of the true box's longer side."""


class Truth(NamedTuple):
    """T frames of H hands."""

    times_s: np.ndarray  # (T,)
    sides: tuple[Side, ...]  # H
    joints_m: np.ndarray  # (T, H, 21, 3) camera frame
    joints_px: np.ndarray  # (T, H, 21, 2)
    inside: np.ndarray  # (T, H) share of the outline that is in the picture
    seen: np.ndarray  # (T, H) share of the outline that is in the picture and not hidden


class Followed(NamedTuple):
    """One true hand and what was said of it."""

    times_s: np.ndarray  # (T,)
    true_m: np.ndarray  # (T, 21, 3)
    true_px: np.ndarray  # (T, 21, 2)
    inside: np.ndarray  # (T,)
    seen: np.ndarray  # (T,)
    said_m: np.ndarray  # (T, 21, 3) not a number where the hand was not seen
    said_px: np.ndarray  # (T, 21, 2)
    ids: np.ndarray  # (T,) the tracker's own; -1 where the hand was not seen
    wrong_side: np.ndarray  # (T,) bool
    predicted: np.ndarray  # (T,) bool, carried on from the frames before

    @property
    def found(self) -> np.ndarray:
        """(T,) bool: something was said of it."""
        return self.ids >= 0

    @property
    def visible(self) -> np.ndarray:
        """(T,) bool: it should be seen."""
        return self.seen >= VISIBLE

    @property
    def stays(self) -> list[np.ndarray]:
        """Frame numbers from each time the hand comes into the picture to its leaving."""
        there = np.flatnonzero(self.inside >= AWAY)
        return np.split(there, np.flatnonzero(np.diff(there) > 1) + 1) if len(there) else []


def match(truth: Truth, said: Sequence[Sequence[Hand]]) -> tuple[list[Followed], np.ndarray]:
    """Each true hand with what was said of it, and the (T,) number of hands seen where there is none.

    said: the tracker's hands of each frame. In every frame by itself, hands are assigned so that the sum of mean
    joint distances in the picture is least, none beyond `GATE`; sides and ids have no say.
    """
    if len(said) != len(truth.times_s):
        raise ValueError(f"expected what was said of {len(truth.times_s)} frames, got {len(said)}")
    pairs = [_assigned(true_px, hands) for true_px, hands in zip(truth.joints_px, said, strict=True)]
    false = np.array([len(hands) - len(pair) for hands, pair in zip(said, pairs, strict=True)])
    return [_followed(truth, k, [_of(pair, hands, k) for pair, hands in zip(pairs, said, strict=True)])
            for k in range(len(truth.sides))], false  # fmt: skip


def _assigned(true_px: np.ndarray, hands: Sequence[Hand]) -> dict[int, int]:
    """The number of the seen hand by that of the true one."""
    if not hands:
        return {}
    seen_px = np.stack([hand.joints_px for hand in hands])
    apart = np.linalg.norm(true_px[:, None] - seen_px[None], axis=-1).mean(-1)
    sizes = np.ptp(true_px, axis=1).max(-1)
    near = apart <= GATE * sizes[:, None]
    cost = np.where(near, apart / sizes[:, None], 1e3)  # an assignment with more near pairs always costs less
    return {int(i): int(j) for i, j in zip(*linear_sum_assignment(cost), strict=True) if near[i, j]}


def _of(pair: dict[int, int], hands: Sequence[Hand], k: int) -> Hand | None:
    return hands[pair[k]] if k in pair else None


def _followed(truth: Truth, k: int, hands: Sequence[Hand | None]) -> Followed:
    count = len(hands)
    said_m, said_px = np.full((count, 21, 3), np.nan), np.full((count, 21, 2), np.nan)
    for t, hand in enumerate(hands):
        if hand is not None:
            said_m[t], said_px[t] = hand.joints_m, hand.joints_px
    return Followed(
        *(truth.times_s, truth.joints_m[:, k], truth.joints_px[:, k], truth.inside[:, k], truth.seen[:, k]),
        *(said_m, said_px),
        ids=np.array([-1 if hand is None else hand.id for hand in hands]),
        wrong_side=np.array([hand is not None and hand.side != truth.sides[k] for hand in hands]),
        predicted=np.array([getattr(hand, "predicted", False) for hand in hands]),
    )
