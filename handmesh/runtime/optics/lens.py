"""What takes the pictures: a camera that was measured, or one of which a field of view is told or assumed."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from handmesh.runtime.optics.exif import fov_deg_of
from handmesh.runtime.optics.intrinsics import Intrinsics, LensError, scaled_camera
from handmesh.runtime.optics.intrinsics_files import read_intrinsics
from handmesh.structs import Camera

__all__ = ["USUAL_FOV_DEG", "HandSize", "Lens", "LensError", "chosen_lens"]

USUAL_FOV_DEG = 60.0
"""Assumed where nothing is known: in the middle of what webcams have."""

HandSize = Literal["unknown", "given", "calibrated"]
"""What is known of the hand's size: nothing, its length, or what was measured through this lens at a known distance."""

_KEPT_MAPS = 4


class Lens:
    """Gives the `Camera` of pictures of any size, and straightens pictures that the lens has bent."""

    def __init__(self, fov_deg: float, intrinsics: Intrinsics | None, origin: str) -> None:
        """Use `from_fov` or `from_file`."""
        self._fov_deg, self._intrinsics, self._origin = fov_deg, intrinsics, origin
        self._maps: OrderedDict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = OrderedDict()

    @staticmethod
    def from_fov(fov_deg: float = USUAL_FOV_DEG, told_by: str = "") -> Lens:
        """A lens without distortion whose pictures' longer side spans `fov_deg` degrees.

        told_by: who says so ('--fov-deg', 'EXIF'); empty where it is assumed. Raises ValueError for an
        impossible angle.
        """
        Camera.from_fov(2, 2, fov_deg)
        return Lens(fov_deg, None, told_by)

    @staticmethod
    def from_file(path: str | Path) -> Lens:
        """The lens in a file (see `read_intrinsics`). Raises LensError, with one line that names the file."""
        return Lens.measured(read_intrinsics(Path(path)), Path(path).name)

    @staticmethod
    def measured(intrinsics: Intrinsics, origin: str = "calibration") -> Lens:
        """The lens that a calibration gave."""
        return Lens(0.0, intrinsics, origin)

    @property
    def known(self) -> bool:
        """Whether the camera is measured or told, not assumed."""
        return bool(self._intrinsics or self._origin)

    def camera_for(self, width: int, height: int) -> Camera:
        """The camera of pictures of this size, once they are `rectified`.

        Raises LensError for pictures of another shape than those that the camera was calibrated with.
        """
        if self._intrinsics is None:
            return Camera.from_fov(width, height, self._fov_deg)
        return scaled_camera(self._intrinsics.camera, width, height)

    def rectified(self, image_rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) as the pinhole camera of `camera_for` would have seen it; the same array where nothing is bent.

        Beyond what the lens saw it is black. Raises LensError as `camera_for` does.
        """
        if self._intrinsics is None or not self._intrinsics.bent:
            return image_rgb
        return cv2.remap(image_rgb, *self._maps_for(image_rgb.shape[1], image_rgb.shape[0]), cv2.INTER_LINEAR)

    def _maps_for(self, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each rectified pixel comes from, in OpenCV's fixed-point form, made once for a size."""
        size = (width, height)
        if size not in self._maps:
            K, bends = self.camera_for(width, height).K, np.array(self._intrinsics.distortion)
            self._maps[size] = cv2.initUndistortRectifyMap(K, bends, None, K, size, cv2.CV_16SC2)
            while len(self._maps) > _KEPT_MAPS:
                self._maps.popitem(last=False)
        return self._maps[size]

    def describe(self, hand_size: HandSize = "unknown") -> str:
        """One line: which camera is used, and what of the result is in true metres."""
        return f"{self._camera_line()}: {_metric_line(self.known, hand_size)}"

    def _camera_line(self) -> str:
        if self._intrinsics is None:
            return f"field of view of {self._fov_deg:.3g} degrees " + (
                f"({self._origin})" if self._origin else "assumed"
            )
        found, camera = self._intrinsics, self._intrinsics.camera
        error = "" if found.error_px is None else f", reprojection error {found.error_px:.2f} px"
        date = f", {found.date}" if found.date else ""
        return (
            f"camera of {self._origin} (focal length {camera.fx:.0f} px at {camera.width}x{camera.height}{error}{date})"
        )


def _metric_line(known: bool, hand_size: HandSize) -> str:
    """What of the result is in true metres.

    A size seen through a focal length that is wrong by a factor gives a distance that is wrong by that
    factor. Measured at a known distance, the size takes up the factor and the distance is free of it.
    """
    if hand_size == "unknown":
        return "sizes and distances are up to scale" + (", that of a usual hand" if known else "")
    if known:
        return "sizes and distances are in metres"
    if hand_size == "given":
        return "sizes are as given, distances are up to scale"
    return "distances are in metres, sizes are up to scale"


def chosen_lens(intrinsics: Path | None, fov_deg: float | None, photo: Path | None = None) -> Lens:
    """The lens that options describe; without any, what a photograph's file says of it, or a usual one.

    Raises LensError for a camera file that cannot be read, ValueError for an impossible field of view or two lenses.
    """
    if intrinsics and fov_deg is not None:
        raise ValueError("--intrinsics says more than --fov-deg: give one of them")
    if intrinsics:
        return Lens.from_file(intrinsics)
    if fov_deg is not None:
        return Lens.from_fov(fov_deg, "--fov-deg")
    exif_deg = fov_deg_of(photo) if photo else None
    return Lens.from_fov() if exif_deg is None else Lens.from_fov(exif_deg, "of the focal length in its EXIF")
