"""Chances and their logits. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def logistic(logit: ArrayLike) -> np.ndarray:
    """The chance of a logit, any shape; without overflow, however large it is.

    >>> float(logistic(0.0))
    0.5
    """
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(logit))
