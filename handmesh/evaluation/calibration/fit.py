"""Fitting of the models that make chances of scores, and what they say of pictures that they were not fitted to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize

from handmesh.chance import logistic
from handmesh.runtime.confidence import Logistic, logit

RIDGE = 1.0
"""The penalty on squared weights, in candidates' worth of likelihood: it keeps them finite where all are told apart."""

FOLDS = 2


def fit_logistic(chances: Mapping[str, np.ndarray], right: np.ndarray, weight: np.ndarray) -> Logistic:
    """The model that makes (N,) `right` likeliest from (N,) `chances`, each row as often as its `weight` says.

    No weight of the model is negative: nobody should become less sure where a network becomes surer.
    """
    inputs = np.stack([np.ones(len(right)), *map(logit, chances.values())], axis=1)
    signs, share = np.where(right, 1.0, -1.0), weight * len(weight) / weight.sum()

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signs * (inputs @ parameters)
        penalty = np.concatenate([[0.0], RIDGE * parameters[1:]])
        slope = -signs * share * logistic(-margin)
        value = share @ np.logaddexp(0.0, -margin) + 0.5 * penalty @ parameters
        return float(value), slope @ inputs + penalty

    bounds = [(None, None), *[(0.0, None)] * len(chances)]
    bias, *weights = minimize(loss, np.zeros(inputs.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x.tolist()
    return Logistic(bias, dict(zip(chances, weights, strict=True)))


def held_out(
    chances: Mapping[str, np.ndarray], right: np.ndarray, weight: np.ndarray, picture: np.ndarray, seed: int = 0
) -> np.ndarray:
    """(N,) what models say that were fitted to the other half of the pictures.

    picture: (N,) whole numbers; what lies in one picture lies in one half.
    """
    said = np.zeros(len(right))
    halves = np.random.default_rng(seed).permutation(picture.max() + 1)[picture] % FOLDS
    for half in range(FOLDS):
        rest, here = halves != half, halves == half
        model = fit_logistic({name: values[rest] for name, values in chances.items()}, right[rest], weight[rest])
        said[here] = model(**{name: values[here] for name, values in chances.items()})
    return said
