"""From views of a board to the camera that saw them, and how far that is to be trusted."""

from __future__ import annotations

from datetime import date
from typing import Literal, NamedTuple

import cv2
import numpy as np

from handmesh.apps.chessboard.board import Board
from handmesh.apps.chessboard.views import View, Views
from handmesh.runtime.optics.intrinsics import Intrinsics, LensError
from handmesh.structs import Camera

Bend = Literal["none", "usual", "wide"]
"""How the lens may bend: not at all; by k1, k2, p1, p2; for wide lenses by k3 too (OpenCV's names)."""

LEAST_VIEWS = 4
"""Two would do in theory; with so few, an error cannot be seen."""

POOR_ERROR = 0.001
"""Of the picture's longer side: a poor reprojection error, 0.64 px at 640x480."""

POOR_COVERAGE = 0.5

POOR_FOCAL = 0.01
"""Of the focal length: a standard deviation above it is poor."""

_FLAGS = {
    "none": cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3 | cv2.CALIB_ZERO_TANGENT_DIST,
    "usual": cv2.CALIB_FIX_K3,
    "wide": 0,
}
_COUNTS = {"none": 0, "usual": 4, "wide": 5}


class Solution(NamedTuple):
    """The camera, and what to say of it."""

    intrinsics: Intrinsics
    errors_px: dict[str, float]  # by view, root mean square
    dropped: dict[str, float]  # views that did not fit the others, with the error for which they were left out
    fx_sigma_px: float  # standard deviation of the focal length
    warnings: list[str]


class _Fit(NamedTuple):
    rms_px: float
    K: np.ndarray  # (3, 3)
    bends: np.ndarray
    errors_px: np.ndarray  # (views,)
    fx_sigma_px: float


def solve(views: Views, bend: Bend = "usual") -> Solution:
    """The camera that saw the kept views (Zhang 2000, as OpenCV's `calibrateCamera` has it).

    Views that fit much worse than the others are left out, once. Raises LensError with too few views, or
    with views that determine no camera.
    """
    kept, dropped = views.kept, {}
    fit = _fit(views, kept, bend)
    bad = _misfits(fit.errors_px)
    if bad.any() and (~bad).sum() >= LEAST_VIEWS:
        dropped = {view.name: float(error) for view, error, out in zip(kept, fit.errors_px, bad, strict=True) if out}
        kept = [view for view, out in zip(kept, bad, strict=True) if not out]
        fit = _fit(views, kept, bend)
    camera = Camera(*(float(fit.K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2))), views.width, views.height)
    bends = tuple(float(number) for number in fit.bends.ravel()[: _COUNTS[bend]])
    found = Intrinsics(camera, bends, fit.rms_px, date.today().isoformat())
    errors_px = {view.name: float(error) for view, error in zip(kept, fit.errors_px, strict=True)}
    return Solution(found, errors_px, dropped, fit.fx_sigma_px, _warnings(found, fit.fx_sigma_px, views))


def _fit(views: Views, kept: list[View], bend: Bend) -> _Fit:
    if len(kept) < LEAST_VIEWS:
        raise LensError(f"a calibration needs {LEAST_VIEWS} different views of the board, better 15; got {len(kept)}")
    board: Board = views.board
    seen = [view.corners_px.reshape(-1, 1, 2).astype(np.float32) for view in kept]
    size = (views.width, views.height)
    try:
        rms, K, bends, _, _, sigmas, _, errors = cv2.calibrateCameraExtended(
            [board.points_m] * len(kept), seen, size, None, None, flags=_FLAGS[bend]
        )
    except cv2.error as error:
        raise LensError(f"these views determine no camera ({error.err}): {_REMEDY}") from error
    if not np.isfinite(K).all() or K[0, 0] <= 0:
        raise LensError(f"these views determine no camera: {_REMEDY}")
    return _Fit(float(rms), K, bends, errors.ravel(), float(sigmas.ravel()[0]))


_REMEDY = "tilt the board about both of its axes and show it near and far, in all parts of the picture"


def _misfits(errors_px: np.ndarray) -> np.ndarray:
    """(views,) bool, those with an error out of all proportion: blurred, or with a corner mistaken."""
    return errors_px > np.maximum(0.5, 3 * np.median(errors_px))


def _warnings(found: Intrinsics, fx_sigma_px: float, views: Views) -> list[str]:
    """What the user should know before trusting the camera, a line each."""
    camera, warnings = found.camera, []
    if found.error_px > POOR_ERROR * max(camera.width, camera.height):
        warnings.append(
            f"the reprojection error of {found.error_px:.2f} px is poor: is the board flat, the focus fixed, "
            "and nothing blurred?"
        )
    if sum(views.tilted) < 2:  # the standard deviation does not tell: the fit may rest in a wrong place
        warnings.append(f"the views are too alike, the focal length may be wrong by any factor: {_REMEDY}")
    elif fx_sigma_px > POOR_FOCAL * camera.fx:
        percent = 100 * fx_sigma_px / camera.fx
        warnings.append(f"the focal length is known to +-{percent:.1f} % only, the views are too alike: {_REMEDY}")
    if views.coverage < POOR_COVERAGE:
        warnings.append(f"the board covered {views.coverage:.0%} of the picture; beyond that, the bending is a guess")
    if not unbends(found):
        warnings.append("the bending found is impossible towards the picture's rim: show the board there")
    return warnings


def unbends(found: Intrinsics) -> bool:
    """Whether the distortion can be undone all over the picture, which a polynomial that folds cannot."""
    camera, bends = found.camera, np.array(found.distortion or (0.0,) * 4)
    across, down = np.linspace(0, camera.width - 1, 9), np.linspace(0, camera.height - 1, 9)
    pixels = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 1, 2)
    rays = cv2.undistortPoints(pixels, camera.K, bends)
    rays = np.concatenate([rays[:, 0], np.ones((len(rays), 1))], axis=1)
    back = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera.K, bends)[0]
    return bool(np.abs(back - pixels).max() < 1.0)
