"""From what the networks say of a place in a picture to the chance that a hand is there. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from handmesh.chance import logistic
from handmesh.detection import THRESHOLD

SUREST = 1e-6
"""Chances nearer to 0 or 1 than this are taken for this: beyond it a network's logits mean nothing."""


def logit(chance: ArrayLike) -> np.ndarray:
    """The logarithm of the odds, any shape."""
    bounded = np.minimum(np.maximum(chance, SUREST), 1 - SUREST)  # np.clip takes several times as long for one number
    return np.log(bounded / (1 - bounded))


@dataclass(frozen=True)
class Logistic:
    """A chance from several: the logistic function of their weighted logits (Platt scaling, 1999, of several scores).

    >>> round(float(Logistic(0.0, {"presence": 1.0})(presence=0.8, agreement=0.3)), 6)
    0.8
    """

    bias: float
    weights: Mapping[str, float]  # by the name of the chance that it is for

    def __call__(self, **chances: ArrayLike) -> np.ndarray:
        """The chance from those that `weights` names, all of one shape, 0..1; further ones are not looked at."""
        total = self.bias + sum(weight * logit(chances[name]) for name, weight in self.weights.items())
        return logistic(total)

    def as_plain(self) -> dict[str, float]:
        """The bias and the weights by name."""
        return {"bias": self.bias, **self.weights}


_BARE = {"bias": 0.0, "presence": 1.0}


@dataclass(frozen=True)
class Confidence:
    """How sure a tracker is of a hand, when it has just found it and while it follows it."""

    found: Logistic  # of the chances `detector`, `presence` and `agreement`
    followed: Logistic  # of `presence` and `agreement`
    proposed: float = THRESHOLD  # the detector's score from which a place is looked at

    @staticmethod
    def of(metadata: Mapping[str, object]) -> Confidence:
        """What an exported mesh network's metadata says under `confidence`; its bare presence where it says nothing."""
        written = metadata.get("confidence") or {"proposed": THRESHOLD, "found": _BARE, "followed": _BARE}
        return Confidence(_read(written["found"]), _read(written["followed"]), float(written["proposed"]))

    def as_metadata(self) -> dict[str, object]:
        """What `of` reads."""
        return {"proposed": self.proposed, "found": self.found.as_plain(), "followed": self.followed.as_plain()}


def _read(written: Mapping[str, float]) -> Logistic:
    return Logistic(float(written["bias"]), {name: float(value) for name, value in written.items() if name != "bias"})
