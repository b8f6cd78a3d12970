"""How a track moves against the true one: jitter, acceleration error, lag. NumPy and SciPy only."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar

LEAST_LAG_FRAMES, MOST_LAG_FRAMES = -3.0, 6.0

LEAST_LIKENESS = 0.9
"""A track that correlates less with the true one, however it is shifted, is wrong in other ways than by being late."""


def rms_about_mean(points: np.ndarray) -> float:
    """The root of the mean square distance of (N, J, D) points from each one's mean over N."""
    return float(np.sqrt(np.square(points - points.mean(0)).sum(-1).mean())) if len(points) else np.nan


def acceleration_error(said: np.ndarray, true: np.ndarray) -> float:
    """The mean length of the difference of accelerations of (T, J, D) points, per squared frame; gaps are left out.

    Accelerations are second differences of three frames in a row: the "acceleration error" of Kanazawa et al.,
    Learning 3D Human Dynamics from Video (CVPR 2019), in the form of VIBE's code (Kocabas et al., CVPR 2020).
    """
    apart = np.linalg.norm(np.diff(said - true, n=2, axis=0), axis=-1)
    return float(np.nanmean(apart)) if np.isfinite(apart).any() else np.nan


def lag_s(times_s: np.ndarray, said: np.ndarray, true: np.ndarray, least_motion: float) -> float:
    """How far (T, D) `said` is behind `true`, in seconds: the shift at which the two correlate most.

    The true track is interpolated by cubic splines, so that shifts are not bound to frames; both are taken about
    their means, and a common factor between them plays no part. Rows of `said` that are not numbers are left out.
    Not a number where the truth moves less than `least_motion` (the root of its mean square, in its own unit),
    where fewer than ten frames are left, or where no shift within the limits makes the two alike.
    """
    frame_s = float(np.median(np.diff(times_s)))
    first, last = times_s[0] + MOST_LAG_FRAMES * frame_s, times_s[-1] + LEAST_LAG_FRAMES * frame_s
    usable = np.isfinite(said).all(1) & (times_s >= first) & (times_s <= last)  # any shift stays within the truth
    if usable.sum() < 10 or rms_about_mean(true[usable][:, None]) < least_motion:
        return np.nan
    path, at_s, seen = CubicSpline(times_s, true), times_s[usable], said[usable] - said[usable].mean(0)

    def unlike(shift_frames: float) -> float:
        shifted = path(at_s - shift_frames * frame_s)
        shifted = shifted - shifted.mean(0)
        return -float((seen * shifted).sum() / np.sqrt((seen**2).sum() * (shifted**2).sum() + 1e-30))

    coarse = np.arange(LEAST_LAG_FRAMES, MOST_LAG_FRAMES + 0.25, 0.25)
    best = int(np.argmin([unlike(shift) for shift in coarse]))
    if best in (0, len(coarse) - 1) or -unlike(coarse[best]) < LEAST_LIKENESS:
        return np.nan
    bounds = (coarse[best - 1], coarse[best + 1])
    return float(minimize_scalar(unlike, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x * frame_s)
